/** Requests of the durability test and its writer. */
import type { Transport } from "../../src/kube/index.ts";

export const maps = "/api/v1/namespaces/default/configmaps";

// biome-ignore lint/suspicious/noExplicitAny: tests look into answers of any shape
export type Loose = any;

export async function send(
  transport: Transport,
  method: "GET" | "POST" | "PATCH" | "DELETE",
  path: string,
  content?: object,
): Promise<{ code: number; body: Loose }> {
  const headers = {
    "content-type": method === "PATCH" ? "application/merge-patch+json" : "application/json",
  };
  const { status, body } = await transport({
    method,
    path,
    headers,
    ...(content && { body: JSON.stringify(content) }),
  });
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return { code: status, body: JSON.parse(Buffer.concat(chunks).toString()) };
}

/** The lines of a watch. */
export async function* jsonLines(body: AsyncIterable<Uint8Array>): AsyncGenerator<Loose> {
  let rest = "";
  for await (const chunk of body) {
    const parts = (rest + Buffer.from(chunk).toString()).split("\n");
    rest = parts.pop()!;
    for (const part of parts) yield JSON.parse(part);
  }
}
