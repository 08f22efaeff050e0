/** A service mesh of some size: 1,000 services and 10,000 endpoints in c2, imported in c1. */
import {
  deployments,
  endpointOffers,
  endpointSlices,
  type KubeObject,
  namespaces,
  type Resource,
  serviceExports,
  serviceImports,
  serviceOffers,
  services,
  systemNamespace,
} from "../../src/api/index.ts";
import type { KubeClient } from "../../src/kube/index.ts";
import { clusterProcess, memoryOf, processesOf, residentOf } from "../support/processes.ts";
import type { Report } from "./figures.ts";
import { type Home, labHome } from "./lab.ts";
import {
  isControlPlane,
  monotonic,
  type Observer,
  observeNode,
  type Plane,
  type PlaneState,
  planeOf,
  poll,
} from "./observe.ts";
import { callers, endpointsEach, inParallel, populate, serviceCount, sliceOf } from "./population.ts";

interface Scale extends AsyncDisposable {
  home: Home;
  c1: KubeClient;
  c2: KubeClient;
  observers: Record<"c1" | "c2", Observer>;
}

/** A lab in which c2 has the services and exports them while no control plane runs. */
async function atScale(report: Report): Promise<Scale> {
  const home = labHome();
  await home.weft("up");
  const c1 = home.client("c1");
  const c2 = home.client("c2");
  for (const client of [c1, c2]) await runPlane(client, 0);
  report.step(`${serviceCount} services, ${serviceCount * endpointsEach} endpoints, ${serviceCount} exports`);
  for (const client of [c1, c2]) await client.create(namespaces, { metadata: { name: "scale" } });
  const began = monotonic();
  await populate(c2);
  await inParallel(serviceCount, callers, async (i) => {
    await c2.create(serviceExports, { metadata: { namespace: "scale", name: `s${i}` } });
  });
  report.step(`made in ${((monotonic() - began) / 1000).toFixed(1)} s`);
  const observers = {
    c1: observeNode(home.lab, "c1-control-plane"),
    c2: observeNode(home.lab, "c2-control-plane"),
  };
  return {
    home,
    c1,
    c2,
    observers,
    async [Symbol.asyncDispose]() {
      for (const observer of Object.values(observers)) observer[Symbol.dispose]();
      await home[Symbol.asyncDispose]();
    },
  };
}

/** Everything of c2 has come to where it is wanted. */
const complete = ({ collections }: PlaneState) =>
  collections.importsInApi === serviceCount && collections.slices === serviceCount;

/** Starts both control planes; resolves with them when nothing is left to do, and the milliseconds that took. */
async function startPlanes(scale: Scale): Promise<{ planes: Record<"c1" | "c2", Plane>; cold: number }> {
  const began = monotonic();
  await Promise.all([runPlane(scale.c1, 1), runPlane(scale.c2, 1)]);
  const [c1, c2] = await Promise.all([
    planeOf(scale.c1, scale.observers.c1),
    planeOf(scale.c2, scale.observers.c2),
  ]);
  await Promise.all([c1.settled(complete), c2.settled(complete)]);
  return { planes: { c1, c2 }, cold: monotonic() - began };
}

async function runPlane(client: KubeClient, replicas: number): Promise<void> {
  const ref = { namespace: systemNamespace, name: "weft" };
  await client.patch(deployments, ref, { spec: { replicas } });
  if (replicas > 0) return;
  await poll(async () => {
    const found = await client.get(deployments, ref);
    return !found?.status?.replicas;
  }, "the control plane's end");
}

/** A slice of c2 changes → the rule is in the kernel of c1's node. */
export async function propagation(report: Report): Promise<void> {
  await using scale = await atScale(report);
  report.step("control planes start");
  const { planes } = await startPlanes(scale);
  const { c2, observers } = scale;
  const before = await bothStates(planes);
  const changes = 200;
  const took: number[] = [];
  report.step(`${changes} changes, one after the other`);
  for (let n = 0; n < changes; n++) {
    const i = (n * 7) % serviceCount;
    const address = `10.12.${1 + Math.floor(n / 250)}.${1 + (n % 250)}`;
    const seen = observers.c1.sees(`${address} `);
    const began = monotonic();
    await c2.patch(
      endpointSlices,
      { namespace: "scale", name: `s${i}-1` },
      { endpoints: sliceOf(i, address).endpoints },
    );
    took.push((await seen) - began);
    if (n % 10 === 9) await Promise.all([planes.c1.settled(), planes.c2.settled()]);
  }
  await Promise.all([planes.c1.settled(), planes.c2.settled()]);
  const after = await bothStates(planes);
  report.spread("slice changed in c2 → rule in c1's kernel", took, "ms", { p50: 20, p99: 100 });
  for (const cluster of ["c1", "c2"] as const) {
    const per = (of: (state: PlaneState) => number) => (of(after[cluster]) - of(before[cluster])) / changes;
    report.figure(
      `keys evaluated per change in ${cluster}`,
      per(({ engine }) => engine.evaluated),
      "",
      { limit: 20 },
    );
    report.figure(`API writes per change in ${cluster}`, per(planes[cluster].writes), "", { limit: 2 });
  }
}

