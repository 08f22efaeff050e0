/** Ports for programs that tests start and that must be told one. */
import { once } from "node:events";
import { createServer } from "node:net";

/** Below those that the kernel gives to connections: one of these could be another's by the time that a program listens. */
const [lowest, highest] = [20_000, 30_000];

let next = lowest + ((process.pid * 17) % (highest - lowest));

/** A port of TCP on 127.0.0.1 that nobody listens on; in one process each call gives another. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = next;
    next = next === highest ? lowest : next + 1;
    const server = createServer();
    const free = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => resolve(true));
    });
    if (!free) continue;
    server.close();
    await once(server, "close");
    return port;
  }
}
