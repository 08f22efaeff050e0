/**
 * The data path: CPU of a proxy, the embedded one and Envoy with the same resources: routing by several virtual hosts,
 * access control, timeouts, retries, metrics, no access log. HTTP/1.1 through one proxy, and a pair with mTLS between
 * (two processes); HTTP/2 and unary gRPC through one; a file over TCP; what a proxy adds to the time of a request of
 * HTTP/1.1 when 500 come in a second; and where the embedded proxy's CPU goes. Proxies are pinned to core 1; nginx and
 * the clients share core 0 (Debian packages `nginx-light`, `wrk`, `nghttp2-client`, `curl`). 200-byte answers, 32
 * connections (HTTP/2: 8, with 4 streams each; TCP: one after the other).
 */
import { type ChildProcess, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { makeCa } from "../../src/xds/testing/certificates.ts";
import { freePort } from "../support/ports.ts";
import { cpuOf } from "../support/processes.ts";
import { answers, dataPath, type Kind, kinds, type Rig, readProfile, server, type Wanted } from "./data-path.ts"; // biome-ignore format: one line
import type { Benchmark, Report } from "./figures.ts";
import { download, h2load, type Load, wrk } from "./load.ts";

const warmUp = 3;
const duration = Number(process.env.WEFT_BENCH_SECONDS ?? 10);

interface Path {
  what: string;
  /** One process, or a pair: the client's end first. */
  proxies: Wanted[];
  send: (port: number, time: number) => Load;
  /** CPU-milliseconds for 1,000 requests. */
  limits?: { limit: number; goal: number };
}

export const proxy: Benchmark = async (report: Report) => {
  for (const program of ["nginx", "wrk", "h2load", "curl", "taskset"])
    if (spawnSync("sh", ["-c", `command -v ${program}`]).status !== 0)
      throw new Error(`${program} is not installed (nginx-light, wrk, nghttp2-client, curl, util-linux)`);
  using rig = await dataPath();
  const paths = await pathsOf(rig);
  for (const path of paths) for (const kind of kinds()) await requests(report, rig, path, kind);
  await passThrough(report, rig);
  await calm(report, rig);
  for (const path of paths) await profiled(report, rig, path);
};

async function pathsOf({ backend, directory }: Rig): Promise<Path[]> {
  const { issue, ca } = await makeCa();
  const client = { side: "client" as const, own: await issue({ uri: "spiffe://cluster.local/ns/demo/sa/client" }), ca }; // biome-ignore format: one line
  const serving = { side: "server" as const, own: await issue({ uri: server }), ca };
  const message = join(directory, "message");
  writeFileSync(message, Buffer.from([0, 0, 0, 0, 100, ...Buffer.alloc(100, "m")]));
  const http2 =
    (...more: string[]) =>
    (port: number, time: number) =>
      h2load(port, time, directory, "-c8", "-m4", ...more);
  const grpc = http2("-d", message, "-H", "content-type: application/grpc", "-H", "te: trailers");
  const plain = { backend: backend.http };
  const frames = { backend: backend.http2, http2: true };
  return [
    { what: "HTTP/1.1", proxies: [plain], send: wrk, limits: { limit: 41, goal: 30 } },
    {
      what: "mTLS pair",
      proxies: [
        { ...plain, tls: client },
        { ...plain, tls: serving },
      ],
      send: wrk,
      limits: { limit: 102, goal: 70 },
    },
    { what: "HTTP/2", proxies: [frames], send: http2() },
    { what: "gRPC", proxies: [frames], send: grpc },
  ];
}

/** Starts the proxies of a path, each in front of the next; the port to ask. */
async function start(
  rig: Rig,
  kind: Kind,
  proxies: Wanted[],
): Promise<{ port: number; processes: ChildProcess[] }> {
  const processes: ChildProcess[] = [];
  let behind: number | undefined;
  for (const wanted of proxies.toReversed()) {
    const port = await freePort();
    processes.push(rig.start(kind, port, { ...wanted, backend: behind ?? wanted.backend }));
    behind = port;
  }
  await answers(behind!);
  return { port: behind!, processes };
}

/** Load as long as agreed, after some that does not count; what it cost. */
async function measure(
  report: Report,
  rig: Rig,
  kind: Kind,
  { what, proxies, send }: Pick<Path, "what" | "proxies" | "send">,
): Promise<Load & { cpu: number; processes: ChildProcess[] }> {
  const { port, processes } = await start(rig, kind, proxies);
  report.step(`${what}, ${kind}: ${warmUp + duration} s`);
  send(port, warmUp);
  const used = () => processes.reduce((sum, { pid }) => sum + cpuOf(pid!), 0) / 1000;
  const before = used();
  const load = send(port, duration);
  const cpu = used() - before;
  if (load.bad) throw new Error(`${kind}: not every answer was good`);
  return { ...load, cpu, processes };
}

async function requests(report: Report, rig: Rig, path: Path, kind: Kind): Promise<void> {
  const { cpu, requests, p50, p99, processes } = await measure(report, rig, kind, path);
  const name = `${path.what}, ${kind}`;
  report.figure(`${name}: CPU for 1,000 requests`, (cpu / requests) * 1e6, "ms", kind === "Envoy" ? {} : path.limits); // biome-ignore format: one line
  report.figure(`${name}: requests`, requests / duration, "/s");
  report.figure(`${name}: latency at full load, p50`, p50, "ms");
  report.figure(`${name}: latency at full load, p99`, p99, "ms");
  const memory = processes.map(({ pid }) =>
    Number(/RssAnon:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]),
  );
  report.figure(`${name}: anonymous memory of each`, Math.max(...memory) / 1024, "MB");
  for (const each of processes) each.kill("SIGKILL");
}

