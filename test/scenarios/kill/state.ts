/** Whether a lab is in the state that was asked for: what the API says, what runs, and who answers. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import {
  deployments,
  type EndpointSlice,
  endpointOffers,
  endpointSlices,
  type KubeObject,
  mcsServiceNameLabel,
  mcsSourceClusterLabel,
  type Pod,
  pods,
  serviceExports,
  serviceImports,
  serviceNameLabel,
  serviceOffers,
  services,
} from "../../../src/api/index.ts";
import type { KubeClient } from "../../../src/kube/index.ts";
import { derivedName } from "../../../src/services/index.ts";
import { firstProcess, processesOf } from "../../support/processes.ts";

export const namespace = "demo";

/** What people asked for in one cluster, by service. */
export type Wanted = Map<string, { replicas: number; exported: boolean }>;

export interface Cluster {
  name: string;
  node: string;
  client: KubeClient;
  wanted: Wanted;
}

/** What a cluster's API has in the namespace, and its pods everywhere. */
interface Found {
  pods: Pod[];
  slices: EndpointSlice[];
  problems: string[];
}

/** Everything that is not as it should be in the clusters' APIs, in words; nothing when all is well. */
export async function problemsInApis(clusters: readonly Cluster[]): Promise<string[]> {
  const found = new Map<string, Found>();
  await Promise.all(
    clusters.map(async (cluster) => {
      found.set(cluster.name, await workloads(cluster));
    }),
  );
  const across = await Promise.all(clusters.map((cluster) => imports(cluster, clusters, found)));
  return [...[...found.values()].flatMap(({ problems }) => problems), ...across.flat()];
}

/** Deployments, pods and a cluster's own slices. */
async function workloads({ name, client, wanted }: Cluster): Promise<Found> {
  const [deployed, allPods, slices, offered, endpointsOffered, exported] = await Promise.all([
    client.list(deployments, { namespace }),
    client.list(pods),
    client.list(endpointSlices, { namespace }),
    client.list(serviceOffers, { namespace }),
    client.list(endpointOffers, { namespace }),
    client.list(serviceExports, { namespace }),
  ]);
  const problems: string[] = [];
  const check = (good: boolean, problem: string) => {
    if (!good) problems.push(`${name}: ${problem}`);
  };
  for (const [service, { replicas }] of wanted) {
    const deployment = deployed.items.find(({ metadata }) => metadata.name === service);
    const { readyReplicas = 0, replicas: has = 0, updatedReplicas = 0 } = deployment?.status ?? {};
    check(
      readyReplicas === replicas && has === replicas && updatedReplicas === replicas,
      `${service} has ${readyReplicas} ready of ${has} replicas, ${replicas} wanted`,
    );
    const own = podsOf(allPods.items, service);
    check(
      own.length === replicas && own.every(isReady),
      `pods of ${service}: ${own.map((pod) => `${pod.metadata.name} ${stateOf(pod)}`).join(", ") || "none"}`,
    );
    const here = slices.items.filter(({ metadata }) => metadata.labels?.[serviceNameLabel] === service);
    const addresses = addressesOf(here);
    check(
      addresses === addressesOfPods(own),
      `slices of ${service} have ${addresses}, its pods ${addressesOfPods(own)}`,
    );
  }
  for (const pod of allPods.items) check(isReady(pod), `pod ${pod.metadata.name} is ${stateOf(pod)}`);
  const exports = [...wanted].filter(([, { exported }]) => exported).map(([service]) => service);
  check(
    namesOf(offered.items) === exports.sort().join(),
    `offers ${namesOf(offered.items)}, exports ${exports}`,
  );
  for (const service of exports) {
    const conditions =
      exported.items.find(({ metadata }) => metadata.name === service)?.status?.conditions ?? [];
    const said = conditions
      .map(({ type, status }) => `${type}=${status}`)
      .sort()
      .join();
    check(said === "Conflict=False,Ready=True,Valid=True", `conditions of the export ${service}: ${said}`);
    const addresses = endpointsOffered.items
      .filter(({ spec }) => spec.service === service)
      .flatMap(({ spec }) => spec.endpoints.filter(({ ready }) => ready).flatMap((each) => each.addresses));
    const own = addressesOfPods(podsOf(allPods.items, service));
    check(addresses.sort().join() === own, `offers of ${service} have ${addresses}, its pods ${own}`);
  }
  return { pods: allPods.items, slices: slices.items, problems };
}

