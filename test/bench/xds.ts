/**
 * Discovery with 1,000 Services and 10,000 endpoints (no Pods), and proxies that take everything over delta ADS with
 * mTLS; then Istio's discovery with the same, over the same API server; and what a change costs both without TLS, as
 * istiod was measured for what was agreed. The API server, discovery and all proxies share this machine.
 */
import { setTimeout as sleep } from "node:timers/promises";
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
import type { Draft, KubeClient } from "../../src/kube/index.ts";
import { cpuOf, residentOf } from "../support/processes.ts";
import { startServer } from "./api.ts";
import { type Discovery, istiod, type RunningDiscovery, weft } from "./discoveries.ts";
import { percentile, type Report } from "./figures.ts";
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
/** So many that the 99th percentile is not just the slowest one. */
const changes = 200;
const starts = 5;
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

  const own = await weft(server, settings);
  const ours = await measure(report, client, own);
  using peer = await istiod(server, report.step);
  if (!peer) return;
  const theirs = await measure(ofPeer(report, peer.name), client, peer);
  for (const [what, limit] of Object.entries(sharesOfIstiod)) {
    const name = what as keyof Measured;
    report.figure(`${what}: Weft / istiod`, ours[name] / theirs[name], "", { limit });
  }
}

/** What both are compared by: milliseconds. */
interface Measured {
  "start → first full configuration": number;
  "99 more hold everything after": number;
  "CPU per connecting proxy": number;
  "CPU per separate change, 100 proxies": number;
  "CPU per separate change, 100 proxies, without TLS": number;
  "CPU for 1,000 changes, 100 proxies": number;
}

/** What was agreed of each, as a share of what istiod took on the machine where that was measured. */
const sharesOfIstiod: Measured = {
  "start → first full configuration": 1, // 0.6 s of 0.6
  "99 more hold everything after": 0.32, // 1.5 s of 4.7
  "CPU per connecting proxy": 0.17, // 15 ms of 80 to 95
  "CPU per separate change, 100 proxies": 0.25, // 5 ms of 20, which were without TLS
  "CPU per separate change, 100 proxies, without TLS": 0.25,
  "CPU for 1,000 changes, 100 proxies": 2.14, // 1.5 s of 0.70
};

/** What a change at 100 proxies costs without TLS. */
async function withoutTls(report: Report, client: KubeClient, { start }: Discovery): Promise<number> {
  const discovery = await start();
  const proxies: BenchProxy[] = [];
  try {
    report.step(`${changes} separate changes at 100 proxies, without TLS`);
    await connectUpTo(100, proxies, await discovery.plain());
    await sleep(3_000);
    await changeEach(client, proxies);
    return await separate(report, client, discovery.pid, proxies, {}, ", without TLS");
  } finally {
    for (const proxy of proxies) proxy.close();
    await discovery.stop();
  }
}

/** Nothing was agreed of a peer, and its name stands before each of its figures. */
function ofPeer(report: Report, name: string): Report {
  return {
    figure: (what, value, unit, { note } = {}) =>
      report.figure(`${name}: ${what}`, value, unit, note === undefined ? {} : { note }),
    spread: (what, samples, unit) => report.spread(`${name}: ${what}`, samples, unit),
    step: (text) => report.step(`${name}: ${text}`),
  };
}

/** All figures of one discovery, with mTLS but for what says otherwise. */
async function measure(report: Report, client: KubeClient, discovery: Discovery): Promise<Measured> {
  const withTls = await withMtls(report, client, discovery);
  const plain = await withoutTls(report, client, discovery);
  return { ...withTls, "CPU per separate change, 100 proxies, without TLS": plain };
}

async function withMtls(
  report: Report,
  client: KubeClient,
  { start }: Discovery,
): Promise<Omit<Measured, "CPU per separate change, 100 proxies, without TLS">> {
  await (await start()).stop(); // makes the authority, and fills caches
  {
    const waiting = await start();
    await sleep(3_000);
    await resident(report, waiting, "0 proxies", 160);
    await waiting.stop();
  }
  report.step(`${starts} starts to the first proxy's whole configuration`);
  const all = [await firstConfiguration(start)];
  while (all.length < starts) {
    const { first, discovery } = all.at(-1)!;
    first.close();
    await discovery.stop();
    all.push(await firstConfiguration(start));
  }
  const { first, discovery, tls } = all.at(-1)!;
  const proxies = [first];
  const connect = (count: number) => connectUpTo(count, proxies, discovery.target, tls);
  try {
    const median = (of: "serves" | "connected") =>
      percentile(
        all.map((each) => each[of]),
        0.5,
      );
    const startTook = median("connected");
    const middle = { note: `the middle of ${starts}` };
    report.figure("start → serves", median("serves") / 1000, "s", middle);
    report.figure("start → first full configuration", startTook / 1000, "s", { limit: 0.6, ...middle });
    const { cluster, endpoints, listener, route } = first.bytes;
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
    await connect(100);
    const everything = monotonic() - from;
    const connecting = (cpuOf(discovery.pid) - before) / 99;
    report.figure("99 more hold everything after", everything / 1000, "s", { limit: 1.5 });
    report.figure("CPU per connecting proxy", connecting, "ms", { limit: 15 });
    await sleep(3_000);
    await resident(report, discovery, "100 proxies", 220);
    report.step(`${changes} separate changes at 100 proxies`);
    // What runs for the first time is compiled meanwhile; a discovery runs for weeks.
    await changeEach(client, proxies);
    const change = await separate(report, client, discovery.pid, proxies, { p50: 10, p99: 25 });

    report.step("1,000 changes by 8 callers at 100 proxies");
    const many = await burst(report, client, discovery.pid, proxies);

    report.step("500 proxies");
    await connect(500);
    await sleep(3_000);
    await resident(report, discovery, "500 proxies", 350);
    return {
      "start → first full configuration": startTook,
      "99 more hold everything after": everything,
      "CPU per connecting proxy": connecting,
      "CPU per separate change, 100 proxies": change,
      "CPU for 1,000 changes, 100 proxies": many,
    };
  } finally {
    for (const proxy of proxies) proxy.close();
    await discovery.stop();
  }
}

