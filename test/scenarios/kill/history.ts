/** What happens to a lab: changes that people make, and processes that are killed meanwhile. */
import { readlinkSync } from "node:fs";
import {
  type Deployment,
  deployments,
  type KubeObject,
  namespaces,
  pods,
  type Service,
  serviceExports,
  services,
  WeftError,
} from "../../../src/api/index.ts";
import { ApiError, type Draft, type KubeClient } from "../../../src/kube/index.ts";
import { askLab, LabState } from "../../../src/lab/index.ts";
import { type LabProcess, processesOf } from "../../support/processes.ts";
import { type Cluster, isReady, namespace } from "./state.ts";

/** From 0 to 1, seeded. */
export type Random = () => number;
const pick = <T>(random: Random, of: readonly T[]): T => of[Math.floor(random() * of.length)]!;

/** The most that a cluster is asked to run: small, so that a round is quick on two cores. */
const serviceNames = ["a", "b", "c"];
const mostReplicas = 3;

/** Writes are tried again while the API server is away: it may be the one that was killed. */
async function insist<T>(write: () => Promise<T>): Promise<T> {
  for (const end = performance.now() + 30_000; ; ) {
    try {
      return await write();
    } catch (error) {
      const away = error instanceof WeftError && error.code === "API_UNREACHABLE";
      const soon = error instanceof ApiError && (error.status.code ?? 0) >= 429;
      if ((!away && !soon) || performance.now() > end) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function apply<T extends KubeObject>(
  client: KubeClient,
  resource: Parameters<typeof client.apply<T>>[0],
  object: Draft<T>,
): Promise<void> {
  await insist(() => client.apply(resource, object, { manager: "person", force: true }));
}

const metadata = (name: string) => ({ namespace, name });

export async function makeNamespace({ client }: Cluster): Promise<void> {
  await apply(client, namespaces, { metadata: { name: namespace } });
}

/** Makes a service with its Deployment, or scales it. */
export async function setReplicas(cluster: Cluster, service: string, replicas: number): Promise<void> {
  const { client, wanted } = cluster;
  wanted.set(service, { exported: false, ...wanted.get(service), replicas });
  const labels = { app: service };
  const deployment: Draft<Deployment> = {
    metadata: metadata(service),
    spec: {
      replicas,
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: {
          terminationGracePeriodSeconds: 2,
          containers: [
            {
              name: "serve",
              image: "jeremyot/serve:0a40de8",
              args: ['--message={{env "HOSTNAME"}}'],
              readinessProbe: { tcpSocket: { port: 8080 }, periodSeconds: 1 },
            },
          ],
        },
      },
    },
  };
  const object: Draft<Service> = {
    metadata: metadata(service),
    spec: { selector: labels, ports: [{ port: 80, targetPort: 8080 }] },
  };
  await Promise.all([apply(client, deployments, deployment), apply(client, services, object)]);
}

export async function setExported(cluster: Cluster, service: string, exported: boolean): Promise<void> {
  const { client, wanted } = cluster;
  wanted.set(service, { ...wanted.get(service)!, exported });
  if (exported) await apply(client, serviceExports, { metadata: metadata(service) });
  else await insist(() => client.delete(serviceExports, metadata(service)));
}

/** One change of a person's; says in words what it was, and waits until the API has it. */
export async function change(
  random: Random,
  clusters: readonly Cluster[],
  say: (text: string) => void,
): Promise<void> {
  const cluster = pick(random, clusters);
  const { name, client, wanted } = cluster;
  const missing = serviceNames.filter((service) => !wanted.has(service));
  const dice = random();
  if (missing.length > 0 && dice < 0.2) {
    const service = pick(random, missing);
    say(`${name}: new service ${service}, exported`);
    await setReplicas(cluster, service, 1);
    return setExported(cluster, service, true);
  }
  const service = pick(random, [...wanted.keys()]);
  if (dice < 0.5) {
    const replicas = Math.floor(random() * (mostReplicas + 1));
    say(`${name}: scale ${service} to ${replicas}`);
    return setReplicas(cluster, service, replicas);
  }
  if (dice < 0.8) {
    const exported = !wanted.get(service)!.exported;
    say(`${name}: ${exported ? "export" : "un-export"} ${service}`);
    return setExported(cluster, service, exported);
  }
  const { items } = await insist(() => client.list(pods, { namespace, labelSelector: `app=${service}` }));
  const pod = items[Math.floor(random() * items.length)];
  if (!pod) return;
  say(`${name}: delete pod ${pod.metadata.name}`);
  await insist(() => client.delete(pods, pod.metadata));
}

/** What was killed; `pod` when a restart of that pod's container is the right answer to it. */
export interface Killed {
  what: string;
  pod?: string;
}

const targets = ["API server", "node", "control plane", "application"] as const;

/** Chooses what to kill in this round; `kill` does it, whenever it is called. */
export function chooseVictim(
  random: Random,
  clusters: readonly Cluster[],
  labDir: string,
): { what: string; kill: () => Promise<Killed> } {
  const target = pick(random, targets);
  const { name, node, client } = pick(random, clusters);
  const which = random();
  const ofLab = async (process: string): Promise<Killed> => {
    const answer = await askLab(new LabState(labDir), { do: "kill", process });
    if ("error" in answer) throw new Error(answer.error);
    return { what: `the process ${process}` };
  };
  const ofPods = async (app: string, where: string): Promise<Killed> => {
    const { items } = await insist(() => client.list(pods, { namespace: where, labelSelector: app }));
    const alive = items.filter(isReady);
    const pod = alive[Math.floor(which * alive.length)];
    const id = pod?.status?.containerStatuses?.[0]?.containerID?.split("//")[1];
    const program = id && programOf(labDir, id);
    if (!program) return { what: "nothing: no pod was ready" };
    process.kill(program.pid, "SIGKILL");
    return {
      what: `${pod.metadata.name}: ${program.command.at(-1)}`,
      pod: `${name}/${pod.metadata.name} ${pod.metadata.uid}`,
    };
  };
  const what = `${target} of ${name}`;
  switch (target) {
    case "API server":
      return { what, kill: () => ofLab(name) };
    case "node":
      return { what, kill: () => ofLab(node) };
    case "control plane":
      return { what, kill: () => ofPods("app=weft", "weft-system") };
    case "application":
      return { what, kill: () => ofPods("app", namespace) };
  }
}

/** The first process inside a container: the one that is alone in having the container's pid namespace and no parent in it. */
function programOf(labDir: string, containerId: string): LabProcess | undefined {
  const all = processesOf(labDir);
  const shim = all.find(({ command }) => command.some((word) => word.endsWith(`/containers/${containerId}`)));
  if (!shim) return undefined;
  const outside = pidNamespace(shim.pid);
  for (let at: LabProcess | undefined = shim; at; ) {
    if (pidNamespace(at.pid) !== outside) return at;
    const pid: number = at.pid;
    at = all.find(({ parent }) => parent === pid);
  }
  return undefined;
}

function pidNamespace(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`);
  } catch {
    return undefined;
  }
}

/** Deletes the pods whose containers died: the kubelet would make them wait for 10 s and more the next time. */
export async function replaceRestarted(clusters: readonly Cluster[]): Promise<void> {
  for (const { client } of clusters) {
    for (const { metadata, status } of (await client.list(pods)).items) {
      if (!status?.containerStatuses?.some(({ restartCount }) => restartCount > 0)) continue;
      await insist(() => client.delete(pods, metadata));
    }
  }
}
