/**
 * The API server as a client of kubelets: logs, exec, attach and port-forward. Everything that it sends there it has
 * authorized before; kubelets know it by its client certificate.
 */
import type { ClientRequest, IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import type { Duplex } from "node:stream";
import { joinSockets } from "../../sockets.ts";
import type { Core, Reply, ResourceCall } from "../core.ts";
import { badRequest, internalError, StatusError, serviceUnavailable } from "../status.ts";
import { type KubeletAddress, type Target, targetOf } from "./containers.ts";

/** With what kubelets are called, PEM. */
export interface KubeletClient {
  cert: string;
  key: string;
  /** Signs the kubelets' certificates. */
  ca: string;
}

/** How long a kubelet may take to answer at all, in milliseconds. */
const patience = 10_000;

function open(
  core: Core,
  at: KubeletAddress,
  path: string,
  headers: Record<string, string>,
  method = "GET",
): ClientRequest {
  const { kubelet } = core;
  if (!kubelet) throw serviceUnavailable("this API server has no certificate to call kubelets with");
  return httpsRequest({ ...at, method, path, headers, ...kubelet, agent: false, timeout: patience });
}

const unreachable = (at: KubeletAddress, error: Error) =>
  internalError(`error dialing backend: dial tcp ${at.host}:${at.port}: ${error.message}`);

/** Parameters of a log request that the kubelet understands (core/v1 PodLogOptions). */
const logOptions = [
  "follow",
  "previous",
  "sinceSeconds",
  "sinceTime",
  "timestamps",
  "tailLines",
  "limitBytes",
  "stream",
];

/** `pods/NAME/log`: the kubelet's answer as it comes. */
export async function logs(core: Core, call: ResourceCall): Promise<Reply> {
  const { pod, container, kubelet } = targetOf(core, call);
  const query = new URLSearchParams();
  for (const name of logOptions) {
    const value = call.query.get(name);
    if (value !== null) query.set(name, value);
  }
  checkNumbers(query);
  const { namespace, name } = pod.metadata;
  const path = `/containerLogs/${namespace}/${name}/${container}${query.size > 0 ? `?${query}` : ""}`;
  const response = await answered(open(core, kubelet, path, {}), kubelet, call.signal);
  if (response.statusCode! >= 300) throw refusedBy(response.statusCode!, await text(response));
  return {
    status: 200,
    headers: { "content-type": "text/plain", "cache-control": "no-cache, private" },
    body: response,
  };
}

function checkNumbers(query: URLSearchParams): void {
  for (const name of ["tailLines", "sinceSeconds", "limitBytes"]) {
    const value = query.get(name);
    if (value !== null && !/^[0-9]+$/.test(value)) throw badRequest(`${name}: ${value} is not a number`);
  }
}

/** Sends the request and waits for the head of the response. */
function answered(
  request: ClientRequest,
  at: KubeletAddress,
  signal: AbortSignal | undefined,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const abort = () => request.destroy();
    signal?.addEventListener("abort", abort, { once: true });
    request.on("close", () => signal?.removeEventListener("abort", abort));
    request.on("timeout", () => request.destroy(new Error("i/o timeout")));
    request.on("error", (error) => reject(unreachable(at, error)));
    request.on("response", (response) => {
      // From here on silence is normal: a log that is followed may have nothing to say.
      request.setTimeout(0);
      resolve(response);
    });
    request.end();
  });
}

/** A kubelet's refusal as a Status (apiserver `pkg/registry/generic/rest/response_checker.go`). */
function refusedBy(code: number, message: string): StatusError {
  const said = message.trim();
  try {
    const status = JSON.parse(said) as { kind?: string; message?: string; reason?: string; code?: number };
    if (status.kind === "Status") {
      return new StatusError(status.code ?? code, status.reason ?? "InternalError", status.message ?? said);
    }
  } catch {
    // Plain text, as kubelets answer.
  }
  if (code === 400) return badRequest(said);
  if (code === 404)
    return new StatusError(404, "NotFound", said || "the server could not find the requested resource");
  if (code >= 500) return internalError(said);
  return new StatusError(code, code === 403 ? "Forbidden" : "Unknown", said);
}

