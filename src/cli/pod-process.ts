/** What the processes in Weft's pods (control plane, discovery) have in common: client, log, HTTP, their end. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Why } from "../collections/index.ts";
import {
  type FieldSink,
  inClusterCredentials,
  KubeClient,
  loadKubeconfig,
  type ObjectSink,
  transportFor,
} from "../kube/index.ts";
import { realWorld, sleep } from "../world/index.ts";

/** A client of the cluster that this process is in, or of a kubeconfig's context when one is named. */
export function ownCluster(options: { kubeconfig?: string; context?: string }): KubeClient {
  const credentials =
    options.kubeconfig || options.context
      ? loadKubeconfig(options.kubeconfig).credentials(options.context)
      : inClusterCredentials();
  return new KubeClient({
    transport: transportFor(credentials),
    world: realWorld(),
    cluster: "this cluster",
    server: credentials.server,
  });
}

/** One line on standard output, with the time. */
export function log(line: string, error?: unknown): void {
  const detail = error === undefined ? "" : `: ${error instanceof Error ? error.message : String(error)}`;
  console.log(`${new Date(realWorld().now()).toISOString()} ${line}${detail}`);
}

/** Status and body: a string is said as text, everything else as JSON. */
export type HttpAnswer = [status: number, body: unknown];

/** Binds; rejects when the address cannot be had. */
export function listen(
  server: {
    once(event: "error", listener: (error: Error) => void): unknown;
    listen(port: number, address: string, done: () => void): unknown;
  },
  port: number,
  address: string,
): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, address, resolve);
  });
}

/**
 * Health, metrics and debugging, for GET only. Everybody in the cluster may ask, so whatever is asked ends its own
 * request and nothing else.
 */
export async function serveHttp(
  { port, address }: { port: number; address: string },
  answer: (path: string, query: URLSearchParams) => HttpAnswer,
): Promise<Server> {
  const server = createServer((request, response) => send(response, answerTo(request, answer)));
  await listen(server, port, address);
  return server;
}

function answerTo(
  { method, url = "/" }: IncomingMessage,
  answer: (path: string, query: URLSearchParams) => HttpAnswer,
): HttpAnswer {
  if (method !== "GET") return [405, "only GET"];
  const question = url.indexOf("?");
  const path = question < 0 ? url : url.slice(0, question);
  try {
    return answer(path, new URLSearchParams(question < 0 ? "" : url.slice(question + 1)));
  } catch (error) {
    log(`bug in answering GET ${path}`, error);
    return [500, "this is a bug: the log says more"];
  }
}

function send(response: ServerResponse, [status, body]: HttpAnswer): void {
  const text = typeof body === "string" ? `${body.trimEnd()}\n` : `${JSON.stringify(body, undefined, 2)}\n`;
  const type = typeof body === "string" ? "text/plain" : "application/json";
  response.writeHead(status, { "content-type": type }).end(text);
}

interface Explained {
  why(collection: string, key: string): Why | undefined;
  readonly collections: ReadonlyMap<string, { readonly size: number }>;
}

/** `/debug/why?collection=&key=`: the tree of inputs behind a row. */
export function whyAnswer(of: Explained, query: URLSearchParams): HttpAnswer {
  const tree = of.why(query.get("collection") ?? "", query.get("key") ?? "");
  return tree ? [200, tree] : [404, { error: "no such collection", known: [...of.collections.keys()] }];
}

/** Of `/debug/state`: how many rows there are, and what is being written. */
export function stateOf(of: Explained & { readonly sinks: ReadonlyMap<string, ObjectSink | FieldSink> }) {
  const sinks = [...of.sinks].map(([name, sink]) => {
    const { lag, waiting, held, writes } = sink;
    return [name, { lag, waiting, held, conflicts: sink.conflicts.size, writes }];
  });
  return {
    collections: Object.fromEntries([...of.collections].map(([name, { size }]) => [name, size])),
    sinks: Object.fromEntries(sinks) as Record<string, unknown>,
    memory: process.memoryUsage(),
  };
}

/** The next leader need not wait; nor do we for ever. */
export async function resigned(leader: { resign(): Promise<void> } | undefined): Promise<void> {
  await Promise.race([leader?.resign(), sleep(realWorld(), 1_000)]).catch(() => {});
}
