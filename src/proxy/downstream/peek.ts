/** Reads as many bytes of a new connection as the inspectors need, and keeps them for whoever takes it. */
import type { Socket } from "node:net";
import type { Timer, World } from "../../world/index.ts";
import { type ClientHello, readClientHello, readHttp } from "./hello.ts";

export interface Peeked {
  head: Buffer;
  hello: ClientHello | undefined;
  http: "http/1.0" | "http/1.1" | "h2c" | undefined;
}

export interface PeekOptions {
  tls: boolean;
  http: boolean;
  /** ms; 0: as long as it takes. */
  timeout: number;
  /** Go on with what is known then, instead of closing. */
  goOn: boolean;
}

/** Calls `done` once, with undefined when the connection is over: closed by the peer, or too slow. */
export function peek(
  world: World,
  socket: Socket,
  options: PeekOptions,
  done: (peeked: Peeked | undefined) => void,
): void {
  let head: Buffer = Buffer.alloc(0);
  let timer: Timer | undefined;
  const finish = (peeked: Peeked | undefined) => {
    timer?.cancel();
    socket.off("data", onData);
    socket.off("end", onEnd);
    socket.off("error", onGone);
    socket.off("close", onGone);
    socket.pause();
    if (!peeked) socket.on("error", () => undefined).destroy();
    done(peeked);
  };
  const judge = (noMore: boolean) => {
    const hello = options.tls ? readClientHello(head) : undefined;
    if (hello === "undecided" && !noMore) return;
    const tls = hello === "undecided" ? undefined : hello;
    const http = options.http && !tls ? readHttp(head) : undefined;
    if (http === "undecided" && !noMore) return;
    finish({ head, hello: tls, http: http === "undecided" ? undefined : http });
  };
  const onData = (chunk: Buffer) => {
    head = head.length === 0 ? chunk : Buffer.concat([head, chunk]);
    judge(false);
  };
  // The peer has said all that it will: with something it may be answered, with nothing it went away.
  const onEnd = () => (head.length > 0 ? judge(true) : finish(undefined));
  const onGone = () => finish(undefined);
  socket.on("data", onData);
  socket.on("end", onEnd);
  socket.on("error", onGone);
  socket.on("close", onGone);
  if (options.timeout > 0) {
    timer = world.after(options.timeout, () => (options.goOn ? judge(true) : finish(undefined)));
  }
  socket.resume();
}