async function bothStates(planes: Record<"c1" | "c2", Plane>): Promise<Record<"c1" | "c2", PlaneState>> {
  const [c1, c2] = await Promise.all([planes.c1.settled(), planes.c2.settled()]);
  return { c1, c2 };
}

/** How the control plane of the importing cluster starts, and what it holds. */
export async function controlPlane(report: Report): Promise<void> {
  await using scale = await atScale(report);
  report.step("cold start: nothing is offered and imported yet");
  const { planes, cold } = await startPlanes(scale);
  report.figure("cold start of both clusters until settled, pods included", cold / 1000, "s");
  for (const cluster of ["c1", "c2"] as const) {
    const state = await planes[cluster].settled();
    const resident = residentOf(planeProcess(scale.home.lab, cluster));
    report.figure(`resident in ${cluster}, after the cold start`, resident / 1e6, "MB", {
      limit: 250,
      note: heapUsed(state),
    });
  }
  // Once each: whoever dies again soon is made to wait by the kubelet.
  for (const cluster of ["c1", "c2"] as const) {
    const client = scale[cluster];
    const versions = await writtenVersions(client);
    const began = monotonic();
    process.kill(planeProcess(scale.home.lab, cluster), "SIGKILL");
    await poll(async () => (await planes[cluster].state()) === undefined, "its end");
    const answers = poll(async () => (await planes[cluster].state()) !== undefined, "its start").then(
      monotonic,
    );
    const state = await planes[cluster].settled(complete);
    const took = (monotonic() - began) / 1000;
    report.figure(`warm restart of ${cluster}, killed until settled`, took, "s", { limit: 3 });
    report.figure("  after: it answers", ((await answers) - began) / 1000, "s");
    const resident = residentOf(planeProcess(scale.home.lab, cluster));
    report.figure("  resident", resident / 1e6, "MB", { limit: 250, note: heapUsed(state) });
    report.figure("  API writes that it counted", planes[cluster].writes(state), "", { limit: 0 });
    const now = await writtenVersions(client);
    const written = Object.keys(now).filter((kind) => now[kind] !== versions[kind]);
    report.figure("  kinds that the API says were written", written.length, "", {
      limit: 0,
      note: written.join(", "),
    });
  }
  for (const cluster of ["c1", "c2"] as const) {
    const pid = clusterProcess(scale.home.lab, cluster)!.pid;
    report.figure(`API server and controllers of ${cluster}, resident`, residentOf(pid) / 1e6, "MB");
  }
  const all = processesOf(scale.home.lab).reduce((sum, { pid }) => sum + memoryOf(pid), 0);
  report.figure("the whole lab at this size, PSS", all / 1e6, "MB");
}

const heapUsed = ({ memory }: PlaneState) => `heap used ${(memory.heapUsed / 1e6).toFixed(0)} MB`;

/** The highest resourceVersion of each kind that the control plane writes. */
async function writtenVersions(client: KubeClient): Promise<Record<string, number>> {
  const kinds = [serviceOffers, endpointOffers, serviceImports, serviceExports, services, endpointSlices];
  const highest = async (resource: Resource<KubeObject>) => {
    const { items } = await client.list(resource, { namespace: "scale" });
    return [
      resource.plural,
      Math.max(0, ...items.map(({ metadata }) => Number(metadata.resourceVersion))),
    ] as const;
  };
  return Object.fromEntries(await Promise.all(kinds.map((kind) => highest(kind as Resource<KubeObject>))));
}

/** The process of a cluster's control plane, by the directory of the node that runs it. */
function planeProcess(labDir: string, cluster: string): number {
  const all = processesOf(labDir);
  const byPid = new Map(all.map((each) => [each.pid, each]));
  const found = all.find((each) => {
    if (!isControlPlane(each.command.join(" "))) return false;
    if (each.command[0]?.endsWith("sh") || each.command[0] === "unshare") return false;
    for (let at = byPid.get(each.parent); at; at = byPid.get(at.parent)) {
      if (at.command.join(" ").includes(`/${cluster}/nodes/`)) return true;
    }
    return false;
  });
  if (!found) throw new Error(`no process of the control plane of ${cluster}`);
  return found.pid;
}
