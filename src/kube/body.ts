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
 * The complete lines that each chunk of the body brought, without empty ones. A last line without its newline
 * is what a broken connection leaves behind and is dropped.
 */
export async function* lines(
  body: AsyncIterable<Uint8Array>,
  longest = longestLine,
): AsyncGenerator<string[]> {
  const most = Math.min(longest, longestLine);
  let rest: Uint8Array[] = [];
  let restLength = 0;
  for await (const chunk of body) {
    const end = chunk.lastIndexOf(0x0a);
    if (end < 0) {
      rest.push(chunk);
      restLength += chunk.length;
      if (restLength > most) throw new Error(`the server sent a line of more than ${megabytes(most)}`);
      continue;
    }
    rest.push(chunk.subarray(0, end));
    const complete = text(rest)
      .split("\n")
      .filter((line) => line.trim() !== "");
    rest = end + 1 < chunk.length ? [chunk.subarray(end + 1)] : [];
    restLength = chunk.length - end - 1;
    if (complete.length > 0) yield complete;
  }
}

function text(chunks: readonly Uint8Array[]): string {
  const only = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
  return Buffer.from(only.buffer, only.byteOffset, only.byteLength).toString("utf8");
}
