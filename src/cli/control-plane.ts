/**
 * `weft control-plane`: what runs in the pod `weft-system/weft`. Serves clusterset.local, and over HTTP:
 * `/livez` and `/healthz` (the process runs), `/readyz` (its own cluster is known), `/metrics` (for Prometheus),
 * `/debug/why?collection=&key=` (what a row is made from), `/debug/state` (peers, sinks, work done).
 */
import { type Command, Option } from "commander";
import type { ProxyImplementation } from "../api/index.ts";
import { watchClusterId } from "../clusterset/index.ts";
import { type ControlPlane, startControlPlane } from "../control.ts";
import { createDnsServer } from "../dns/index.ts";
import { defaultImage, dnsPort, healthPort } from "../install/index.ts";
import { transportFor } from "../kube/index.ts";
import { sleep } from "../world/index.ts";
import { leaseOption } from "./lease.ts";
import { metrics } from "./metrics.ts";
import { type HttpAnswer, log, ownCluster, resigned, serveHttp, stateOf, whyAnswer } from "./pod-process.ts";
import { proxyOption } from "./proxy-option.ts";

/**
 * How long DNS is answered after SIGTERM, in milliseconds. Over UDP nobody is told that a pod has ended, and kube-proxy lets
 * flows that are known go on to it for as long as it is ready. So it says at once that it is not: the kubelet hears that
 * within 3 s (its probe), the nodes some seconds later (6 s in all were measured).
 */
const farewell = 10_000;

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
  const client = ownCluster(options);

  // Probes are answered from the start, also while the cluster's id is waited for.
  let plane: ControlPlane | undefined;
  let listening = false;
  await serveHttp({ port: Number(options.httpPort), address: options.address }, (path, query) =>
    path === "/readyz" && !listening
      ? [503, "DNS is not answered yet, or not for long"]
      : answer(plane, path, query),
  );

  const ended = new AbortController();
  const end = async (why: string, farewell = 0) => {
    log(why);
    // Another leads from here on.
    await resigned(plane);
    const wait = listening ? farewell : 0;
    listening = false;
    await sleep(client.world, wait);
    ended.abort();
    process.exit(0);
  };
  process.once("SIGTERM", () => void end("ended by SIGTERM", farewell));
  process.once("SIGINT", () => void end("ended by SIGINT"));
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
    renamed: (id) => void end(`the cluster is now called ${id}, no longer ${cluster}: beginning anew`),
    onRefused: (value) => log(`"${value}" cannot be a cluster's name; it goes on as ${cluster}`),
    signal: ended.signal,
  });
  const address = process.env.POD_IP;
  const dns = createDnsServer({
    world: client.world,
    zones: plane.zones,
    ...(address && { address }),
    onBug: (error) => log("bug in DNS", error),
  });
  await dns.listen({ address: options.address, port: Number(options.dnsPort) });
  listening = true;
  log(`control plane of ${plane.cluster}: DNS on ${options.address}:${options.dnsPort}`);
}

function answer(plane: ControlPlane | undefined, path: string, query: URLSearchParams): HttpAnswer {
  if (path === "/livez" || path === "/healthz") return [200, "ok"];
  const unknown: HttpAnswer = [503, "the cluster is not known yet"];
  if (path === "/readyz") return plane?.ready ? [200, "ok"] : unknown;
  if (!plane) return unknown;
  if (path === "/metrics") return [200, metrics(plane)];
  if (path === "/debug/state") return [200, state(plane)];
  if (path === "/debug/why") return whyAnswer(plane, query);
  return [404, "not found"];
}

function state(plane: ControlPlane): unknown {
  return {
    cluster: plane.cluster,
    ready: plane.ready,
    leading: plane.leading,
    peers: [...(plane.collections.get("peers")?.values() ?? [])],
    lags: Object.fromEntries(plane.lags),
    engine: plane.engine.work,
    ...stateOf(plane),
  };
}