async function text(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of response as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

/** The kubelet's path of an exec, attach or port-forward. */
function streamPath(call: ResourceCall, { pod, container }: Target): string {
  const { namespace, name } = pod.metadata;
  if (call.route.subresource === "portforward") {
    // Only WebSocket channels name the ports here; SPDY has them in its streams.
    const ports = call.query.getAll("ports").map((port) => `port=${encodeURIComponent(port)}`);
    return `/portForward/${namespace}/${name}${ports.length > 0 ? `?${ports.join("&")}` : ""}`;
  }
  const query = new URLSearchParams();
  const on = (name: string) => ["1", "true"].includes(call.query.get(name) ?? "");
  if (on("stdin")) query.set("input", "1");
  if (on("stdout")) query.set("output", "1");
  if (on("stderr") && !on("tty")) query.set("error", "1");
  if (on("tty")) query.set("tty", "1");
  if (call.route.subresource === "exec") {
    const command = call.query.getAll("command");
    if (command.length === 0) throw badRequest("you must specify at least one command for the container");
    for (const word of command) query.append("command", word);
  }
  if (query.size === 0 || !["input", "output", "error"].some((name) => query.has(name))) {
    throw badRequest("you must specify at least 1 of stdin, stdout, stderr");
  }
  return `/${call.route.subresource}/${namespace}/${name}/${container}?${query}`;
}

const passedOn = [
  "connection",
  "upgrade",
  "sec-websocket-key",
  "sec-websocket-version",
  "sec-websocket-protocol",
  "sec-websocket-extensions",
  "x-stream-protocol-version",
  "origin",
];

/**
 * Exec, attach or port-forward: asks the kubelet for the same upgrade with the client's own handshake, WebSocket or
 * SPDY, and joins the two connections. Throws when the kubelet refuses; nothing has been written to the client then.
 */
export async function stream(core: Core, call: ResourceCall, client: Duplex, head: Buffer): Promise<void> {
  const asked = (call.headers.upgrade ?? "").toLowerCase();
  if (asked !== "websocket" && asked !== "spdy/3.1")
    throw badRequest(`unable to upgrade to ${asked || "nothing"}`);
  const target = targetOf(core, call);
  const phase = target.pod.status?.phase;
  if (phase === "Succeeded" || phase === "Failed") {
    throw badRequest(
      call.route.subresource === "portforward"
        ? `unable to forward port because pod is not running. Current status=${phase}`
        : `cannot ${call.route.subresource} into a container in a completed pod; current phase is ${phase}`,
    );
  }
  const headers: Record<string, string> = {};
  for (const name of passedOn) if (call.headers[name] !== undefined) headers[name] = call.headers[name];
  const request = open(core, target.kubelet, streamPath(call, target), headers, call.method);
  const { response, socket, rest } = await new Promise<{
    response: IncomingMessage;
    socket: Duplex;
    rest: Buffer;
  }>((resolve, reject) => {
    client.once("close", () => request.destroy());
    request.on("timeout", () => request.destroy(new Error("i/o timeout")));
    request.on("error", (error) => reject(unreachable(target.kubelet, error)));
    request.on("response", (refusal) => {
      text(refusal).then((said) => reject(refusedBy(refusal.statusCode!, said)), reject);
    });
    request.on("upgrade", (response, socket, rest) => resolve({ response, socket, rest }));
    request.end();
  });
  let answer = "HTTP/1.1 101 Switching Protocols\r\n";
  for (let i = 0; i < response.rawHeaders.length; i += 2) {
    answer += `${response.rawHeaders[i]}: ${response.rawHeaders[i + 1]}\r\n`;
  }
  client.write(Buffer.concat([Buffer.from(`${answer}\r\n`), rest]));
  if (head.length > 0) socket.write(head);
  for (const end of [client, socket]) {
    (end as { setTimeout?: (ms: number) => void }).setTimeout?.(0);
    (end as { setNoDelay?: (on: boolean) => void }).setNoDelay?.(true);
  }
  joinSockets(client, socket);
}
