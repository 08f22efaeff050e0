/** Reading response bodies: whole, or line by line as a watch sends them. */

/** A line longer than this is not an API object (etcd refuses objects over 1.5 MB) but garbage, in bytes. */
const longestLine = 16 * 1024 * 1024;

/** The whole body as text; throws when it is longer than `longest` bytes. */
export async function readAll(body: AsyncIterable<Uint8Array>, longest: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of body) {
    length += chunk.length;
    if (length > longest) throw new Error(`the server sent more than ${megabytes(longest)}`);
    chunks.push(chunk);
  }
  return text(chunks);
}

const megabytes = (bytes: number) => `${Math.round(bytes / 1024 / 1024)} MB`;

/**
 * Cuts a body into lines, chunk by chunk. A last line without its newline is what a broken connection leaves behind:
 * it is never given out.
 */
export class Lines {
  readonly #most: number;
  #rest: Uint8Array[] = [];
  #restLength = 0;

  /** `longest`: most bytes of a line that is not complete yet. */
  constructor(longest = longestLine) {
    this.#most = Math.min(longest, longestLine);
  }

  /** The lines that this chunk completes, without empty ones. */
  take(chunk: Uint8Array): string[] {
    const end = chunk.lastIndexOf(0x0a);
    if (end < 0) {
      this.#rest.push(chunk);
      this.#restLength += chunk.length;
      if (this.#restLength > this.#most) {
        throw new Error(`the server sent a line of more than ${megabytes(this.#most)}`);
      }
      return [];
    }
    this.#rest.push(chunk.subarray(0, end));
    const complete = text(this.#rest)
      .split("\n")
      .filter((line) => line.trim() !== "");
    this.#rest = end + 1 < chunk.length ? [chunk.subarray(end + 1)] : [];
    this.#restLength = chunk.length - end - 1;
    return complete;
  }
}

function text(chunks: readonly Uint8Array[]): string {
  const only = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
  return Buffer.from(only.buffer, only.byteOffset, only.byteLength).toString("utf8");
}
