/**
 * The data path: CPU of a proxy for 1,000 requests, the embedded proxy and Envoy with the same resources: routing by
 * several virtual hosts, access control, timeouts, retries, metrics, no access log. HTTP/1.1 through one proxy, and a pair
 * with mTLS between (two processes); HTTP/2 and unary gRPC through one; and what a proxy adds to the time of a request of
 * HTTP/1.1 when 500 come in a second. Proxies are pinned to core 1; nginx and the clients share core 0 (Debian packages
 * `nginx-light`, `wrk`, `nghttp2-client`). 200-byte answers, 32 connections (HTTP/2: 8, with 4 streams each).
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Bootstrap } from "#protocols/envoy/config/bootstrap/v3/bootstrap.ts";
import { Cluster } from "#protocols/envoy/config/cluster/v3/cluster.ts";
import { Listener } from "#protocols/envoy/config/listener/v3/listener.ts";
import { RBAC } from "#protocols/envoy/extensions/filters/http/rbac/v3/rbac.ts";
import { HttpConnectionManager } from "#protocols/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.ts";
import { clientTls, pack, serverTls, socketAddress } from "../../src/proxy/testing/resources.ts";
import { type Issued, makeCa } from "../../src/xds/testing/certificates.ts";
import { findEnvoy } from "../../src/xds/testing/envoy.ts";
import { cluster, filter, header, prefix, router, seconds, text, to } from "../differential/http.ts";
import { type Benchmark, percentile, type Report } from "./figures.ts";

const connections = 32;
const warmUp = 3;
const duration = Number(process.env.WEFT_BENCH_SECONDS ?? 10);

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return port;
}

interface Tls {
  /** The client's proxy speaks TLS to the server's; which end this one is. */
  side: "client" | "server";
  own: Issued;
  ca: string;
}

const inline = (value: string) => ({ specifier: { $case: "inlineString" as const, value } });

/** TLS 1.3, both with certificates, one of the two checked by its identity. */
function socketOf({ side, own, ca }: Tls) {
  const commonTlsContext = {
    tlsCertificates: [{ certificateChain: inline(own.cert), privateKey: inline(own.key) }],
    validationContextType: {
      $case: "validationContext" as const,
      value: {
        trustedCa: inline(ca),
        ...(side === "client" && {
          matchTypedSubjectAltNames: [{ sanType: 3 as const, matcher: text("exact", server) }],
        }),
      },
    },
    tlsParams: { tlsMinimumProtocolVersion: 4 as const, tlsMaximumProtocolVersion: 4 as const },
    alpnProtocols: ["http/1.1"],
  };
  return side === "client"
    ? clientTls({ sni: "app", commonTlsContext })
    : serverTls({ requireClientCertificate: true, commonTlsContext });
}

const server = "spiffe://cluster.local/ns/demo/sa/server";

/** What a sidecar has for its application's calls, as far as one request passes through it. */
function resources(port: number, backend: number, tls?: Tls, http2 = false) {
  const retryPolicy = { retryOn: "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes", numRetries: 2, retriableStatusCodes: [503] }; // biome-ignore format: one line
  const hcm = {
    statPrefix: "outbound",
    serverName: "istio-envoy",
    normalizePath: true,
    routeSpecifier: {
      $case: "routeConfig",
      value: {
        name: "8080",
        virtualHosts: [
          ...Array.from({ length: 50 }, (_, i) => ({
            name: `s${i}`,
            domains: [`s${i}.demo.svc.cluster.local`, `s${i}.demo.svc`, `s${i}.demo`],
            routes: [to("/", "app")],
          })),
          {
            name: "app",
            domains: ["*"],
            includeRequestAttemptCount: true,
            routes: [
              to(prefix("/", { headers: [header("x-canary", text("exact", "yes"))] }), "app"),
              to("/", "app", { timeout: seconds(15), retryPolicy }, { name: "default" }),
            ],
          },
        ],
      },
    },
    httpFilters: [
      filter("envoy.filters.http.rbac", "rbac.v3.RBAC", RBAC, {
        rules: {
          action: 1,
          policies: {
            "ns[demo]-policy[deny]-rule[0]": {
              permissions: [
                {
                  rule: {
                    $case: "urlPath",
                    value: { rule: { $case: "path", value: text("prefix", "/admin") } },
                  },
                },
              ],
              principals: [{ identifier: { $case: "any", value: true } }],
            },
          },
        },
      }),
      router,
    ],
  };
  const listener = {
    name: "outbound",
    address: socketAddress("127.0.0.1", port),
    filterChains: [
      {
        ...(tls?.side === "server" && { transportSocket: socketOf(tls) }),
        filters: [
          {
            name: "http",
            configType: {
              $case: "typedConfig",
              value: pack(
                "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                HttpConnectionManager,
                hcm as never,
              ),
            },
          },
        ],
      },
    ],
  };
  const app = cluster(
    "app",
    [backend],
    tls?.side === "client" ? { transportSocket: socketOf(tls) } : {},
    http2,
  );
  return { listener: listener as never, cluster: app as never };
}

