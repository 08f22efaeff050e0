/** What the applications of coolapp have in common: a port, `/health`, and a good end on SIGTERM. */
import { createServer, type IncomingMessage } from "node:http";
import { parseDuration, readFlags } from "../../flags.ts";

/** What is answered to a request: text, with status 200 unless told. */
export interface Answer {
  status?: number;
  text: string;
}

/**
 * Listens on `--port` (8080) and answers every path but `/health` with what `answer` makes of the request. SIGTERM comes
 * while others still call it, for not everybody has heard that this pod goes: so for `--linger` (a second) it goes on,
 * asking its clients to close their connections; then it takes no new ones and ends with the last request.
 */
export function serve<F extends string>(
  defaults: Record<F, string>,
  answer: (flags: Record<F, string>, request: IncomingMessage) => Answer | Promise<Answer>,
): void {
  const flags = readFlags<string>({ port: "8080", linger: "1s", ...defaults }) as Record<
    F | "port" | "linger",
    string
  >;
  let ending = false;
  const server = createServer((request, response) => {
    const send = ({ status = 200, text }: Answer) => {
      if (ending) response.setHeader("connection", "close");
      response.writeHead(status, {
        "content-type": "text/plain;charset=UTF-8",
        "content-length": Buffer.byteLength(text),
      });
      response.end(text);
    };
    if (request.url === "/health") return send({ text: "UP\n" });
    Promise.resolve(answer(flags, request)).then(send, (error: unknown) =>
      send({ status: 500, text: `${String(error)}\n` }),
    );
  });
  server.on("error", (error) => {
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  });
  // Longer than the proxies before it keep an idle connection, so that none of them meets one that is just closing.
  server.keepAliveTimeout = 3_700_000;
  server.listen(Number(flags.port), () => console.log(`listening on port ${flags.port}`));
  // As the first process of its container it gets no default action for signals.
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.once(signal, () => {
      ending = true;
      setTimeout(() => {
        server.close();
        server.closeIdleConnections();
      }, parseDuration(flags.linger) ?? 0);
    });
  }
}
