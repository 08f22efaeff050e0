/**
 * Channels over WebSocket, subprotocols `v5.channel.k8s.io` and `v4.channel.k8s.io`: the first byte of each message
 * is the channel. Source: kubernetes `k8s.io/apimachinery/pkg/util/remotecommand/constants.go`, KEP-4006.
 */
import { Readable, Writable } from "node:stream";
import type { WebSocket } from "ws";
import type { Status } from "../../api/index.ts";
import { type Channels, Sizes, type StreamRequest } from "./channels.ts";

const channel = { stdin: 0, stdout: 1, stderr: 2, error: 3, resize: 4, close: 255 } as const;

/** What is served, the best first. */
export const webSocketProtocols = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

export function webSocketChannels(socket: WebSocket, request: StreamRequest): Channels {
  const sizes = new Sizes();
  // While nobody reads the input nothing more is read: the client waits.
  const stdin = request.stdin ? new Readable({ read: () => socket.resume() }) : undefined;
  let inputEnded = stdin === undefined;
  const endInput = () => {
    if (!inputEnded) stdin?.push(null);
    inputEnded = true;
  };
  socket.on("error", () => {});
  socket.on("message", (message: Buffer) => {
    const data = message.subarray(1);
    if (message[0] === channel.stdin) {
      if (data.length > 0 && !inputEnded && !stdin?.push(data)) socket.pause();
    } else if (message[0] === channel.resize) sizes.push(data);
    else if (message[0] === channel.close && data[0] === channel.stdin) endInput();
  });
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  void closed.then(endInput);
  const send = (to: number, data: Buffer, done: () => void) => {
    if (socket.readyState !== socket.OPEN) return done();
    socket.send(Buffer.concat([Buffer.from([to]), data]), { binary: true }, () => done());
  };
  const output = (to: number) =>
    new Writable({ write: (chunk: Buffer, _encoding, done) => send(to, chunk, done) });
  let ended = false;
  return {
    stdin,
    stdout: request.stdout ? output(channel.stdout) : undefined,
    stderr: request.stderr ? output(channel.stderr) : undefined,
    closed,
    onResize: (handle) => sizes.onResize(handle),
    end(status: Status) {
      if (ended) return;
      ended = true;
      send(channel.error, Buffer.from(JSON.stringify(status)), () => {});
      // The client's part of the closing handshake may be behind input that nobody reads any more.
      inputEnded = true;
      stdin?.destroy();
      socket.resume();
      socket.close(1000);
    },
    drop: () => socket.terminate(),
  };
}
