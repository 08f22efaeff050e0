/** One HTTPS request with a token: how a workload asks for its certificate. */
import { request } from "node:https";

export type Post = (
  url: string,
  options: {
    /** Roots that discovery's certificate must lead to; PEM. */
    ca: string;
    token: string;
    body: unknown;
  },
) => Promise<{ status: number; body: string }>;

/** Milliseconds until it is given up. */
const patience = 10_000;
const longestAnswer = 1024 * 1024;

export const post: Post = (url, { ca, token, body }) =>
  new Promise((resolve, reject) => {
    const text = JSON.stringify(body);
    const headers = {
      authorization: `Bearer ${token}`,
      "content-type": "application/json",
      "content-length": Buffer.byteLength(text),
    };
    // No agent: requests are hours apart, and each is to see the roots and the address of its time.
    const sent = request(
      url,
      { method: "POST", ca, headers, agent: false, timeout: patience },
      (response) => {
        const chunks: Buffer[] = [];
        let length = 0;
        response.on("data", (chunk: Buffer) => {
          length += chunk.length;
          if (length > longestAnswer) sent.destroy(new Error("the answer is too long"));
          else chunks.push(chunk);
        });
        response.on("end", () =>
          resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() }),
        );
        response.on("error", reject);
      },
    );
    sent.on("timeout", () => sent.destroy(new Error("no answer in time")));
    sent.on("error", reject);
    sent.end(text);
  });
