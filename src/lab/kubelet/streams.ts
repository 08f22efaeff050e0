/**
 * Upgrades of the kubelet's HTTPS API: exec, attach and port-forward, over WebSocket and over SPDY/3.1, the older
 * protocol, which kube-apiserver dials kubelets with. Source: kubernetes `pkg/kubelet/server/server.go`,
 * `k8s.io/streaming/pkg/httpstream/httpstream.go`, KEP-4006.
 */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { createWebSocketStream, WebSocketServer } from "ws";
import { type Channels, failure, readStreamRequest } from "./channels.ts";
import { SpdyStreams, spdyProtocols } from "./channels-spdy.ts";
import { webSocketChannels, webSocketProtocols } from "./channels-websocket.ts";
import { type ForwardedPod, portForwardProtocol, servePortForward } from "./port-forward.ts";
import { forwardedPorts, servePortForwardChannels } from "./port-forward-channels.ts";
import { serveAttach, serveExec } from "./remote-command.ts";
import { find, findPod, Refusal, type ServerOptions } from "./server.ts";
import { SpdySession } from "./spdy/index.ts";

const spdy = "SPDY/3.1";
const channels = "v4.channel.k8s.io";
const tunnel = `${spdy}+${portForwardProtocol}`;

const sockets = new WebSocketServer({
  noServer: true,
  handleProtocols: (offered) => webSocketProtocols.find((protocol) => offered.has(protocol)) ?? false,
});
const tunnels = new WebSocketServer({ noServer: true });
tunnels.on("headers", (headers) => headers.push(`Sec-WebSocket-Protocol: ${tunnel}`));

/** The connection of an upgrade request, which has been answered by nothing yet. */
interface Upgrade {
  request: IncomingMessage;
  socket: Duplex;
  head: Buffer;
}

/** Answers upgrade requests. */
export function serveStreams(options: ServerOptions) {
  return (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    socket.on("error", () => {});
    const upgrade = { request, socket, head };
    try {
      const url = new URL(request.url ?? "/", "https://kubelet");
      const [, what, namespace, name, container] = url.pathname.split("/").map(decodeURIComponent);
      const pod = `${namespace}/${name}`;
      if (what === "portForward" && name) {
        upgradePortForward(upgrade, forwardedPod(options, pod), url.searchParams);
      } else if ((what === "exec" || what === "attach") && container) {
        upgradeCommand(options, upgrade, what, pod, container, url.searchParams);
      } else throw new Refusal(404, "404 page not found");
    } catch (error) {
      refuse(socket, error);
    }
  };
}

function refuse(socket: Duplex, error: unknown): void {
  const refusal = error instanceof Refusal ? error : new Refusal(500, (error as Error).message);
  const text = `${refusal.message}\n`;
  const headers = Object.entries(refusal.headers)
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join("");
  socket.end(
    `HTTP/1.1 ${refusal.code} Refused\r\ncontent-type: text/plain\r\ncontent-length: ${Buffer.byteLength(text)}\r\n${headers}connection: close\r\n\r\n${text}`,
  );
}

function upgradeCommand(
  options: ServerOptions,
  upgrade: Upgrade,
  what: "exec" | "attach",
  pod: string,
  name: string,
  query: URLSearchParams,
): void {
  const { container } = find(options, pod, name);
  const instance = container.current;
  if (!instance || instance.exit || instance.pid === undefined) {
    throw new Refusal(500, `container not found ("${name}")`);
  }
  const wanted = readStreamRequest(query);
  const serve = (channels: Channels) => {
    const served =
      what === "exec" ? serveExec(channels, instance, wanted) : serveAttach(channels, instance, wanted);
    served.catch((error: unknown) => channels.end(failure((error as Error).message)));
  };
  if (isSpdy(upgrade.request)) {
    const protocol = negotiate(upgrade.request, spdyProtocols);
    const streams = new SpdyStreams(wanted, protocol);
    const session = new SpdySession(switchProtocols(upgrade, protocol), {
      role: "server",
      onStream: streams.onStream,
    });
    streams.channels(session, protocol).then(serve, () => session.close());
  } else {
    negotiateWebSocket(upgrade.request, webSocketProtocols);
    sockets.handleUpgrade(upgrade.request, upgrade.socket, upgrade.head, (socket) =>
      serve(webSocketChannels(socket, wanted)),
    );
  }
}

function forwardedPod(options: ServerOptions, name: string): ForwardedPod {
  const worker = findPod(options, name);
  const { network } = worker;
  if (!network) throw new Refusal(400, `unable to do port forwarding: pod ${name} is not running`);
  return { name, uid: worker.uid, namespace: network.namespace };
}

/** SPDY, also in the binary messages of a WebSocket (KEP-4006, "tunneling"), or WebSocket channels. */
function upgradePortForward(upgrade: Upgrade, pod: ForwardedPod, query: URLSearchParams): void {
  if (isSpdy(upgrade.request)) {
    const protocol = negotiate(upgrade.request, [portForwardProtocol]);
    servePortForward(switchProtocols(upgrade, protocol), pod);
  } else {
    negotiateWebSocket(upgrade.request, [tunnel, channels]);
    if (!words(upgrade.request.headers["sec-websocket-protocol"]).includes(tunnel)) {
      const ports = forwardedPorts(query);
      if (!ports) throw new Refusal(400, 'query parameter "port" is required: ports to forward');
      sockets.handleUpgrade(upgrade.request, upgrade.socket, upgrade.head, (socket) =>
        servePortForwardChannels(socket, pod, ports),
      );
      return;
    }
    // The name has a slash, which no subprotocol may have (RFC 6455, section 4.1): it is agreed on here.
    delete upgrade.request.headers["sec-websocket-protocol"];
    tunnels.handleUpgrade(upgrade.request, upgrade.socket, upgrade.head, (socket) =>
      servePortForward(createWebSocketStream(socket), pod),
    );
  }
}

const isSpdy = (request: IncomingMessage) => request.headers.upgrade?.toLowerCase() === spdy.toLowerCase();

const words = (header: string | string[] | undefined) =>
  [header ?? ""]
    .flat()
    .flatMap((line) => line.split(","))
    .map((word) => word.trim())
    .filter(Boolean);

/** The first protocol that the client names and that is served. */
function negotiate({ headers }: IncomingMessage, served: readonly string[]): string {
  const offered = words(headers["x-stream-protocol-version"]);
  if (offered.length === 0) {
    throw new Refusal(400, "unable to upgrade: header X-Stream-Protocol-Version is missing or empty");
  }
  const found = offered.find((protocol) => served.includes(protocol));
  if (found) return found;
  throw new Refusal(
    403,
    `unable to upgrade: unable to negotiate protocol: client supports ${offered}, server accepts ${served}`,
    { "X-Accepted-Stream-Protocol-Versions": served.join(", ") },
  );
}

/** Answers the upgrade to SPDY and gives the connection. */
function switchProtocols({ socket, head }: Upgrade, protocol: string): Duplex {
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${spdy}\r\nX-Stream-Protocol-Version: ${protocol}\r\n\r\n`,
  );
  if (head.length > 0) socket.unshift(head);
  return socket;
}

function negotiateWebSocket({ headers }: IncomingMessage, served: readonly string[]): void {
  const offered = words(headers["sec-websocket-protocol"]);
  if (offered.some((protocol) => served.includes(protocol))) return;
  throw new Refusal(400, `none of the offered subprotocols is served: ${served.join(", ")}`);
}