/** Starts it, and connects a proxy. `serves` and `connected`: milliseconds until it served, and until the proxy held everything. */
async function firstConfiguration(start: Discovery["start"]) {
  const discovery = await start();
  const tls = await discovery.tls();
  const asked = monotonic();
  const [first] = await connectUpTo(1, [], discovery.target, tls);
  return {
    discovery,
    tls,
    first: first!,
    serves: discovery.took,
    connected: discovery.took + monotonic() - asked,
  };
}

async function resident(
  report: Report,
  discovery: RunningDiscovery,
  proxies: string,
  limit?: number,
): Promise<void> {
  const memory = await discovery.memory?.();
  const mebibytes = (bytes: number) => Math.round(bytes / 2 ** 20);
  // In MiB, as the figures for istiod that the limits stand beside.
  report.figure(`resident, ${proxies}`, residentOf(discovery.pid) / 2 ** 20, "MiB", {
    ...(limit !== undefined && { limit }),
    ...(memory && {
      note: `heap ${mebibytes(memory.heapUsed)} of ${mebibytes(memory.heapTotal)} MiB, buffers ${mebibytes(memory.external)} MiB`,
    }),
  });
}

/** One change at a time: from the answer of the PATCH to the last proxy's new endpoints. Resolves with the CPU of each, ms. */
async function separate(
  report: Report,
  client: KubeClient,
  pid: number,
  proxies: readonly BenchProxy[],
  limits: { p50?: number; p99?: number },
  how = "",
): Promise<number> {
  const before = cpuOf(pid);
  const samples = await changeEach(client, proxies);
  const what = proxies.length === 1 ? "1 proxy" : `the last of ${proxies.length}`;
  report.spread(`change → new endpoints at ${what}${how}`, samples, "ms", limits);
  const cpu = (cpuOf(pid) - before) / changes;
  report.figure(
    `CPU per separate change, ${proxies.length} proxies${how}`,
    cpu,
    "ms",
    proxies.length > 1 ? { limit: 5 } : {},
  );
  return cpu;
}

/** Rounds of changes so far: what one writes, no other did. */
let rounds = 0;

/** Milliseconds of each. */
async function changeEach(client: KubeClient, proxies: readonly BenchProxy[]): Promise<number[]> {
  const round = rounds++;
  const samples: number[] = [];
  for (let i = 0; i < changes; i++) {
    const name = nameOf(i);
    const seen = new Map(proxies.map((proxy) => [proxy, proxy.endpointsAt.get(name) ?? 0]));
    await change(client, i, `10.13.${round}.${1 + i}`);
    const answered = monotonic();
    await until(proxies, (proxy) => (proxy.endpointsAt.get(name) ?? 0) > seen.get(proxy)!);
    samples.push(Math.max(...proxies.map((proxy) => proxy.endpointsAt.get(name)!)) - answered);
    await sleep(100);
  }
  return samples;
}

/** Resolves with the CPU of all, ms. */
async function burst(
  report: Report,
  client: KubeClient,
  pid: number,
  proxies: readonly BenchProxy[],
): Promise<number> {
  const round = rounds++;
  const before = cpuOf(pid);
  const messages = () => proxies.reduce((sum, proxy) => sum + proxy.messages, 0);
  const sentBefore = messages();
  const began = monotonic();
  await inParallel(serviceCount, 8, (i) => change(client, i, `10.13.${round}.9`));
  const written = monotonic();
  await until(proxies, (proxy) => proxy.endpointsAt.size >= serviceCount && allSince(proxy, began));
  const all = monotonic();
  await sleep(500);
  report.figure("1,000 changes: API calls done in", (written - began) / 1000, "s");
  report.figure("the last of 100 proxies has all, after the last call", (all - written) / 1000, "s");
  const cpu = cpuOf(pid) - before;
  report.figure("CPU for 1,000 changes, 100 proxies", cpu / 1000, "s", {
    limit: 1.5,
    note: `${messages() - sentBefore} responses`,
  });
  return cpu;
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
async function connectUpTo(
  count: number,
  proxies: BenchProxy[],
  target: string,
  tls?: Tls,
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
              new Error(`a proxy did not get what it is to have within five minutes, but ${has.join(", ")}`),
            );
          }, 300_000);
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
