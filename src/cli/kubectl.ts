/**
 * The few things that kubectl does which the tour shows. The tour must run where kubectl is not installed, so
 * it asks the API server itself, with the requests that kubectl would send, and prints what comes back: tables
 * are rendered by the server, as for kubectl.
 */
import { readFileSync } from "node:fs";
import { parseAllDocuments } from "yaml";
import {
  deployments,
  destinationRules,
  gateways,
  type KubeObject,
  namespaces,
  pathOf,
  pods,
  type Resource,
  serviceExports,
  serviceMeshControlPlanes,
  serviceMeshMemberRolls,
  services,
  virtualServices,
} from "../api/index.ts";
import type { KubeClient } from "../kube/index.ts";
import { sleep } from "../world/index.ts";
import { table as renderTable } from "./table.ts";

const byKind: Record<string, Resource> = Object.fromEntries(
  [
    ...[namespaces, deployments, services, serviceExports],
    ...[serviceMeshControlPlanes, serviceMeshMemberRolls, gateways, virtualServices, destinationRules],
  ].map((resource) => [resource.kind, resource]),
);

/** `deployment.apps/serve`, as kubectl calls an object when it says what it did. */
function calledAs(resource: Resource, name: string): string {
  const kind = resource.kind.toLowerCase();
  return `${resource.group === "" ? kind : `${kind}.${resource.group}`}/${name}`;
}

/**
 * Applies every object of the files, in `namespace` where they name none; says `… created` or `… configured` for each.
 */
export async function applyFiles(client: KubeClient, files: string[], namespace?: string): Promise<string> {
  let said = "";
  for (const file of files) {
    for (const document of parseAllDocuments(readFileSync(file, "utf8"))) {
      const object = document.toJS() as KubeObject;
      said += await applyObject(client, {
        ...object,
        metadata: { ...(namespace && { namespace }), ...object.metadata },
      });
    }
  }
  return said;
}

/** Applies one object. */
export async function applyObject(client: KubeClient, object: KubeObject): Promise<string> {
  const kind = byKind[object.kind];
  if (!kind) throw new Error(`the tour does not know the kind ${object.kind}`);
  // In the version that the file is written in.
  const resource = { ...kind, version: object.apiVersion.split("/").at(-1)! };
  const before = await client.get(resource, object.metadata);
  const after = await client.apply(resource, object, { manager: "weft-tour", force: true });
  const unchanged = before?.metadata.resourceVersion === after.metadata.resourceVersion;
  const did = before === undefined ? "created" : unchanged ? "unchanged" : "configured";
  return `${calledAs(resource, object.metadata.name)} ${did}\n`;
}

interface Table {
  columnDefinitions: { name: string; priority: number }[];
  rows: { cells: unknown[] }[];
}

/** What `kubectl get` prints for a kind in a namespace. */
export async function getTable(
  client: KubeClient,
  resource: Resource,
  namespace: string,
  options: { labelSelector?: string; name?: string } = {},
): Promise<{ text: string; rows: number }> {
  const query = options.labelSelector ? `?labelSelector=${encodeURIComponent(options.labelSelector)}` : "";
  const table = await client.json<Table>("GET", `${pathOf(resource, namespace, options.name)}${query}`, {
    headers: { accept: "application/json;as=Table;v=v1;g=meta.k8s.io" },
  });
  const shown = table.columnDefinitions.flatMap((column, i) => (column.priority === 0 ? [i] : []));
  const header = shown.map((i) => table.columnDefinitions[i]!.name.toUpperCase());
  const rows = table.rows.map((row) => shown.map((i) => String(row.cells[i] ?? "<none>")));
  return { text: `${renderTable(header, rows)}\n`, rows: rows.length };
}

/** `kubectl rollout status`: resolves when every replica is available. */
export async function rolledOut(client: KubeClient, ref: string, signal: AbortSignal): Promise<string> {
  for (;;) {
    const deployment = await client.get(deployments, ref);
    const { status, spec } = deployment ?? {};
    if (status?.availableReplicas === (spec?.replicas ?? 1)) {
      return `deployment "${deployment!.metadata.name}" successfully rolled out\n`;
    }
    await sleep(client.world, 100, signal);
  }
}

/**
 * `kubectl run -i --rm --restart=Never`: starts a pod of one container, hands over what it prints as it prints
 * it, and deletes the pod when it is done.
 */
export async function runPod(
  client: KubeClient,
  pod: { namespace: string; name: string; image: string; args: string[] },
  print: (text: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const ref = { namespace: pod.namespace, name: pod.name };
  await client.create(pods, {
    metadata: ref,
    spec: { restartPolicy: "Never", containers: [{ name: pod.name, image: pod.image, args: pod.args }] },
  });
  try {
    for (;;) {
      const current = await client.get(pods, ref);
      const state = current?.status?.containerStatuses?.[0]?.state;
      if (state?.running || state?.terminated) break;
      await sleep(client.world, 50, signal);
    }
    const logs = await client.request({
      method: "GET",
      path: `${pathOf(pods, pod.namespace, pod.name, "log")}?follow=true`,
      signal,
    });
    const decoder = new TextDecoder();
    for await (const chunk of logs.body) print(decoder.decode(chunk, { stream: true }));
  } finally {
    await client.delete(pods, ref, { gracePeriodSeconds: 1 });
  }
  print(`pod "${pod.name}" deleted\n`);
}
