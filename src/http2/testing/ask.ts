/** Requests of ours, for tests. */
import { eventually } from "../../../test/support/eventually.ts";
import type { ClosedBy, Connection } from "../index.ts";

export interface Answer {
  heads: string[][];
  body: Buffer;
  trailers: string[] | undefined;
  ended: boolean;
  closed: [code: number, by: ClosedBy] | undefined;
}

/** A request of ours, and what comes of it. */
export function ask(connection: Connection, path: string, end: boolean, method = "POST") {
  const answer: Answer = { heads: [], body: Buffer.alloc(0), trailers: undefined, ended: false, closed: undefined };
  const parts: Buffer[] = [];
  const head = [":method", method, ":scheme", "http", ":path", path, ":authority", "a"];
  const stream = connection.request(head, end, {
    head(fields, whole) {
      answer.heads.push(fields);
      answer.ended = whole;
    },
    data: (chunk) => void parts.push(Buffer.from(chunk)),
    end(trailers) {
      answer.trailers = trailers;
      answer.ended = true;
    },
    closed(code, by) {
      answer.body = Buffer.concat(parts);
      answer.closed = [code, by];
    },
  })!;
  return { stream, answer, over: () => eventually("the stream is over", () => answer.closed) };
} // biome-ignore format: one line

/** A body that no mistake in its order leaves as it is. */
export function bytes(seed: number, length: number): Buffer {
  const result = Buffer.alloc(length);
  for (let i = 0; i < length; i++) result[i] = i * (seed + 7) + (i >> 8);
  return result;
}
