/**
 * The kubelet's HTTPS API, the only way into a pod: logs, exec, attach, port-forward. Callers show a client certificate of the
 * cluster's CA. Source: kubernetes `pkg/kubelet/server/server.go`.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import type { Duplex } from "node:stream";
import type { World } from "../../world/index.ts";
import type { NodeSpec } from "../spec.ts";
import type { NodePki } from "../state.ts";
import { type LogOptions, type OutputStream, readLog } from "./logs.ts";
import { kubeletPort } from "./node-status.ts";
import type { PodWorker } from "./pod.ts";
import type { RunningContainer } from "./runtime.ts";
import { serveStreams } from "./streams.ts";

export interface ServerOptions {
  world: World;
  node: NodeSpec;
  pki: NodePki;
  /** The pod of that name (`namespace/name`) on this node. */
  worker(name: string): PodWorker | undefined;
  workers(): PodWorker[];
}

export interface KubeletServer {
  close(): Promise<void>;
}

/** A request that cannot be served, and why. */
export class Refusal extends Error {
  readonly code: number;
  readonly headers: Readonly<Record<string, string>>;

  constructor(code: number, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message);
    this.code = code;
    this.headers = headers;
  }
}

export async function serveKubelet(options: ServerOptions): Promise<KubeletServer> {
  const { pki, node } = options;
  const server: Server = createServer({
    key: pki.serving.key,
    cert: pki.serving.cert,
    ca: pki.ca,
    requestCert: true,
    rejectUnauthorized: true,
  });
  server.on("request", (request: IncomingMessage, response: ServerResponse) => {
    answer(options, request, response).catch((error: unknown) => {
      const code = error instanceof Refusal ? error.code : 500;
      if (response.headersSent) response.destroy();
      else response.writeHead(code, { "content-type": "text/plain" }).end(`${(error as Error).message}\n`);
    });
  });
  const upgrade = serveStreams(options);
  server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) =>
    upgrade(request, socket, head),
  );
  server.on("tlsClientError", () => {});
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(kubeletPort, node.address, resolve);
  });
  return {
    async close() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

async function answer(
  options: ServerOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const url = new URL(request.url ?? "/", "https://kubelet");
  const [, what, namespace, pod, container] = url.pathname.split("/").map(decodeURIComponent);
  if (what === "healthz") {
    response.writeHead(200, { "content-type": "text/plain" }).end("ok");
    return;
  }
  if (request.method !== "GET") throw new Refusal(405, "method not allowed");
  if (what === "pods") {
    const items = options.workers().map(({ pod }) => pod);
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ kind: "PodList", apiVersion: "v1", metadata: {}, items }));
    return;
  }
  if (what === "containerLogs" && container) {
    await sendLog(options, url, find(options, `${namespace}/${pod}`, container), request, response);
    return;
  }
  throw new Refusal(404, `404 page not found`);
}

/** The pod's container, or a Refusal with the kubelet's words. */
export function find(options: ServerOptions, pod: string, container: string) {
  const found = findPod(options, pod);
  const of = found.container(container);
  if (!of) throw new Refusal(404, `container ${container} not found in pod ${pod}`);
  return { worker: found, container: of };
}

/** The pod, or a Refusal with the kubelet's words. */
export function findPod({ worker }: ServerOptions, pod: string): PodWorker {
  const found = worker(pod);
  if (!found) throw new Refusal(404, `pod "${pod}" does not exist`);
  return found;
}

/** PodLogOptions.stream. */
const streams: Record<string, OutputStream | undefined> = { Stdout: "stdout", Stderr: "stderr" };

async function sendLog(
  { world }: ServerOptions,
  url: URL,
  { container, worker }: ReturnType<typeof find>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const query = url.searchParams;
  const flag = (name: string) => ["true", "1"].includes(query.get(name) ?? "");
  const number = (name: string) => (query.has(name) ? Number(query.get(name)) : undefined);
  const log: LogOptions = {
    follow: flag("follow"),
    timestamps: flag("timestamps"),
    ...optional("tailLines", number("tailLines")),
    ...optional("sinceSeconds", number("sinceSeconds")),
    ...optional("limitBytes", number("limitBytes")),
    ...optional("stream", streams[query.get("stream") ?? "All"]),
    ...optional("sinceTime", query.get("sinceTime") ?? undefined),
  };
  const previous = flag("previous");
  const instance: RunningContainer | undefined = previous ? previousOf(container) : container.current;
  const podName = worker.pod.metadata.name;
  if (!instance && previous) {
    throw new Refusal(400, `previous terminated container "${container.name}" in pod "${podName}" not found`);
  }
  if (!instance) {
    const { reason = "ContainerCreating" } = container.waiting ?? {};
    const why = /^(Err|.*BackOff)/.test(reason) ? "trying and failing to pull image" : reason;
    throw new Refusal(400, `container "${container.name}" in pod "${podName}" is waiting to start: ${why}`);
  }
  response.writeHead(200, { "content-type": "text/plain", "transfer-encoding": "chunked" });
  response.flushHeaders();
  const gone = new AbortController();
  request.on("close", () => gone.abort());
  response.on("close", () => gone.abort());
  const source = {
    onWritten: (listener: () => void) => {
      const off = instance.log.onWritten(listener);
      void instance.exited.then(listener);
      return off;
    },
    ended: () => instance.exit !== undefined,
  };
  for await (const chunk of readLog(instance.record.log, log, world, source, gone.signal)) {
    if (!response.write(chunk)) {
      await new Promise<void>((resolve) => {
        response.once("drain", resolve);
        response.once("close", resolve);
      });
    }
  }
  response.end();
}

/** The instance before the one that runs, or the one that ended and waits for the next. */
function previousOf(container: ReturnType<typeof find>["container"]): RunningContainer | undefined {
  return container.waiting && container.current?.exit ? container.current : container.last;
}

function optional<K extends string, V>(name: K, value: V | undefined): { [key in K]?: V } {
  return (value === undefined ? {} : { [name]: value }) as { [key in K]?: V };
}