/** utime + stime of all its threads, seconds. */
function cpuOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

interface Load {
  requests: number;
  p50: number;
  p99: number;
  bad: boolean;
}

/** Percentiles of a log of h2load: begun at (µs), status, duration (µs) on each line. */
function readLog(file: string): Load {
  const lines = readFileSync(file, "utf8").split("\n").filter(Boolean);
  const times = lines.map((line) => Number(line.split("\t")[2])).sort((a, b) => a - b);
  rmSync(file);
  return {
    requests: lines.length,
    p50: percentile(times, 0.5) / 1000,
    p99: percentile(times, 0.99) / 1000,
    bad: lines.some((line) => line.split("\t")[1] !== "200"),
  };
}

function h2load(port: number, time: number, directory: string, ...more: string[]): Load {
  const log = join(directory, "requests");
  const run = spawnSync(
    "taskset",
    ["-c", "0", "h2load", `-D${time}`, `--log-file=${log}`, ...more, `http://127.0.0.1:${port}/`],
    { encoding: "utf8" },
  );
  if (run.status !== 0) throw new Error(`h2load: ${run.stderr || run.error}`);
  return readLog(log);
}

function load(port: number, time: number): Load {
  const run = spawnSync(
    "taskset",
    ["-c", "0", "wrk", "-t1", `-c${connections}`, `-d${time}s`, "--latency", `http://127.0.0.1:${port}/`],
    { encoding: "utf8" },
  );
  if (run.status !== 0) throw new Error(`wrk: ${run.stderr || run.error}`);
  const ms = (share: string) => {
    const [, value, unit] = new RegExp(`${share}%\\s+([\\d.]+)(us|ms|s)`).exec(run.stdout)!;
    return Number(value) * { us: 0.001, ms: 1, s: 1000 }[unit as "ms"];
  };
  return {
    requests: Number(/(\d+) requests in/.exec(run.stdout)![1]),
    p50: ms("50"),
    p99: ms("99"),
    bad: /Non-2xx|Socket errors/.test(run.stdout),
  };
}

