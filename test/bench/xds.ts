/**
 * Discovery with 1,000 Services and 10,000 endpoints (no Pods), and proxies that take everything over delta ADS with mTLS.
 * The API server, discovery and all proxies share this machine. What istiod takes for the same: issue 5.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { request } from "node:https";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import {
  configMaps,
  customResourceDefinitions,
  definitions,
  type EndpointSlice,
  endpointSlices,
  type MeshSettings,
  memberOfLabel,
  meshSettingsData,
  meshSettingsName,
  namespaces,
  services,
} from "../../src/api/index.ts";
import { makeRequest } from "../../src/identity/index.ts";
import type { Draft, KubeClient } from "../../src/kube/index.ts";
import { bundleImage, leanNode } from "../../src/lab/index.ts";
import { residentOf } from "../support/processes.ts";
import { type Server, startServer } from "./api.ts";
import type { Report } from "./figures.ts";
import { monotonic } from "./observe.ts";
import { callers, inParallel, serviceCount, sliceOf } from "./population.ts";
import { BenchProxy, type Tls } from "./xds-client.ts";

const settings: MeshSettings = {
  name: "basic",
  namespace: "istio-system",
  cluster: "c1",
  trustDomain: "cluster.local",
  trustDomainAliases: [],
  clusterDomain: "cluster.local",
  mtls: { mode: "PERMISSIVE", auto: true },
  balancer: "LEAST_REQUEST",
  outboundPolicy: "ALLOW_ANY",
  traceSampling: 1,
  accessLog: true,
  proxy: { implementation: "embedded", image: "weft", resources: {}, concurrency: 0 },
  discoveryHost: "istiod-basic.istio-system.svc",
};
const serverName = settings.discoveryHost;
/** So many that the 99th percentile is not just the slowest one. */
const changes = 200;
const namespaceCount = 20;
const namespaceOf = (i: number) => `scale${i % namespaceCount}`;
const nameOf = (i: number) => `outbound|80||s${i}.${namespaceOf(i)}.svc.cluster.local`;

function sliceFor(i: number, lastAddress?: string): Draft<EndpointSlice> {
  const slice = sliceOf(i, lastAddress);
  const ports = [{ name: "http", protocol: "TCP", port: 8080 }];
  return { ...slice, metadata: { ...slice.metadata, namespace: namespaceOf(i) }, ports };
}

export async function xds(report: Report): Promise<void> {
  await using server = await startServer();
  const { client } = server;
  report.step(`${serviceCount} services, ${serviceCount * 10} endpoints`);
  for (const definition of definitions()) await client.create(customResourceDefinitions, definition);
  const members = { [memberOfLabel]: settings.namespace };
  await client.create(namespaces, { metadata: { name: settings.namespace } });
  for (let i = 0; i < namespaceCount; i++) {
    await client.create(namespaces, { metadata: { name: `scale${i}`, labels: members } });
  }
  await client.create(configMaps, {
    metadata: { namespace: settings.namespace, name: meshSettingsName(settings.name) },
    data: meshSettingsData(settings),
  });
  await inParallel(serviceCount, callers, async (i) => {
    const metadata = { namespace: namespaceOf(i), name: `s${i}` };
    await client.create(services, {
      metadata,
      spec: { ports: [{ name: "http", port: 80, targetPort: 8080 }] },
    });
    await client.create(endpointSlices, sliceFor(i));
  });

  const root = fileURLToPath(new URL("../..", import.meta.url));
  const bundle = join(root, "build/bench");
  rmSync(bundle, { recursive: true, force: true });
  await bundleImage(root, bundle, "test/bench/xds-discovery.ts");
  await (await startDiscovery(server, bundle)).stop(); // makes the authority, and fills the compile cache
  {
    const waiting = await startDiscovery(server, bundle);
    await sleep(3_000);
    await resident(report, waiting, "0 proxies", 160);
    await waiting.stop();
  }
  report.step("start to the first proxy's whole configuration");
  const began = monotonic();
  const discovery = await startDiscovery(server, bundle);
  report.figure("start → serves", (monotonic() - began) / 1000, "s");
  const tls = await certificateOf(client, discovery);
  const proxies: BenchProxy[] = [];
  const target = `127.0.0.1:${discovery.ports.xds}`;
  try {
    const asked = monotonic();
    const [first] = await connect(proxies, target, tls, 1);
    const took = monotonic() - asked;
    report.figure("start → first full configuration", (discovery.took + took) / 1000, "s", { limit: 0.6 });
    const { cluster, endpoints, listener, route } = first!.bytes;
    const note = `CDS ${cluster}, EDS ${endpoints}, LDS ${listener}, RDS ${route} bytes`;
    report.figure("one proxy gets", (cluster + endpoints + listener + route) / 1e6, "MB", {
      limit: 2.47,
      note,
    });
    await sleep(3_000);
    await resident(report, discovery, "1 proxy");

    report.step(`${changes} separate changes at 1 proxy`);
    await separate(report, client, discovery.pid, proxies, { p50: 2, p99: 5 });

    report.step("100 proxies");
    const before = cpuOf(discovery.pid);
    const from = monotonic();
    await connect(proxies, target, tls, 100);
    report.figure("99 more hold everything after", (monotonic() - from) / 1000, "s", { limit: 1.5 });
    report.figure("CPU per connecting proxy", (cpuOf(discovery.pid) - before) / 99, "ms", { limit: 15 });
    await sleep(3_000);
    await resident(report, discovery, "100 proxies", 220);
    report.step(`${changes} separate changes at 100 proxies`);
    // What runs for the first time is compiled meanwhile; a discovery runs for weeks.
    await changeEach(client, proxies, 0);
    await separate(report, client, discovery.pid, proxies, { p50: 10, p99: 25 });

    report.step("1,000 changes by 8 callers at 100 proxies");
    await burst(report, client, discovery.pid, proxies);

    report.step("500 proxies");
    await connect(proxies, target, tls, 500);
    await sleep(3_000);
    await resident(report, discovery, "500 proxies", 350);
  } finally {
    for (const proxy of proxies) proxy.close();
    await discovery.stop();
  }
}

