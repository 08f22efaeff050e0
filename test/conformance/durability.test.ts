/**
 * The embedded server is killed with SIGKILL amid concurrent writes, round after round over the same file: nothing
 * that was acknowledged or shown to a watcher is lost, and its watches resume without a gap or a repeat.
 *
 * `WEFT_DURABILITY_ROUNDS=200` for the long run; about half a second a round on an idle machine.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, test } from "node:test";
import { createApiServer } from "../../src/lab/apiserver/index.ts";
import { realWorld } from "../../src/world/index.ts";
import { jsonLines, type Loose, maps, send } from "./durability-client.ts";

const rounds = Number(process.env.WEFT_DURABILITY_ROUNDS ?? 20);
const folder = mkdtempSync(join(tmpdir(), "weft-durability-"));
after(() => rmSync(folder, { recursive: true, force: true }));

interface Write {
  action: "create" | "patch" | "delete";
  value: string;
  revision: number;
}

/** What a killed writer said: per name the last acknowledged write and the one that may or may not have happened. */
interface Told {
  done: Map<string, Write>;
  open: Map<string, Omit<Write, "revision">>;
  seen: { type: string; name: string; revision: number }[];
  acknowledged: number;
}

async function killedAmidWrites(file: string, round: number, writes: number): Promise<Told> {
  const program = join(import.meta.dirname, "durability-writer.ts");
  const child = spawn(process.execPath, [program, file, String(round)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const told: Told = { done: new Map(), open: new Map(), seen: [], acknowledged: 0 };
  for await (const line of createInterface({ input: child.stdout })) {
    // The last line may be cut off by the kill.
    if (!line.endsWith("}")) continue;
    const { intent, done, saw, name, value, revision } = JSON.parse(line) as Loose;
    if (saw) told.seen.push({ type: saw, name, revision });
    else if (intent) told.open.set(name, { action: intent, value });
    else {
      told.open.delete(name);
      told.done.set(name, { action: done, value, revision });
      if (++told.acknowledged === writes) child.kill("SIGKILL");
    }
  }
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  assert.equal(child.signalCode, "SIGKILL", "the writer ended by itself");
  return told;
}

test(`killed ${rounds} times amid writes, the server has lost nothing`, async () => {
  const file = join(folder, "store.db");
  let revision = 0;
  let before = new Map<string, string>();
  /** Where this test has seen everything up to. */
  let known: number | undefined;
  for (let round = 0; round < rounds; round++) {
    const told = await killedAmidWrites(file, round, 30 + ((round * 37) % 120));
    const server = await createApiServer({
      world: realWorld(),
      cluster: "durable",
      storage: { kind: "sqlite", file },
      serviceRange: "10.11.0.0/16",
      advertise: { address: "172.18.0.1", port: 6443 },
    });
    try {
      const transport = server.as({ name: "admin", groups: ["system:masters"] });
      const { body } = await send(transport, "GET", maps);
      const items = new Map<string, Loose>(body.items.map((item: Loose) => [item.metadata.name, item]));
      const now = Number(body.metadata.resourceVersion);
      assert.ok(now >= revision, `the revision went back from ${revision} to ${now}`);
      revision = now;

      for (const name of new Set([...items.keys(), ...before.keys(), ...told.done.keys()])) {
        const done = told.done.get(name);
        const open = told.open.get(name);
        const acknowledged = done ? (done.action === "delete" ? undefined : done.value) : before.get(name);
        const attempted = open && (open.action === "delete" ? undefined : open.value);
        const found = items.get(name)?.data.value as string | undefined;
        const possible = open ? [acknowledged, attempted] : [acknowledged];
        assert.ok(
          possible.includes(found),
          `round ${round}: ${name} is ${found}, not ${possible.join(" or ")}`,
        );
        if (done && found === done.value) {
          assert.equal(Number(items.get(name).metadata.resourceVersion), done.revision, name);
        }
      }
      before = new Map([...items].map(([name, item]) => [name, item.data.value as string]));

      // What a watcher was shown is durable, came once, and in order.
      const revisions = told.seen.map((event) => event.revision);
      assert.deepEqual(
        revisions,
        [...new Set(revisions)].sort((a, b) => a - b),
        "order of events",
      );
      const last = told.seen.at(-1);
      assert.ok(last && last.revision <= revision, "a watcher saw what is not there");
      for (const [name, { revision: shown, type }] of new Map(
        told.seen.map((event) => [event.name, event]),
      )) {
        const current = Number(items.get(name)?.metadata.resourceVersion ?? 0);
        if (type !== "DELETED") assert.ok(current >= shown || told.open.has(name), `${name} at ${shown}`);
      }

      // A watch from before the writer's time tells all that the writer's own was told, and goes on.
      const whole = await resumed(transport, known, revision);
      const shown = told.seen.map(({ type, name, revision }) => `${type} ${name} ${revision}`);
      assert.deepEqual(whole.slice(0, shown.length), shown, "a gap, or an event twice");
      const after = await resumed(transport, last.revision, revision);
      assert.deepEqual(after, whole.slice(shown.length), "a gap, or an event twice");

      await goesOn(transport, last.revision, `round-${round}`);
      // What this test wrote is not part of what the writers know.
      await send(transport, "DELETE", `${maps}/round-${round}`);
      known = Number((await send(transport, "GET", maps)).body.metadata.resourceVersion);
    } finally {
      await server.close();
    }
  }
});

/** What a watch from `from` is told up to `until`, as it comes at once; from the beginning of all when undefined. */
async function resumed(transport: Loose, from: number | undefined, until: number): Promise<string[]> {
  const abort = new AbortController();
  const path = `${maps}?watch=1&resourceVersion=${from ?? 1}`;
  const response = await transport({ method: "GET", path, signal: abort.signal });
  assert.equal(response.status, 200);
  // Something after all that is of interest ends the reading.
  const end = (await send(transport, "POST", maps, { metadata: { name: "end" } })).body;
  await send(transport, "DELETE", `${maps}/end`);
  const events: string[] = [];
  let last = 0;
  for await (const { type, object } of jsonLines(response.body)) {
    const revision = Number(object.metadata.resourceVersion);
    assert.ok(revision > last, "revisions grow");
    last = revision;
    if (revision >= Number(end.metadata.resourceVersion)) break;
    if (revision <= until) events.push(`${type} ${object.metadata.name} ${revision}`);
  }
  abort.abort();
  return events;
}

/** A watcher that knows `seen` goes on after a restart, from there. */
async function goesOn(transport: Loose, seen: number, name: string): Promise<void> {
  const abort = new AbortController();
  const path = `${maps}?watch=1&resourceVersion=${seen}`;
  const response = await transport({ method: "GET", path, signal: abort.signal });
  assert.equal(response.status, 200);
  await send(transport, "POST", maps, { metadata: { name }, data: { value: "1" } });
  await send(transport, "PATCH", `${maps}/${name}`, { data: { value: "2" } });
  const events: string[] = [];
  for await (const { type, object } of jsonLines(response.body)) {
    assert.ok(Number(object.metadata.resourceVersion) > seen, "an event came twice");
    if (object.metadata.name === name) events.push(`${type} ${object.data.value}`);
    if (events.length === 2) break;
  }
  abort.abort();
  assert.deepEqual(events, ["ADDED 1", "MODIFIED 2"]);
}
