/** One cluster's process alone, as a lab runs it: the API server over HTTPS, its controllers beside it. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { configMaps, endpointSlices, namespaces } from "../../src/api/index.ts";
import { type Credentials, KubeClient, transportFor } from "../../src/kube/index.ts";
import { defaultCluster, LabState, writeKeys } from "../../src/lab/index.ts";
import { realWorld, timestamp } from "../../src/world/index.ts";
import { residentOf } from "../support/processes.ts";
import type { Report } from "./figures.ts";
import { monotonic } from "./observe.ts";
import { inParallel, populate, sliceOf } from "./population.ts";

const samples = 1_000;

export async function api(report: Report): Promise<void> {
  await using server = await startServer();
  report.figure("ready after", server.ready, "s");
  report.figure("resident, empty", residentOf(server.pid) / 1e6, "MB");
  const { client } = server;
  await client.create(namespaces, { metadata: { name: "scale" } });
  const namespace = "scale";
  const note = "each commit is in the operating system's hands, not synced to the disk";

  report.step(`${samples} creates and patches, one after the other`);
  const creates: number[] = [];
  const patches: number[] = [];
  const watched: number[] = [];
  const events = await watchSlices(client);
  for (let i = 0; i < samples; i++) {
    const slice = sliceOf(i);
    creates.push(await timed(() => client.create(endpointSlices, slice)));
  }
  await events.sees(`s${samples - 1}-1`, "");
  for (let i = 0; i < samples; i++) {
    const name = `s${i}-1`;
    const began = monotonic();
    const seen = events.sees(name, String(i));
    const annotations = { change: String(i) };
    await client.patch(endpointSlices, { namespace, name }, { metadata: { annotations } });
    patches.push(monotonic() - began);
    watched.push((await seen) - began);
  }
  events.stop();
  report.spread("create of a slice with 10 endpoints", creates, "ms");
  report.spread("patch", patches, "ms");
  report.spread("patch → watch event", watched, "ms");

  for (const callers of [8]) {
    report.step(`${callers} callers write at once`);
    const writes = 4_000;
    const began = monotonic();
    await inParallel(writes, callers, async (i) => {
      await client.create(configMaps, { metadata: { namespace, name: `m${i}` }, data: { key: "value" } });
    });
    const seconds = (monotonic() - began) / 1000;
    report.figure(`writes by ${callers} callers`, writes / seconds, "/s", { note });
  }
  for (const { metadata } of (await client.list(endpointSlices, { namespace })).items) {
    await client.delete(endpointSlices, metadata);
  }
  report.step("1,000 services, 10,000 endpoints");
  await populate(client);
  report.figure("resident at 1,000 services, 10,000 endpoints", residentOf(server.pid) / 1e6, "MB");
}

async function timed(act: () => Promise<unknown>): Promise<number> {
  const began = monotonic();
  await act();
  return monotonic() - began;
}

/** Watches slices; `sees` resolves with the time at which a slice came with this value of the annotation `change`. */
async function watchSlices(client: KubeClient) {
  const stop = new AbortController();
  const latest = new Map<string, string>();
  let waiting: { name: string; value: string; resolve: (at: number) => void } | undefined;
  const { resourceVersion } = await client.list(endpointSlices, { pageSize: 0 });
  const stream = await client.watch(endpointSlices, { resourceVersion, signal: stop.signal });
  const follow = async () => {
    for await (const batch of stream) {
      const at = monotonic();
      for (const event of batch) {
        if (event.type === "BOOKMARK" || event.type === "ERROR") continue;
        const { name, annotations } = event.object.metadata;
        latest.set(name, annotations?.change ?? "");
        if (waiting && waiting.name === name && waiting.value === latest.get(name)) waiting.resolve(at);
      }
    }
  };
  follow().catch((error: unknown) => {
    if (!stop.signal.aborted) throw error;
  });
  return {
    sees: (name: string, value: string) =>
      latest.get(name) === value
        ? Promise.resolve(monotonic())
        : new Promise<number>((resolve) => {
            waiting = { name, value, resolve };
          }),
    stop: () => stop.abort(),
  };
}

export interface Server extends AsyncDisposable {
  client: KubeClient;
  /** How others reach it. */
  credentials: Credentials;
  pid: number;
  /** Seconds from its start. */
  ready: number;
}

/** `src/lab/cluster.ts` with a directory of its own, called over its UNIX socket. */
export async function startServer(): Promise<Server> {
  const home = mkdtempSync(join(tmpdir(), "weft-bench-"));
  const state = new LabState(join(home, "lab"));
  const world = realWorld();
  const cluster = defaultCluster("c1", 0);
  const record = {
    spec: { clusters: [cluster] },
    ports: {},
    launcher: process.pid,
    kubeconfig: "",
    started: timestamp(world),
  };
  state.create(record);
  const { ca, admin } = (await writeKeys(world, state, [cluster])).c1!;
  const program = fileURLToPath(new URL("../../src/lab/cluster.ts", import.meta.url));
  // In a network namespace of its own, which has the address that the API server listens on.
  const script = `ip link set lo up && ip addr add ${cluster.apiAddress}/32 dev lo && exec "$@"`;
  const command = ["--user", "--map-root-user", "--net", "sh", "-c", script, "sh"];
  const flags = ["--max-semi-space-size=2", "--max-old-space-size=1000", "--v8-pool-size=1"]; // as the daemon gives them
  command.push(process.execPath, ...flags, program, state.dir, "c1");
  const start = () =>
    new Promise<{ child: ChildProcess; ready: number }>((resolve, reject) => {
      const began = monotonic();
      const child = spawn("unshare", command, { stdio: ["ignore", "inherit", "inherit", "ipc"] });
      child.on("message", () => resolve({ child, ready: (monotonic() - began) / 1000 }));
      child.on("exit", (code) => reject(new Error(`the cluster's process ended with ${code}`)));
    });
  const first = await start(); // fills the compile cache, and makes what stands in every cluster
  first.child.kill("SIGKILL");
  const { child, ready } = await start();
  const server = `https://${cluster.apiAddress}:6443`;
  const credentials = { server, ca: ca.cert, ...admin, socketPath: state.apiSocket("c1") };
  const transport = transportFor(credentials);
  return {
    credentials,
    client: new KubeClient({ transport, world, cluster: "c1", server }),
    pid: child.pid!,
    ready,
    async [Symbol.asyncDispose]() {
      transport.close();
      child.kill("SIGKILL");
      rmSync(home, { recursive: true, force: true });
    },
  };
}
