/**
 * The images of `gateway` and `partner`: asks `--next` and puts its own `--name` before the answer. Where the next one
 * answers with an error, or not at all, the answer is 503 with the status that was met and what came with it:
 * `gateway => 503 partner => 503`.
 */
import { Agent, type IncomingMessage, request } from "node:http";
import { type Answer, serve } from "./serve.ts";

/** What ties the requests of one call together: trace ids, as W3C and Zipkin write them, and Envoy's own. */
const passedOn = /^(x-request-id|x-b3-.*|b3|traceparent|tracestate|baggage|x-ot-span-context|end-user)$/;
const agent = new Agent({ keepAlive: true });
const patience = 10_000;

serve({ name: "hop", next: "http://127.0.0.1:8081" }, async ({ name, next }, incoming): Promise<Answer> => {
  try {
    const { status, text } = await ask(new URL(next), incoming);
    if (status < 400) return { text: `${name} => ${text}\n` };
    return { status: 503, text: `${`${name} => ${status} ${text}`.trimEnd()}\n` };
  } catch (error) {
    return { status: 503, text: `${name} => ${error instanceof Error ? error.message : String(error)}\n` };
  }
});

/** Status and trimmed body of the answer. */
function ask(url: URL, incoming: IncomingMessage): Promise<{ status: number; text: string }> {
  const headers = Object.fromEntries(
    Object.entries(incoming.headers).filter(([header]) => passedOn.test(header)),
  );
  const options = { agent, headers: { ...headers, accept: "*/*" }, timeout: patience };
  return new Promise((resolve, reject) => {
    const asked = request(url, options, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        text += chunk;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text: text.trim() }));
      response.on("error", reject);
    });
    asked.on("timeout", () => asked.destroy(new Error(`no answer from ${url.host} within ${patience} ms`)));
    asked.on("error", (error) => {
      // A connection that was kept may have been closed just now: nothing was answered on it, so ask again.
      if (asked.reusedSocket && (error as NodeJS.ErrnoException).code === "ECONNRESET") {
        ask(url, incoming).then(resolve, reject);
      } else reject(error);
    });
    asked.end();
  });
}