async function resident(
  report: Report,
  discovery: RunningDiscovery,
  proxies: string,
  limit?: number,
): Promise<void> {
  const { heapUsed, heapTotal, external } = await discovery.memory();
  const value = residentOf(discovery.pid) / 2 ** 20;
  const [used, total, outside] = [heapUsed, heapTotal, external].map((bytes) => Math.round(bytes / 2 ** 20));
  const note = `heap ${used} of ${total} MiB, buffers ${outside} MiB`;
  // In MiB, as the figures for istiod that the limits stand beside.
  report.figure(`resident, ${proxies}`, value, "MiB", { ...(limit !== undefined && { limit }), note });
}

/** One change at a time: from the answer of the PATCH to the last proxy's new endpoints. */
async function separate(
  report: Report,
  client: KubeClient,
  pid: number,
  proxies: readonly BenchProxy[],
  limits: { p50: number; p99: number },
): Promise<void> {
  const before = cpuOf(pid);
  const samples = await changeEach(client, proxies, 1);
  const what = proxies.length === 1 ? "1 proxy" : `the last of ${proxies.length}`;
  report.spread(`change → new endpoints at ${what}`, samples, "ms", limits);
  const cpu = (cpuOf(pid) - before) / changes;
  report.figure(
    `CPU per separate change, ${proxies.length} proxies`,
    cpu,
    "ms",
    proxies.length > 1 ? { limit: 5 } : {},
  );
}

/** Milliseconds of each; contents are those of no other round. */
async function changeEach(
  client: KubeClient,
  proxies: readonly BenchProxy[],
  round: number,
): Promise<number[]> {
  const samples: number[] = [];
  for (let i = 0; i < changes; i++) {
    const name = nameOf(i);
    const seen = new Map(proxies.map((proxy) => [proxy, proxy.endpointsAt.get(name) ?? 0]));
    await change(client, i, `10.${proxies.length}.${round}.${1 + i}`);
    const answered = monotonic();
    await until(proxies, (proxy) => (proxy.endpointsAt.get(name) ?? 0) > seen.get(proxy)!);
    samples.push(Math.max(...proxies.map((proxy) => proxy.endpointsAt.get(name)!)) - answered);
    await sleep(100);
  }
  return samples;
}

async function burst(
  report: Report,
  client: KubeClient,
  pid: number,
  proxies: readonly BenchProxy[],
): Promise<void> {
  const before = cpuOf(pid);
  const messages = () => proxies.reduce((sum, proxy) => sum + proxy.messages, 0);
  const sentBefore = messages();
  const began = monotonic();
  await inParallel(serviceCount, 8, (i) => change(client, i, "10.14.0.9"));
  const written = monotonic();
  await until(proxies, (proxy) => proxy.endpointsAt.size >= serviceCount && allSince(proxy, began));
  const all = monotonic();
  await sleep(500);
  report.figure("1,000 changes: API calls done in", (written - began) / 1000, "s");
  report.figure("the last of 100 proxies has all, after the last call", (all - written) / 1000, "s");
  report.figure("CPU for 1,000 changes, 100 proxies", (cpuOf(pid) - before) / 1000, "s", {
    limit: 1.5,
    note: `${messages() - sentBefore} responses`,
  });
}

function allSince(proxy: BenchProxy, began: number): boolean {
  for (let i = 0; i < serviceCount; i++) if (!((proxy.endpointsAt.get(nameOf(i)) ?? 0) > began)) return false;
  return true;
}

async function change(client: KubeClient, i: number, lastAddress: string): Promise<void> {
  const { metadata, endpoints } = sliceFor(i, lastAddress);
  await client.patch(endpointSlices, { namespace: namespaceOf(i), name: metadata.name! }, { endpoints });
}

