/**
 * A process for the durability test: several callers write to an embedded server at once, a watcher watches, and
 * everything that was acknowledged or seen is told on stdout, until the process is killed.
 * `node durability-writer.ts FILE ROUND`
 */
import { writeSync } from "node:fs";
import { createApiServer } from "../../src/lab/apiserver/index.ts";
import { realWorld } from "../../src/world/index.ts";
import { jsonLines, maps, send } from "./durability-client.ts";

const [file, round] = process.argv.slice(2) as [string, string];
const world = realWorld();
const server = await createApiServer({
  world,
  cluster: "durable",
  storage: { kind: "sqlite", file },
  serviceRange: "10.11.0.0/16",
  advertise: { address: "172.18.0.1", port: 6443 },
});
const transport = server.as({ name: "admin", groups: ["system:masters"] });
const tell = (what: object) => writeSync(1, `${JSON.stringify(what)}\n`);

const callers = 6;
const namesEach = 3;

async function watch(): Promise<void> {
  const { metadata } = (await send(transport, "GET", maps)).body;
  const { body } = await transport({
    method: "GET",
    path: `${maps}?watch=1&resourceVersion=${metadata.resourceVersion}`,
  });
  for await (const { type, object } of jsonLines(body)) {
    tell({ saw: type, name: object.metadata.name, revision: Number(object.metadata.resourceVersion) });
  }
}

/** Each name has one caller, so the order of its writes is known: `intent` is told before, `done` after. */
async function write(caller: number): Promise<void> {
  for (let count = 0; ; count++) {
    const name = `n${caller}-${count % namesEach}`;
    const value = `${round}.${caller}.${count}`;
    const existing = await send(transport, "GET", `${maps}/${name}`);
    const action = existing.code === 404 ? "create" : world.random() < 0.2 ? "delete" : "patch";
    tell({ intent: action, name, value });
    const { code, body } =
      action === "create"
        ? await send(transport, "POST", maps, { metadata: { name }, data: { value } })
        : action === "delete"
          ? await send(transport, "DELETE", `${maps}/${name}`)
          : await send(transport, "PATCH", `${maps}/${name}`, { data: { value } });
    if (code >= 300) throw new Error(`${action} ${name}: ${JSON.stringify(body)}`);
    tell({ done: action, name, value, revision: Number(body.metadata?.resourceVersion ?? 0) });
  }
}

void watch();
await Promise.all(Array.from({ length: callers }, (_, caller) => write(caller)));
