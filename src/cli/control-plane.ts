/**
 * `weft control-plane`: what runs in the pod `weft-system/weft`. Serves clusterset.local, and over HTTP:
 * `/livez` and `/healthz` (the process runs), `/readyz` (its own cluster is known), `/metrics` (for Prometheus),
 * `/debug/why?collection=&key=` (what a row is made from), `/debug/state` (peers, sinks, work done).
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { type Command, Option } from "commander";
import type { ProxyImplementation } from "../api/index.ts";
import { watchClusterId } from "../clusterset/index.ts";
import { type ControlPlane, startControlPlane } from "../control.ts";
import { createDnsServer } from "../dns/index.ts";
import { defaultImage, dnsPort, healthPort } from "../install/index.ts";
import { inClusterCredentials, KubeClient, loadKubeconfig, transportFor } from "../kube/index.ts";
import { realWorld, sleep } from "../world/index.ts";
import { leaseOption } from "./lease.ts";
import { metrics } from "./metrics.ts";
import { proxyOption } from "./proxy-option.ts";

interface Options {
  kubeconfig?: string;
  context?: string;
  address: string;
  dnsPort: string;
  httpPort: string;
  leaseDuration?: number;
  image: string;
  proxy: ProxyImplementation;
}

export function define(command: Command): void {
  command
    .option("--kubeconfig <file>", "the cluster to run for; the one that this process is in, when left out")
    .option("--context <name>", "context of the kubeconfig")
    .option("--address <ip>", "address to listen on", "0.0.0.0")
    .option("--dns-port <port>", "port of DNS", String(dnsPort))
    .option("--http-port <port>", "port of health and debugging", String(healthPort))
    .addOption(leaseOption())
    .addOption(
      new Option("--image <image>", "what meshes run: the control plane's own image")
        .env("WEFT_IMAGE")
        .default(defaultImage),
    )
    .addOption(proxyOption().env("WEFT_PROXY").default("embedded"))
    .action(run);
}

async function run(options: Options): Promise<void> {
  const world = realWorld();
  const credentials =
    options.kubeconfig || options.context
      ? loadKubeconfig(options.kubeconfig).credentials(options.context)
      : inClusterCredentials();
  const client = new KubeClient({
    transport: transportFor(credentials),
    world,
    cluster: "this cluster",
    server: credentials.server,
  });
  const log = (line: string, error?: unknown) => {
    const detail = error === undefined ? "" : `: ${error instanceof Error ? error.message : String(error)}`;
    console.log(`${new Date(world.now()).toISOString()} ${line}${detail}`);
  };

  // Probes are answered from the start, also while the cluster's id is waited for.
  let plane: ControlPlane | undefined;
  const http = createServer((request, response) => send(response, answer(plane, request)));
  await new Promise<void>((resolve, reject) => {
    http.once("error", reject);
    http.listen(Number(options.httpPort), options.address, resolve);
  });

  const ended = new AbortController();
  const end = (why: string) => {
    log(why);
    void resigned(plane).finally(() => {
      ended.abort();
      process.exit(0);
    });
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => end(`ended by ${signal}`));
  plane = await startControlPlane({
    client,
    connect: transportFor,
    elected: true,
    mesh: { image: options.image, proxy: options.proxy },
    ...(options.leaseDuration && { lease: options.leaseDuration }),
    identity: process.env.POD_NAME ?? `process ${process.pid}`,
    log,
    signal: ended.signal,
  });
  const { cluster } = plane;
  watchClusterId(client, cluster, {
    // The Deployment starts us again.
    renamed: (id) => end(`the cluster is now called ${id}, no longer ${cluster}: beginning anew`),
    onRefused: (value) => log(`"${value}" cannot be a cluster's name; it goes on as ${cluster}`),
    signal: ended.signal,
  });
  const address = process.env.POD_IP;
  const dns = createDnsServer({
    world,
    zones: plane.zones,
    ...(address && { address }),
    onBug: (error) => log("bug in DNS", error),
  });
  await dns.listen({ address: options.address, port: Number(options.dnsPort) });
  log(`control plane of ${plane.cluster}: DNS on ${options.address}:${options.dnsPort}`);
}

/** The next leader need not wait; nor do we for ever. */
async function resigned(plane: ControlPlane | undefined): Promise<void> {
  await Promise.race([plane?.resign(), sleep(realWorld(), 1_000)]).catch(() => {});
}

function send(response: ServerResponse, [status, body]: [number, unknown]): void {
  const text = typeof body === "string" ? `${body.trimEnd()}\n` : `${JSON.stringify(body, undefined, 2)}\n`;
  const type = typeof body === "string" ? "text/plain" : "application/json";
  response.writeHead(status, { "content-type": type }).end(text);
}

function answer(plane: ControlPlane | undefined, request: IncomingMessage): [status: number, body: unknown] {
  if (request.method !== "GET") return [405, "only GET"];
  const { pathname, searchParams } = new URL(request.url ?? "/", "http://localhost");
  if (pathname === "/livez" || pathname === "/healthz") return [200, "ok"];
  const unknown: [number, unknown] = [503, "the cluster is not known yet"];
  if (pathname === "/readyz") return plane?.ready ? [200, "ok"] : unknown;
  if (!plane) return unknown;
  if (pathname === "/metrics") return [200, metrics(plane)];
  if (pathname === "/debug/state") return [200, state(plane)];
  if (pathname === "/debug/why") {
    const tree = plane.why(searchParams.get("collection") ?? "", searchParams.get("key") ?? "");
    return tree ? [200, tree] : [404, { error: "no such collection", known: [...plane.collections.keys()] }];
  }
  return [404, "not found"];
}

function state(plane: ControlPlane): unknown {
  const sinks = [...plane.sinks].map(([name, sink]) => {
    const { lag, waiting, held, writes } = sink;
    return [name, { lag, waiting, held, conflicts: sink.conflicts.size, writes }];
  });
  return {
    cluster: plane.cluster,
    ready: plane.ready,
    leading: plane.leading,
    peers: [...(plane.collections.get("peers")?.values() ?? [])],
    lags: Object.fromEntries(plane.lags),
    collections: Object.fromEntries([...plane.collections].map(([name, { size }]) => [name, size])),
    sinks: Object.fromEntries(sinks),
    engine: plane.engine.work,
    memory: process.memoryUsage(),
  };
}
