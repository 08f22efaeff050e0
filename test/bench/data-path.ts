/** A proxy with what a sidecar has for its application's calls, embedded or Envoy, pinned to core 1. */
import { type ChildProcess, spawn } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Bootstrap } from "#protocols/envoy/config/bootstrap/v3/bootstrap.ts";
import { Cluster } from "#protocols/envoy/config/cluster/v3/cluster.ts";
import { Listener } from "#protocols/envoy/config/listener/v3/listener.ts";
import { RBAC } from "#protocols/envoy/extensions/filters/http/rbac/v3/rbac.ts";
import { HttpConnectionManager } from "#protocols/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.ts";
import { leanNode } from "../../src/lab/lean.ts";
import { clientTls, pack, serverTls, socketAddress, tcpFilter } from "../../src/proxy/testing/resources.ts";
import type { Issued } from "../../src/xds/testing/certificates.ts";
import { findEnvoy } from "../../src/xds/testing/envoy.ts";
import { cluster, filter, header, prefix, router, seconds, text, to } from "../differential/http.ts";
import { eventually } from "../support/eventually.ts";
import { freePort } from "../support/ports.ts";

export type Kind = "Envoy" | "embedded proxy";

/** Those that there are here. */
export const kinds = (): Kind[] => (findEnvoy() ? ["Envoy", "embedded proxy"] : ["embedded proxy"]);

export interface Tls {
  /** The client's proxy speaks TLS to the server's; which end this one is. */
  side: "client" | "server";
  own: Issued;
  ca: string;
}

export interface Wanted {
  backend: number;
  tls?: Tls;
  /** To the backend. Clients choose for themselves. */
  http2?: boolean;
  /** Bytes are passed on; nothing is read in them. */
  tcp?: boolean;
  /** The embedded proxy writes where its CPU went to this directory when it ends. */
  profile?: string;
}

/** The identity of the server's proxy. */
export const server = "spiffe://cluster.local/ns/demo/sa/server";

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

const denied = filter("envoy.filters.http.rbac", "rbac.v3.RBAC", RBAC, {
  rules: {
    action: 1,
    policies: {
      "ns[demo]-policy[deny]-rule[0]": {
        permissions: [
          { rule: { $case: "urlPath", value: { rule: { $case: "path", value: text("prefix", "/admin") } } } },
        ],
        principals: [{ identifier: { $case: "any", value: true } }],
      },
    },
  },
});

/** As far as one request passes through it: several virtual hosts, access control, a timeout, retries. */
function httpFilter() {
  const retryPolicy = { retryOn: "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes", numRetries: 2, retriableStatusCodes: [503] }; // biome-ignore format: one line
  const virtualHosts = [
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
  ];
  const hcm = {
    statPrefix: "outbound",
    serverName: "istio-envoy",
    normalizePath: true,
    routeSpecifier: { $case: "routeConfig", value: { name: "8080", virtualHosts } },
    httpFilters: [denied, router],
  };
  return {
    name: "http",
    configType: {
      $case: "typedConfig" as const,
      value: pack(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        HttpConnectionManager,
        hcm as never,
      ),
    },
  };
}

function resources(port: number, { backend, tls, http2 = false, tcp = false }: Wanted) {
  const listener = {
    name: "outbound",
    address: socketAddress("127.0.0.1", port),
    filterChains: [
      {
        ...(tls?.side === "server" && { transportSocket: socketOf(tls) }),
        filters: [tcp ? tcpFilter("app") : httpFilter()],
      },
    ],
  };
  const more = tls?.side === "client" ? { transportSocket: socketOf(tls) } : {};
  return { listener: listener as never, cluster: cluster("app", [backend], more, http2) as never };
}

export interface Rig extends Disposable {
  directory: string;
  /** nginx's ports: HTTP/1.1 with 200 bytes at `/` and a GiB at `/file`, and HTTP/2 that ends like gRPC. */
  backend: { http: number; http2: number };
  /** Starts a proxy on `port`; its process. */
  start(kind: Kind, port: number, wanted: Wanted): ChildProcess;
}

