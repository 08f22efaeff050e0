/**
 * The agent's ports, which redirection leaves alone: 15021 readiness for the kubelet and for load balancers, 15020 the
 * application's probes, metrics of proxy and application together, and `/quitquitquit`; 15090 the proxy's metrics.
 * Paths are Istio's (pilot-agent's status server).
 */
import { createServer, get, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { askApplication } from "./app-probe.ts";
import type { AppProbe } from "./environment.ts";
import { inboundSource } from "./redirection.ts";

const statusPort = 15020;
export const readinessPort = 15021;
export const metricsPort = 15090;

export interface StatusOptions {
  /** Undefined when it is ready, else why not. */
  notReady(): Promise<string | undefined>;
  metrics(): Promise<string>;
  /** The pod's own. */
  address: string;
  appProbes: Readonly<Record<string, AppProbe>>;
  appMetrics?: { port: number; path: string };
  /** `POST /quitquitquit`, from within the pod. */
  quit(): void;
}

export interface StatusServers {
  close(): void;
}

/** Listens on every port at once; rejects when one is taken. */
export async function serveStatus(options: StatusOptions): Promise<StatusServers> {
  const servers = await Promise.all([
    listen(readinessPort, (request, response) => ready(options, request, response)),
    listen(metricsPort, (request, response) => proxyMetrics(options, request, response)),
    listen(statusPort, (request, response) => status(options, request, response)),
  ]);
  return {
    close() {
      for (const server of servers) server.close();
    },
  };
}

type Answer = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

async function listen(port: number, answer: Answer): Promise<Server> {
  const server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => send(response, 500, `${String(error)}\n`));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "0.0.0.0", resolve);
  });
  return server;
}

async function ready(
  options: StatusOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if (path(request) !== "/healthz/ready") return send(response, 404, "not found\n");
  const reason = await options.notReady();
  send(response, reason === undefined ? 200 : 503, reason === undefined ? "" : `${reason}\n`);
}

async function proxyMetrics(
  options: StatusOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if (path(request) !== "/stats/prometheus") return send(response, 404, "not found\n");
  send(response, 200, await options.metrics(), "text/plain; version=0.0.4");
}

async function status(
  options: StatusOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const where = path(request);
  if (where === "/healthz/ready") return ready(options, request, response);
  if (where === "/stats/prometheus") {
    const [own, application] = await Promise.all([
      options.metrics().catch(() => ""),
      options.appMetrics ? applicationMetrics(options.appMetrics, options.address).catch(() => "") : "",
    ]);
    return send(response, 200, `${own}${application}`, "text/plain; version=0.0.4");
  }
  if (where === "/quitquitquit") {
    if (request.method !== "POST") return send(response, 405, "POST only\n");
    const from = request.socket.remoteAddress ?? "";
    if (!/^(::ffff:)?127\./.test(from)) return send(response, 403, "only from within the pod\n");
    send(response, 200, "ok\n");
    return options.quit();
  }
  const probe = options.appProbes[where];
  if (probe) {
    const { status: code, text } = await askApplication(probe, options.address, request.headers);
    return send(response, code, text);
  }
  send(response, 404, "not found\n");
}

function applicationMetrics({ port, path }: { port: number; path: string }, host: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { host, port, path, localAddress: inboundSource, agent: false, timeout: 5000 };
    const asked = get(options, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        text += chunk;
      });
      response.on("end", () => resolve(response.statusCode === 200 ? text : ""));
      response.on("error", reject);
    });
    asked.on("timeout", () => asked.destroy(new Error("no answer in time")));
    asked.on("error", reject);
  });
}

const path = (request: IncomingMessage) => (request.url ?? "/").split("?")[0]!;

function send(response: ServerResponse, code: number, text: string, type = "text/plain"): void {
  if (response.headersSent) return;
  response.writeHead(code, { "content-type": type, "content-length": Buffer.byteLength(text) });
  response.end(text);
}