export const proxy: Benchmark = async (report: Report) => {
  const directory = mkdtempSync(join(tmpdir(), "weft-bench-proxy-"));
  const children: ChildProcess[] = [];
  const start = (...command: string[]) => {
    const child = spawn(command[0]!, command.slice(1), { stdio: ["ignore", "ignore", "inherit"] });
    children.push(child);
    return child.pid!;
  };
  try {
    const backend = await freePort();
    const backend2 = await freePort();
    writeFileSync(
      join(directory, "nginx.conf"),
      `worker_processes 1; daemon off; pid ${directory}/pid; error_log /dev/null;
       events { worker_connections 512; }
       http { access_log off; keepalive_requests 1000000000; server { listen 127.0.0.1:${backend};
         location / { return 200 "${"a".repeat(200)}"; } }
       server { listen 127.0.0.1:${backend2} http2; default_type application/grpc;
         location / { add_trailer grpc-status 0; return 200 "${"a".repeat(200)}"; } } }`,
    );
    start("taskset", "-c", "0", "nginx", "-c", join(directory, "nginx.conf"));
    const kinds = findEnvoy() ? ["envoy", "weft"] : ["weft"];
    let runs = 0;
    /** A proxy with these resources; its process. */
    const startProxy = (kind: string, port: number, to: number, tls?: Tls, http2 = false): number => {
      const own = join(directory, String(runs++));
      mkdirSync(own);
      const { listener, cluster: app } = resources(port, to, tls, http2);
      if (kind === "envoy") {
        const file = join(own, "bootstrap.pb");
        writeFileSync(
          file,
          Bootstrap.encode(
            Bootstrap.fromPartial({
              node: { id: "bench", cluster: "bench" },
              staticResources: { listeners: [listener], clusters: [app] },
            }),
          ).finish(),
        );
        return start("taskset", "-c", "1", findEnvoy()!, "-c", file, "-l", "error", "--concurrency", "1", "--use-dynamic-base-id"); // biome-ignore format: one line
      }
      writeFileSync(join(own, "listener"), Listener.encode(Listener.fromPartial(listener)).finish());
      writeFileSync(join(own, "cluster"), Cluster.encode(Cluster.fromPartial(app)).finish());
      const program = new URL("proxy-server.ts", import.meta.url).pathname;
      return start("taskset", "-c", "1", process.execPath, program, own);
    };
    const measure = async (
      what: string,
      kind: string,
      port: number,
      pids: number[],
      limits: object,
      send: typeof load = load,
    ) => {
      const name = kind === "envoy" ? "Envoy" : "embedded proxy";
      await answers(port);
      report.step(`${what}, ${name}: ${warmUp + duration} s`);
      send(port, warmUp);
      const used = () => pids.reduce((sum, pid) => sum + cpuOf(pid), 0);
      const before = used();
      const { requests, p50, p99, bad } = send(port, duration);
      const cpu = used() - before;
      if (bad) throw new Error(`${name}: not every answer was good`);
      report.figure(`${what}, ${name}: CPU for 1,000 requests`, (cpu / requests) * 1e6, "ms", kind === "weft" ? limits : {}); // biome-ignore format: one line
      report.figure(`${what}, ${name}: requests`, requests / duration, "/s");
      report.figure(`${what}, ${name}: latency at full load, p50`, p50, "ms");
      report.figure(`${what}, ${name}: latency at full load, p99`, p99, "ms");
      const memory = pids.map((pid) =>
        Number(/RssAnon:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]),
      );
      report.figure(`${what}, ${name}: anonymous memory of each`, Math.max(...memory) / 1024, "MB");
      for (const pid of pids) process.kill(pid, "SIGKILL");
    };
    const ca = await makeCa();
    const client = { own: await ca.issue({ uri: "spiffe://cluster.local/ns/demo/sa/client" }), ca: ca.ca };
    const serving = { own: await ca.issue({ uri: server }), ca: ca.ca };
    for (const kind of kinds) {
      const port = await freePort();
      await measure("HTTP/1.1", kind, port, [startProxy(kind, port, backend)], { limit: 41, goal: 30 });
    }
    for (const kind of kinds) {
      const [near, far] = [await freePort(), await freePort()];
      const pids = [
        startProxy(kind, far, backend, { side: "server", ...serving }),
        startProxy(kind, near, far, { side: "client", ...client }),
      ];
      await measure("mTLS pair", kind, near, pids, { limit: 102, goal: 70 });
    }
    const message = join(directory, "message");
    writeFileSync(message, Buffer.from([0, 0, 0, 0, 100, ...Buffer.alloc(100, "m")]));
    const grpc = ["-d", message, "-H", "content-type: application/grpc", "-H", "te: trailers"];
    for (const [what, more] of [["HTTP/2", []], ["gRPC", grpc]] as const) {
      for (const kind of kinds) {
        const port = await freePort();
        const send = (to: number, time: number) => h2load(to, time, directory, "-c8", "-m4", ...more);
        await measure(what, kind, port, [startProxy(kind, port, backend2, undefined, true)], {}, send);
      }
    } // biome-ignore format: a list
    // 10 connections that ask 50 times a second each, one request at a time.
    const calm = (to: number, time: number) => h2load(to, time, directory, "--h1", "-c10", "--rps=50");
    calm(backend, warmUp);
    const direct = calm(backend, duration);
    for (const kind of kinds) {
      const port = await freePort();
      const pid = startProxy(kind, port, backend);
      await answers(port);
      const name = kind === "envoy" ? "Envoy" : "embedded proxy";
      report.step(`latency at 500/s, ${name}: ${warmUp + duration} s`);
      calm(port, warmUp);
      const through = calm(port, duration);
      if (through.bad || through.requests < 400 * duration)
        throw new Error(`${name}: not every answer was good`);
      report.figure(`500 requests/s, ${name}: added latency, p50`, through.p50 - direct.p50, "ms");
      report.figure(`500 requests/s, ${name}: added latency, p99`, through.p99 - direct.p99, "ms");
      process.kill(pid, "SIGKILL");
    }
  } finally {
    for (const child of children) child.kill("SIGKILL");
    rmSync(directory, { recursive: true, force: true });
  }
};

/** Until it answers; a proxy needs a moment to start. */
async function answers(port: number): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      const response = await fetch(`http://127.0.0.1:${port}/`);
      if (response.status === 200) return;
    } catch (error) {
      if (tries > 200) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
