/**
 * port-forward over WebSocket channels, `v4.channel.k8s.io`, as Kubernetes' libraries for JavaScript and Rust speak it:
 * one connection for each port that the request names, with a channel for data and one for the error that may come.
 * Each channel begins with the port, and an end is the end of both directions. Source: kubernetes
 * `k8s.io/cri-streaming/pkg/streaming/portforward/websocket.go`.
 */
import type { Socket } from "node:net";
import type { WebSocket } from "ws";
import { dialInto } from "./pod-dialer.ts";
import { type ForwardedPod, forwardFailure } from "./port-forward.ts";

/** Reads `?port=80&port=81,82`. Undefined when there is none, or one that cannot be. */
export function forwardedPorts(query: URLSearchParams): number[] | undefined {
  const words = query.getAll("port").flatMap((list) => list.split(","));
  // Channels are numbered by a byte, and every port has two.
  if (words.length === 0 || words.length > 127) return undefined;
  const ports = words.map((word) => (/^[0-9]{1,5}$/.test(word) ? Number(word) : 0));
  return ports.every((port) => port > 0 && port < 65536) ? ports : undefined;
}

/** Serves until all connections have ended, or the client goes. */
export function servePortForwardChannels(
  socket: WebSocket,
  pod: ForwardedPod,
  ports: readonly number[],
): void {
  const dialer = dialInto(pod.namespace);
  socket.on("error", () => {});
  socket.on("close", () => dialer.close());
  const send = (channel: number, data: Uint8Array) =>
    new Promise<void>((resolve) => {
      if (socket.readyState !== socket.OPEN) resolve();
      else socket.send(Buffer.concat([Buffer.from([channel]), data]), () => resolve());
    });
  const inputs = new Map<number, (data: Buffer) => void>();
  socket.on("message", (message: Buffer) => inputs.get(message[0] ?? 255)?.(message.subarray(1)));
  const forward = async (port: number, data: number) => {
    const start = Buffer.from([port & 0xff, port >> 8]);
    void send(data, start);
    void send(data + 1, start);
    // What the client says before there is a connection waits, and the client with it.
    const early: Buffer[] = [];
    inputs.set(data, (chunk) => {
      early.push(chunk);
      socket.pause();
    });
    let connection: Socket;
    try {
      connection = await dialer.connect(port);
    } catch (error) {
      inputs.delete(data);
      socket.resume();
      return send(data + 1, Buffer.from(forwardFailure(pod, port, error)));
    }
    socket.once("close", () => connection.destroy());
    connection.on("drain", () => socket.resume());
    const write = (chunk: Buffer) => {
      if (!connection.destroyed && !connection.write(chunk)) socket.pause();
    };
    inputs.set(data, write);
    early.forEach(write);
    if (!connection.writableNeedDrain) socket.resume();
    try {
      for await (const chunk of connection as AsyncIterable<Buffer>) await send(data, chunk);
    } catch {
      // A connection that broke off is one that ended: the protocol has no word for it.
    }
    connection.destroy();
    inputs.delete(data);
    socket.resume();
  };
  void Promise.all(ports.map((port, i) => forward(port, 2 * i))).then(() => socket.close(1000));
}