/** Bytes that are only passed on. */
async function passThrough(report: Report, rig: Rig): Promise<void> {
  let envoy: number | undefined;
  for (const kind of kinds()) {
    const path = { what: "TCP", proxies: [{ backend: rig.backend.http, tcp: true }], send: download };
    const { cpu, bytes, processes } = await measure(report, rig, kind, path);
    const perGb = cpu / (bytes / 1e9);
    const limit =
      kind === "Envoy" || envoy === undefined
        ? {}
        : { limit: Number((2 * envoy).toFixed(2)), note: "within 2x of Envoy" };
    report.figure(`TCP, ${kind}: CPU for a GB`, perGb, "s", limit);
    if (kind === "Envoy") envoy = perGb;
    for (const each of processes) each.kill("SIGKILL");
  }
}

/** 10 connections that ask 50 times a second each, one request at a time: what a proxy adds to no proxy. */
async function calm(report: Report, rig: Rig): Promise<void> {
  const send = (port: number, time: number) => h2load(port, time, rig.directory, "--h1", "-c10", "--rps=50");
  send(rig.backend.http, warmUp);
  const direct = send(rig.backend.http, duration);
  for (const kind of kinds()) {
    const path = { what: "500 requests/s", proxies: [{ backend: rig.backend.http }], send };
    const { requests, p50, p99, processes } = await measure(report, rig, kind, path);
    if (requests < 400 * duration) throw new Error(`${kind}: fewer answers than requests`);
    report.figure(`500 requests/s, ${kind}: added latency, p50`, p50 - direct.p50, "ms");
    report.figure(`500 requests/s, ${kind}: added latency, p99`, p99 - direct.p99, "ms");
    for (const each of processes) each.kill("SIGKILL");
  }
}

/** Where the embedded proxy's CPU goes under full load; of a pair, the client's end. */
async function profiled(report: Report, rig: Rig, { what, proxies, send }: Path): Promise<void> {
  report.step(`profile of ${what}: ${warmUp} s`);
  const profile = join(rig.directory, `profile-${what.replace("/", "-")}`);
  mkdirSync(profile);
  const [first, ...others] = proxies;
  const { port, processes } = await start(rig, "embedded proxy", [{ ...first!, profile }, ...others]);
  send(port, warmUp);
  const near = processes.at(-1)!;
  near.kill("SIGTERM");
  await once(near, "exit");
  for (const each of processes) each.kill("SIGKILL");
  const { shares, files } = readProfile(profile);
  for (const [where, share] of Object.entries(shares)) {
    const most = files.slice(0, 5).map(([file, of]) => `${file} ${(of * 100).toFixed(1)} %`);
    const note = where === "our code" ? { note: most.join(", ") } : {};
    report.figure(`${what}, embedded proxy: of its CPU, ${where}`, share * 100, "%", note);
  }
}
