/**
 * `weft discovery`: what runs in the pod `istiod-<mesh>`. Ports are istiod's: 15012 xDS (gRPC, mTLS), 15017 the webhook
 * and certificates (HTTPS), 15014 health, metrics and debugging (HTTP): `/ready`, `/metrics`, `/debug/proxies`,
 * `/debug/config?proxy=POD.NAMESPACE&kind=`, `/debug/reasons?proxy=POD.NAMESPACE&host=`, `/debug/why?collection=&key=`,
 * `/debug/findings`, `/debug/state`.
 * It listens for proxies and pods once it knows everything: until then they wait.
 */
import type { IncomingMessage } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { createServer as createTlsServer } from "node:tls";
import { setFlagsFromString } from "node:v8";
import type { Command } from "commander";
import { discoveryPorts } from "../api/index.ts";
import { type Discovery, type PostRequest, startDiscovery } from "../discovery.ts";
import { reasons } from "../traffic/index.ts";
import { realWorld, sleep } from "../world/index.ts";
import { dumpOf } from "../xds/index.ts";
import { discoveryMetrics } from "./metrics.ts";
import {
  type HttpAnswer,
  listen,
  log,
  ownCluster,
  resigned,
  serveHttp,
  stateOf,
  whyAnswer,
} from "./pod-process.ts";

interface Options {
  mesh: string;
  kubeconfig?: string;
  context?: string;
  address: string;
}

export function define(command: Command): void {
  command
    .requiredOption("--mesh <namespace/name>", "the ServiceMeshControlPlane that this is the discovery of")
    .option("--kubeconfig <file>", "the cluster to run for; the one that this process is in, when left out")
    .option("--context <name>", "context of the kubeconfig")
    .option("--address <ip>", "address to listen on", "0.0.0.0")
    .action(run);
}

async function run(options: Options): Promise<void> {
  const [namespace, name] = options.mesh.split("/");
  if (!namespace || !name) throw new Error(`--mesh is 'namespace/name', not '${options.mesh}'`);
  const client = ownCluster(options);

  // Probes are answered from the start.
  let discovery: Discovery | undefined;
  let serving = false;
  await serveHttp({ port: discoveryPorts.monitoring, address: options.address }, (path, query) =>
    answer(discovery, serving, path, query),
  );

  const ended = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.once(signal, () => {
      log(`ended by ${signal}`);
      void resigned(discovery).finally(() => {
        ended.abort();
        process.exit(0);
      });
    });
  }
  const started = await startDiscovery({
    client,
    namespace,
    name,
    elected: true,
    identity: process.env.POD_NAME ?? `process ${process.pid}`,
    log,
    signal: ended.signal,
  });
  discovery = started;
  await allKnown(started, log, ended.signal);
  await serve(started, options.address, log);
  serving = true;
  log(`discovery of mesh ${options.mesh} serves proxies`);
}

/** Until everything has been heard. */
export async function allKnown(
  discovery: Discovery,
  log: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const world = realWorld();
  let said = "";
  for (let looks = 1; !discovery.ready; looks++) {
    const names = discovery.waiting.join(", ");
    // After 5 s, and when it has changed since.
    if (looks % 250 === 0 && names !== said) log(`waiting for ${names}`);
    if (looks % 250 === 0) said = names;
    await sleep(world, 20, signal);
  }
}

/** Binds what proxies, agents and the API server call; certificates are taken over as they are renewed. */
export async function serve(
  discovery: Discovery,
  address: string,
  log: (line: string, error?: unknown) => void,
  ports: { xds: number; webhook: number } = discoveryPorts,
): Promise<void> {
  // What many proxies leave behind when they have connected is collected sooner, where V8 would let the heap double
  // first. Not before: of what was read until now most stays. (NODE_OPTIONS does not take this flag.)
  setFlagsFromString("--heap-growing-percent=30");
  const { tls } = discovery;
  const forProxies = () => ({
    ...tls.current,
    requestCert: true,
    rejectUnauthorized: true,
    ALPNProtocols: ["h2"],
    minVersion: "TLSv1.2" as const,
  });
  const xds = createTlsServer(forProxies(), (socket) => {
    socket.on("error", () => {}); // a proxy that went away
    discovery.xds.accept(socket);
  });
  xds.on("tlsClientError", (error, socket) =>
    log(`a client at ${socket.remoteAddress ?? "?"} failed the TLS handshake`, error),
  );
  const forAll = () => ({ cert: tls.current.cert, key: tls.current.key, minVersion: "TLSv1.2" as const });
  const https = createHttpsServer(forAll(), (request, response) => {
    void posted(discovery, request)
      .then(({ status, headers, body }) => response.writeHead(status, headers).end(body))
      .catch((error: unknown) => {
        log(`answering ${request.url}`, error);
        response.writeHead(400).end();
      });
  });
  tls.onChange(() => {
    xds.setSecureContext(forProxies());
    https.setSecureContext(forAll());
  });
  await listen(xds, ports.xds, address);
  await listen(https, ports.webhook, address);
}

/** Most bytes of a body: a review with its pod (`largestReview`), and some. */
const largestBody = 5 * 1024 * 1024;

async function posted(discovery: Discovery, request: IncomingMessage) {
  const pathname = (request.url ?? "/").split("?")[0]!;
  if (request.method === "GET" && (pathname === "/ready" || pathname === "/healthz")) {
    return { status: 200, headers: { "content-type": "text/plain" }, body: "ok\n" };
  }
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > largestBody) throw new Error("the body is too large");
    chunks.push(chunk);
  }
  const { method = "GET", headers } = request;
  const asked: PostRequest = { method, headers, body: Buffer.concat(chunks) };
  return await discovery.post(pathname, asked);
}

function answer(
  discovery: Discovery | undefined,
  serving: boolean,
  path: string,
  query: URLSearchParams,
): HttpAnswer {
  if (path === "/livez" || path === "/healthz") return [200, "ok"];
  if (!discovery) return [503, "the mesh is not known yet"];
  if (path === "/ready" || path === "/readyz") {
    return serving ? [200, "ok"] : [503, `waiting for ${discovery.waiting.join(", ")}`];
  }
  if (path === "/metrics") return [200, discoveryMetrics(discovery)];
  if (path === "/debug/state") return [200, state(discovery)];
  if (path === "/debug/proxies") return [200, discovery.xds.proxies()];
  if (path === "/debug/findings") return [200, Object.fromEntries(discovery.traffic.findings.entries())];
  if (path === "/debug/config") {
    const proxy = discovery.xds.proxy(query.get("proxy") ?? "");
    const kind = query.get("kind");
    if (!proxy) return [404, { error: "no such proxy is connected here" }];
    return [200, dumpOf(proxy, kind === null ? undefined : (kind as Parameters<typeof dumpOf>[1]))];
  }
  if (path === "/debug/reasons") {
    const proxy = discovery.xds.proxy(query.get("proxy") ?? "");
    if (!proxy) return [404, { error: "no such proxy is connected here" }];
    return [200, reasons(proxy.view.configs(), query.get("host") ?? undefined)];
  }
  if (path === "/debug/why") return whyAnswer(discovery, query);
  return [404, "not found"];
}

function state(discovery: Discovery): unknown {
  return {
    mesh: `${discovery.settings.namespace}/${discovery.settings.name}`,
    ready: discovery.ready,
    waiting: discovery.waiting,
    leading: discovery.leading,
    authority: discovery.authority.status,
    proxies: discovery.xds.proxies().length,
    engine: discovery.engine.work,
    ...stateOf(discovery),
  };
}