/** What a cluster has of the services of all. */
async function imports(
  { name, client }: Cluster,
  clusters: readonly Cluster[],
  found: ReadonlyMap<string, Found>,
): Promise<string[]> {
  const [imported, allServices] = await Promise.all([
    client.list(serviceImports, { namespace }),
    client.list(services, { namespace }),
  ]);
  const problems: string[] = [];
  const check = (good: boolean, problem: string) => {
    if (!good) problems.push(`${name}: ${problem}`);
  };
  const exported = exportsOf(clusters);
  const right = [...exported.keys()].sort().join();
  check(namesOf(imported.items) === right, `imports ${namesOf(imported.items)}, exported are ${right}`);
  const derived = allServices.items.filter(({ metadata }) => metadata.name.startsWith("derived-"));
  const derivedRight = [...exported.keys()]
    .map((service) => derivedName({ namespace, name: service }))
    .sort();
  check(
    namesOf(derived) === derivedRight.join(),
    `derived Services ${namesOf(derived)}, should be ${derivedRight}`,
  );
  const own = found.get(name)!.slices;
  const known = new Set<EndpointSlice>();
  for (const [service, exporters] of exported) {
    const object = imported.items.find(({ metadata }) => metadata.name === service);
    const clustersOf = object?.status?.clusters
      ?.map(({ cluster }) => cluster)
      .sort()
      .join();
    check(
      clustersOf === exporters.join(),
      `import ${service} is of ${clustersOf}, should be of ${exporters}`,
    );
    const address = derived.find(
      ({ metadata }) => metadata.name === derivedName({ namespace, name: service }),
    )?.spec?.clusterIP;
    check(
      address !== undefined && object?.spec.ips?.join() === address,
      `import ${service} has ${object?.spec.ips}, its derived Service ${address}`,
    );
    for (const exporter of exporters) {
      const slices = own.filter(
        ({ metadata: { labels } }) =>
          labels?.[mcsServiceNameLabel] === service && labels[mcsSourceClusterLabel] === exporter,
      );
      for (const slice of slices) known.add(slice);
      const addresses = addressesOf(slices);
      const there = addressesOfPods(podsOf(found.get(exporter)!.pods, service));
      check(
        addresses === there,
        `slices of ${service} from ${exporter} have ${addresses}, its pods ${there}`,
      );
    }
  }
  for (const slice of own) {
    if (slice.metadata.labels?.[mcsServiceNameLabel] && !known.has(slice)) {
      check(false, `slice ${slice.metadata.name} belongs to nothing that is exported`);
    }
  }
  return problems;
}

/** The exported services with the clusters that export them, sorted. */
export function exportsOf(clusters: readonly Cluster[]): Map<string, string[]> {
  const all = new Map<string, string[]>();
  for (const { name, wanted } of clusters) {
    for (const [service, { exported }] of wanted) {
      if (exported) all.set(service, [...(all.get(service) ?? []), name].sort());
    }
  }
  return all;
}

/** What runs and no API knows of, or the other way round: containers and network namespaces. */
export async function problemsOnNodes(labDir: string, clusters: readonly Cluster[]): Promise<string[]> {
  const problems: string[] = [];
  const uids: string[] = [];
  const running = processesOf(labDir);
  for (const { name, node, client } of clusters) {
    const { items } = await client.list(pods);
    uids.push(...items.map(({ metadata }) => metadata.uid!));
    const known = items
      .flatMap(({ status }) => status?.containerStatuses ?? [])
      .filter(({ state }) => state?.running)
      .map(({ containerID = "" }) => containerID.slice(containerID.indexOf("//") + 2));
    const place = join(labDir, name, "nodes", node, "run/containers/");
    const found = new Set(
      running.flatMap(({ command }) =>
        command
          .filter((word) => word.startsWith(place))
          .map((word) => word.slice(place.length).split("/")[0]!),
      ),
    );
    for (const id of found)
      if (!known.includes(id)) problems.push(`${node}: container ${id} runs and no pod has it`);
    for (const id of known)
      if (!found.has(id)) problems.push(`${node}: container ${id} does not run and a pod has it`);
  }
  const namespaces = readdirSync(`/proc/${firstProcess(labDir)}/root/run/netns`)
    .filter((each) => each.startsWith("pod_"))
    .map((each) => each.slice(4));
  for (const uid of namespaces)
    if (!uids.includes(uid)) problems.push(`a network namespace of no pod: ${uid}`);
  return problems;
}

/** Restarts by container, of all pods: `cluster/namespace/pod uid container`. */
export async function restartsOf(clusters: readonly Cluster[]): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  for (const { name, client } of clusters) {
    for (const { metadata, status } of (await client.list(pods)).items) {
      for (const container of status?.containerStatuses ?? []) {
        counts.set(`${name}/${metadata.name} ${metadata.uid}`, container.restartCount);
      }
    }
  }
  return counts;
}

export function podsOf(all: readonly Pod[], service: string): Pod[] {
  return all.filter(({ metadata }) => metadata.namespace === namespace && metadata.labels?.app === service);
}

export function isReady(pod: Pod): boolean {
  if (pod.metadata.deletionTimestamp) return false;
  return pod.status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True") ?? false;
}

function stateOf({ metadata, status }: Pod): string {
  if (metadata.deletionTimestamp) return "Terminating";
  const waiting = status?.containerStatuses?.find(({ state }) => state?.waiting)?.state?.waiting?.reason;
  return (
    waiting ??
    (status?.conditions?.find(({ type }) => type === "Ready")?.status === "True"
      ? "Ready"
      : `${status?.phase}`)
  );
}

const namesOf = (objects: readonly KubeObject[]) =>
  objects
    .map(({ metadata }) => metadata.name)
    .sort()
    .join();

const addressesOfPods = (of: readonly Pod[]) =>
  of
    .map(({ status }) => status?.podIP ?? "?")
    .sort()
    .join();

const addressesOf = (slices: readonly EndpointSlice[]) =>
  slices
    .flatMap(({ endpoints }) => endpoints ?? [])
    .filter(({ conditions }) => conditions?.ready)
    .flatMap(({ addresses }) => addresses)
    .sort()
    .join();