/** Adds proxies until there are `count`; resolves when all hold everything. */
async function connect(
  proxies: BenchProxy[],
  target: string,
  tls: Tls,
  count: number,
): Promise<BenchProxy[]> {
  const added: BenchProxy[] = [];
  while (proxies.length < count) {
    const proxy = new BenchProxy(target, tls, proxies.length);
    proxies.push(proxy);
    added.push(proxy);
  }
  await until(added, ({ names }) => names.route.size > 0 && names.endpoints.size >= serviceCount);
  return added;
}

/** Looks at each proxy when it gets something, until the condition has held once at each. */
async function until(
  proxies: readonly BenchProxy[],
  condition: (proxy: BenchProxy) => boolean,
): Promise<void> {
  await Promise.all(
    proxies.map(
      (proxy) =>
        new Promise<void>((resolve, reject) => {
          const timer = setTimeout(() => {
            const has = Object.entries(proxy.names).map(([kind, names]) => `${names.size} of ${kind}`);
            reject(
              new Error(`a proxy did not get what it is to have within a minute, but ${has.join(", ")}`),
            );
          }, 60_000);
          proxy.onResponse = () => {
            if (!condition(proxy)) return;
            proxy.onResponse = undefined;
            clearTimeout(timer);
            resolve();
          };
          proxy.onResponse();
        }),
    ),
  );
}

/** CPU milliseconds of a process so far: utime + stime of /proc/PID/stat, in ticks of 10 ms. */
function cpuOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

interface RunningDiscovery {
  pid: number;
  ports: { xds: number; webhook: number };
  /** Milliseconds from its start until it served. */
  took: number;
  memory(): Promise<NodeJS.MemoryUsage>;
  stop(): Promise<void>;
}

/** More of them, to look inside: `BENCH_NODE_FLAGS="--cpu-prof --cpu-prof-dir=/tmp/profile"`. */
const moreFlags = (process.env.BENCH_NODE_FLAGS ?? "").split(" ").filter((flag) => flag !== "");

/** As pods run it: from a bundle, with code that was compiled before. */
async function startDiscovery({ credentials }: Server, bundle: string): Promise<RunningDiscovery> {
  const ports = { xds: await freePort(), webhook: await freePort() };
  const began = monotonic();
  const child: ChildProcess = spawn(
    process.execPath,
    [...leanNode, ...moreFlags, join(bundle, "xds-discovery.js")],
    {
      env: {
        ...process.env,
        // As its Deployment has it (src/mesh/objects.ts).
        MALLOC_ARENA_MAX: "2",
        MALLOC_MMAP_THRESHOLD_: "65536",
        MALLOC_TRIM_THRESHOLD_: "131072",
        NODE_COMPILE_CACHE: join(bundle, "compiled"),
        BENCH_CREDENTIALS: JSON.stringify(credentials),
        BENCH_PORTS: JSON.stringify(ports),
      },
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    },
  );
  await new Promise<void>((resolve, reject) => {
    child.once("message", () => resolve());
    child.once("exit", (code) => reject(new Error(`discovery ended with ${code}`)));
  });
  return {
    pid: child.pid!,
    ports,
    took: monotonic() - began,
    memory: () =>
      new Promise((resolve) => {
        child.once("message", (answer) => resolve(answer as NodeJS.MemoryUsage));
        child.send("memory");
      }),
    stop: () =>
      new Promise<void>((resolve) => {
        child.removeAllListeners("exit");
        child.once("exit", () => resolve());
        child.disconnect(); // it ends by itself: compiled code and profiles are written
      }),
  };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A certificate for `scale0/default`, asked for as an agent does. */
async function certificateOf(client: KubeClient, { ports }: RunningDiscovery): Promise<Tls> {
  let ca: string | undefined;
  for (let looks = 0; ca === undefined && looks < 500; looks++) {
    const roots = await client.get(configMaps, { namespace: settings.namespace, name: "istio-ca-root-cert" });
    ca = roots?.data?.["root-cert.pem"];
    if (ca === undefined) await sleep(20); // whoever leads publishes it
  }
  if (ca === undefined) throw new Error("discovery does not publish its roots");
  const { status } = await client.json<{ status: { token: string } }>(
    "POST",
    "/api/v1/namespaces/scale0/serviceaccounts/default/token",
    {
      body: {
        apiVersion: "authentication.k8s.io/v1",
        kind: "TokenRequest",
        spec: { audiences: ["istio-ca"] },
      },
    },
  );
  const { keyPem, csrPem } = makeRequest();
  const answer = await new Promise<string>((resolve, reject) => {
    const headers = { authorization: `Bearer ${status.token}` };
    const at = { host: "127.0.0.1", port: ports.webhook, servername: serverName, path: "/certificates" };
    request({ ...at, method: "POST", ca, headers, agent: false }, (incoming) => {
      let text = "";
      incoming.on("data", (chunk) => (text += chunk));
      incoming.on("end", () => resolve(text));
    })
      .on("error", reject)
      .end(JSON.stringify({ csr: csrPem }));
  });
  const { certificateChain } = JSON.parse(answer) as { certificateChain: string };
  return { ca, cert: certificateChain, key: keyPem, serverName };
}
