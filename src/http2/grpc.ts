/**
 * What both ends of a gRPC stream share: messages, statuses, and whether the far end is there. Source:
 * grpc/doc/PROTOCOL-HTTP2.md.
 */
import type { Timer, World } from "../world/index.ts";
import type { Connection } from "./connection.ts";

/** grpc/doc/statuscodes.md, those that are used here. */
export const grpcStatus = {
  INVALID_ARGUMENT: 3,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  UNAUTHENTICATED: 16,
} as const;
export type GrpcStatus = (typeof grpcStatus)[keyof typeof grpcStatus];

/** Bytes before each message: whether it is compressed, and its length. */
const headLength = 5;
/** Parts below this are put together: one write costs more than copying them. */
const worthSharing = 16 * 1024;

/**
 * A message as it goes out: not compressed, its length in four bytes, its parts. They are not to be changed any more; so
 * many streams may send the same.
 */
export function framed(parts: readonly Uint8Array[]): readonly Buffer[] {
  let length = 0;
  for (const { byteLength } of parts) length += byteLength;
  const short = length < worthSharing;
  const first = Buffer.allocUnsafe(headLength + (short ? length : 0));
  first[0] = 0;
  first.writeUInt32BE(length, 1);
  if (!short)
    return [first, ...parts.map((part) => Buffer.from(part.buffer, part.byteOffset, part.byteLength))];
  let at = headLength;
  for (const part of parts) {
    first.set(part, at);
    at += part.byteLength;
  }
  return [first];
}

/** Cuts what comes into messages of at most `largest` bytes. Answers with what is wrong with it. */
export function messages(
  largest: number,
  give: (message: Buffer) => void,
): (chunk: Buffer) => [status: GrpcStatus, details: string] | undefined {
  /** Parts of a message that is not whole yet; undefined: mostly, as messages come whole. */
  let parts: Buffer[] | undefined;
  let have = 0;
  let wanted = 0;
  return (chunk) => {
    let rest = chunk;
    if (parts) {
      parts.push(chunk);
      have += chunk.length;
      if (have < wanted) return undefined;
      rest = Buffer.concat(parts, have);
      parts = undefined;
    }
    for (; rest.length > 0; rest = rest.subarray(wanted)) {
      wanted = headLength;
      if (rest.length >= headLength) {
        const length = rest.readUInt32BE(1);
        if (rest[0] !== 0) return [grpcStatus.UNIMPLEMENTED, "a compressed message, which was not asked for"];
        if (length > largest) return [grpcStatus.RESOURCE_EXHAUSTED, `a message of ${length} bytes`];
        wanted += length;
      }
      if (rest.length < wanted) {
        parts = [rest];
        have = rest.length;
        return undefined;
      }
      give(rest.subarray(headLength, wanted));
      if (rest.length === wanted) return undefined;
    }
    return undefined;
  };
}

/** A text as the value of `grpc-message`: all that is printable in ASCII stays, but `%`. */
export function grpcMessage(text: string): string {
  return text.toWellFormed().replace(/[^\x20-\x24\x26-\x7e]/gu, encodeURIComponent);
}

/** The value of a field that a message has once, of its flat list. */
export function fieldOf(fields: readonly string[], name: string): string | undefined {
  for (let i = 0; i < fields.length; i += 2) if (fields[i] === name) return fields[i + 1];
  return undefined;
}

/** A connection whose far end is gone is noticed within the sum of these, ms. */
const keepalive = { interval: 20_000, timeout: 10_000 };

/** Asks now and then whether the far end is there; calls `silent` when nobody answers. */
export function keepAlive(world: World, connection: Connection, silent: () => void): { cancel(): void } {
  let timer: Timer;
  const beat = () => {
    timer = world.after(keepalive.timeout, silent);
    connection.ping(() => {
      timer.cancel();
      if (!connection.over) timer = world.after(keepalive.interval, beat);
    });
  };
  timer = world.after(keepalive.interval, beat);
  return { cancel: () => timer.cancel() };
}