/** A backend on core 0, and room for proxies; all of it ends with it. */
export async function dataPath(): Promise<Rig> {
  const directory = mkdtempSync(join(tmpdir(), "weft-bench-proxy-"));
  const children: ChildProcess[] = [];
  const start = (...command: string[]) => {
    const child = spawn(command[0]!, command.slice(1), { stdio: ["ignore", "ignore", "inherit"] });
    children.push(child);
    return child;
  };
  const backend = { http: await freePort(), http2: await freePort() };
  writeFileSync(join(directory, "file"), "");
  truncateSync(join(directory, "file"), 2 ** 30);
  const body = "a".repeat(200);
  writeFileSync(
    join(directory, "nginx.conf"),
    `user root; daemon off; master_process off; pid ${directory}/pid; error_log /dev/null;
     events { worker_connections 512; }
     http { access_log off; sendfile on; keepalive_requests 1000000000;
       server { listen 127.0.0.1:${backend.http};
         location / { return 200 "${body}"; }
         location /file { root ${directory}; } }
       server { listen 127.0.0.1:${backend.http2} http2; default_type application/grpc;
         location / { add_trailer grpc-status 0; return 200 "${body}"; } } }`,
  );
  start("taskset", "-c", "0", "nginx", "-c", join(directory, "nginx.conf"));
  let runs = 0;
  return {
    directory,
    backend,
    start(kind, port, wanted) {
      const own = join(directory, String(runs++));
      mkdirSync(own);
      const { listener, cluster } = resources(port, wanted);
      if (kind === "Envoy") {
        const bootstrap = Bootstrap.fromPartial({
          node: { id: "bench", cluster: "bench" },
          staticResources: { listeners: [listener], clusters: [cluster] },
        });
        writeFileSync(join(own, "bootstrap.pb"), Bootstrap.encode(bootstrap).finish());
        return start("taskset", "-c", "1", findEnvoy()!, "-c", join(own, "bootstrap.pb"), "-l", "error", "--concurrency", "1", "--use-dynamic-base-id"); // biome-ignore format: one line
      }
      writeFileSync(join(own, "listener"), Listener.encode(Listener.fromPartial(listener)).finish());
      writeFileSync(join(own, "cluster"), Cluster.encode(Cluster.fromPartial(cluster)).finish());
      const profile = wanted.profile ? ["--cpu-prof", `--cpu-prof-dir=${wanted.profile}`] : [];
      const program = new URL("proxy-server.ts", import.meta.url).pathname;
      return start("taskset", "-c", "1", process.execPath, ...leanNode, ...profile, program, own);
    },
    [Symbol.dispose]() {
      for (const child of children) child.kill("SIGKILL");
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** Until it answers; a proxy needs a moment to start. */
export async function answers(port: number): Promise<void> {
  await eventually(
    "the proxy answers",
    async () => (await fetch(`http://127.0.0.1:${port}/`)).status === 200,
  );
}

/** Shares of CPU by where it went, and the files of ours that took most of ours. */
export interface Profile {
  shares: Record<string, number>;
  files: [file: string, share: number][];
}

/** What is known of V8's profile format: nodes with a call frame, and the node that each sample was in. */
interface CpuProfile {
  nodes: { id: number; callFrame: { functionName: string; url: string } }[];
  samples: number[];
  timeDeltas: number[];
}

/** Reads what a proxy that was started with `profile` has written there. Time in which it had nothing to do does not count. */
export function readProfile(directory: string): Profile {
  const name = readdirSync(directory).find((file) => file.endsWith(".cpuprofile"));
  if (!name) throw new Error(`no profile in ${directory}`);
  const { nodes, samples, timeDeltas } = JSON.parse(
    readFileSync(join(directory, name), "utf8"),
  ) as CpuProfile;
  const frames = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]));
  const shares: Record<string, number> = {};
  const files = new Map<string, number>();
  let all = 0;
  samples.forEach((id, i) => {
    const { functionName, url } = frames.get(id)!;
    if (functionName === "(idle)") return;
    const time = Math.max(0, timeDeltas[i]!);
    all += time;
    const ours = /\/src\/(.+)$/.exec(url)?.[1];
    const where =
      functionName === "(garbage collector)"
        ? "garbage collection"
        : ours
          ? "our code"
          : url.startsWith("node:")
            ? "the runtime's JavaScript (net, tls, http2)"
            : "the runtime's native part (system calls, TLS, frames)";
    shares[where] = (shares[where] ?? 0) + time;
    if (ours) files.set(ours, (files.get(ours) ?? 0) + time);
  });
  const byShare = (a: [string, number], b: [string, number]) => b[1] - a[1];
  const part = ([what, time]: [string, number]): [string, number] => [what, time / all];
  return {
    shares: Object.fromEntries(Object.entries(shares).sort(byShare).map(part)),
    files: [...files].sort(byShare).map(part),
  };
}
