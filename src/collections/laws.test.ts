/**
 * The laws of the engine as properties: random histories over a graph that uses every operator, with sources
 * that become synced late, partitions that come and go, and deadlines under a simulated clock.
 * WEFT_RUNS multiplies the number of histories; WEFT_SEED replays one campaign.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { SimulatedWorld } from "../world/index.ts";
import {
  type Change,
  type Collection,
  derive,
  Engine,
  flatDerive,
  group,
  index,
  joinPartitions,
  type PartitionJoin,
  type Read,
  type Source,
  source,
} from "./index.ts";

const seed = Number(process.env.WEFT_SEED ?? Math.floor(Math.random() * 2 ** 31));
const runs = Math.ceil(500 * Number(process.env.WEFT_RUNS ?? 1));
console.log(`engine laws: WEFT_SEED=${seed}, ${runs} histories per law`);

interface Item {
  id: string;
  n: number;
  ref: string;
  tags: string[];
  /** Milliseconds on the monotonic clock. */
  until: number;
}

const inputs = ["a", "b", "p1", "p2", "p3"] as const;
type Input = (typeof inputs)[number];
const partitions = ["p1", "p2", "p3"] as const;

interface Graph {
  engine: Engine;
  sources: Record<Input, Source<Item>>;
  joined: PartitionJoin<Item>;
  derived: Record<string, Collection<unknown>>;
}

type Spy = <V, R>(
  name: string,
  from: Collection<V>,
  make: (value: V, read: Read, key: string) => R,
) => (value: V, read: Read, key: string) => R;

/** Every operator, diamonds, clashes of keys, conditional reads, reads of time. */
function buildGraph(world: SimulatedWorld, spy: Spy = (_name, _from, make) => make, clashes = true): Graph {
  const engine = new Engine({
    world,
    onBug: (bug) => {
      throw bug.error;
    },
  });
  const make = (name: string) => source<Item>(engine, { name, key: (item) => item.id });
  const sources = { a: make("a"), b: make("b"), p1: make("p1"), p2: make("p2"), p3: make("p3") };
  const joined = joinPartitions<Item>(engine, { name: "joined", awaitPartitions: true });
  const { a, b } = sources;
  const byTag = index(joined, (item) => item.tags, { name: "byTag" });
  const mapped = derive(
    a,
    spy("mapped", a, (item: Item, read) => {
      if (item.n === 0) return undefined;
      const other = item.n > 2 ? read.get(b, item.ref) : undefined;
      return { n: item.n, other: other?.n, tagged: read.all(byTag, item.ref).map(({ n }) => n) };
    }),
    { name: "mapped" },
  );
  const timed = derive(
    a,
    spy("timed", a, (item: Item, read) => (read.reached(item.until) ? undefined : { n: item.n })),
    { name: "timed" },
  );
  const flat = flatDerive(
    joined,
    spy("flat", joined, (item: Item, read, key) =>
      item.tags.map((tag) => ({
        id: clashes ? `${tag}-${item.n % 2}` : `${tag}-${key}`,
        by: key,
        seen: read.get(mapped, item.ref)?.n,
      })),
    ),
    { name: "flat", key: (row) => row.id },
  );
  const perPartition = flatDerive(
    joined,
    spy("perPartition", joined, (item: Item, read, key) =>
      item.tags.map((tag) => ({ id: `${key.slice(0, 2)}:${item.id}-${tag}`, up: read.reached(item.until) })),
    ),
    { name: "perPartition", key: (row) => row.id },
  );
  const grouped = group(
    flat,
    (row) => (row.seen === undefined ? undefined : [`seen${row.seen}`, "all"]),
    (key, rows, read) => ({ key, by: rows.map((row) => row.by), live: read.list(timed).length }),
    { name: "grouped" },
  );
  const last = derive(
    b,
    spy("last", b, (item: Item, read) => ({
      all: read.get(grouped, "all"),
      mine: read.get(perPartition, `p1:${item.id}-x`),
      n: read.get(mapped, item.id)?.tagged.length,
    })),
    { name: "last" },
  );
  const derived = { joined, byTag, mapped, timed, flat, perPartition, grouped, last };
  return { engine, sources, joined, derived: derived as Record<string, Collection<unknown>> };
}

const ids = ["x", "y", "z", "w"];
const anItem = fc.record<Item>(
  {
    id: fc.constantFrom(...ids),
    n: fc.integer({ min: 0, max: 4 }),
    ref: fc.constantFrom(...ids),
    tags: fc.uniqueArray(fc.constantFrom("x", "y", "z"), { maxLength: 3 }),
    until: fc.integer({ min: 0, max: 200 }),
  },
  { noNullPrototype: true },
);

type Step =
  | { do: "put"; in: Input; item: Item }
  | { do: "remove"; in: Input; id: string }
  | { do: "replace"; in: Input; items: Item[] }
  | { do: "sync" | "giveUp"; in: Input }
  | { do: "add" | "drop"; partition: (typeof partitions)[number]; from: (typeof partitions)[number] }
  | { do: "syncPartitions" }
  | { do: "settle" }
  | { do: "advance"; by: number };

const anInput = fc.constantFrom(...inputs);
const aPartition = fc.constantFrom(...partitions);
const aStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ do: fc.constant("put" as const), in: anInput, item: anItem }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant("remove" as const), in: anInput, id: fc.constantFrom(...ids) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant("replace" as const),
      in: anInput,
      items: fc.uniqueArray(anItem, { maxLength: 4, selector: (item) => item.id }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constantFrom("sync" as const, "giveUp" as const), in: anInput }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constantFrom("add" as const, "add" as const, "drop" as const),
      partition: aPartition,
      from: aPartition,
    }),
  },
  { weight: 1, arbitrary: fc.constant<Step>({ do: "syncPartitions" }) },
  { weight: 5, arbitrary: fc.constant<Step>({ do: "settle" }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("advance" as const), by: fc.integer({ min: 1, max: 60 }) }),
  },
);
const aHistory = fc.array(aStep, { minLength: 5, maxLength: 60 });

/** What the outside has fed so far: all that a fresh engine needs to know. */
class Fed {
  readonly rows: Record<Input, Map<string, Item>> = {
    a: new Map(),
    b: new Map(),
    p1: new Map(),
    p2: new Map(),
    p3: new Map(),
  };
  readonly state = new Map<Input, "synced" | "given up">();
  readonly members = new Map<string, Input>();
  membersKnown = false;

  apply(step: Step): void {
    if (step.do === "put") this.rows[step.in].set(step.item.id, step.item);
    else if (step.do === "remove") this.rows[step.in].delete(step.id);
    else if (step.do === "replace") this.rows[step.in] = new Map(step.items.map((item) => [item.id, item]));
    else if (step.do === "sync") this.state.set(step.in, "synced");
    else if (step.do === "giveUp") this.state.set(step.in, this.state.get(step.in) ?? "given up");
    else if (step.do === "add") this.members.set(step.partition, step.from);
    else if (step.do === "drop") this.members.delete(step.partition);
    else if (step.do === "syncPartitions") this.membersKnown = true;
  }

  /** Feeds all of it to a fresh graph, in another order than it came. */
  feed(graph: Graph): void {
    for (const [partition, from] of [...this.members].reverse())
      graph.joined.add(partition, graph.sources[from]);
    if (this.membersKnown) graph.joined.markSynced();
    for (const name of [...inputs].reverse()) {
      for (const item of [...this.rows[name].values()].reverse()) graph.sources[name].put({ ...item });
      if (this.state.get(name) === "synced") graph.sources[name].markSynced();
      if (this.state.get(name) === "given up") graph.sources[name].giveUp();
    }
    graph.engine.settle();
  }
}

function applyStep(graph: Graph, step: Step): void {
  if (step.do === "put") graph.sources[step.in].put(step.item);
  else if (step.do === "remove") graph.sources[step.in].remove(step.id);
  else if (step.do === "replace") graph.sources[step.in].replace(step.items);
  else if (step.do === "sync") graph.sources[step.in].markSynced();
  else if (step.do === "giveUp") graph.sources[step.in].giveUp();
  else if (step.do === "add") graph.joined.add(step.partition, graph.sources[step.from]);
  else if (step.do === "drop") graph.joined.drop(step.partition);
  else if (step.do === "syncPartitions") graph.joined.markSynced();
  else if (step.do === "settle") graph.engine.settle();
}

/** Moves the clock, stopping at every timer so that `onSettled` sees every batch. */
async function advance(
  world: SimulatedWorld,
  graph: Graph,
  by: number,
  onSettled: () => void,
): Promise<void> {
  const end = world.monotonic() + by;
  graph.engine.settle();
  onSettled();
  for (;;) {
    const next = Math.min(world.nextDeadline() ?? end, end);
    await world.advance(next - world.monotonic());
    graph.engine.settle();
    onSettled();
    if (next >= end) return;
  }
}

async function play(
  history: readonly Step[],
  world: SimulatedWorld,
  graph: Graph,
  onSettled: () => void = () => {},
): Promise<Fed> {
  const fed = new Fed();
  for (const step of history) {
    fed.apply(step);
    applyStep(graph, step);
    if (step.do === "settle") onSettled();
    if (step.do === "advance") await advance(world, graph, step.by, onSettled);
  }
  graph.engine.settle();
  onSettled();
  return fed;
}

function contents(graph: Graph): Record<string, [string, unknown][]> {
  const all: Record<string, [string, unknown][]> = {};
  for (const [name, collection] of Object.entries({ ...graph.sources, ...graph.derived })) {
    all[name] = [...collection.entries()].sort(([x], [y]) => (x < y ? -1 : 1));
  }
  return all;
}

const check = <T>(property: fc.IAsyncProperty<T>) => fc.assert(property, { seed, numRuns: runs });

describe("the engine", () => {
  test("law 3: what it holds after any history is what a fresh engine makes of the same inputs", async () => {
    await check(
      fc.asyncProperty(aHistory, async (history) => {
        const world = new SimulatedWorld(1);
        const graph = buildGraph(world);
        const fed = await play(history, world, graph);
        const fresh = buildGraph(world);
        fed.feed(fresh);
        assert.deepEqual(contents(graph), contents(fresh));
        for (const [name, collection] of Object.entries(graph.derived)) {
          const again = fresh.derived[name]!;
          for (const key of [...collection.keys(), ...ids, "p1/x", "all", "p1:x-x"]) {
            const now = collection.pending(key).map((waiting) => waiting.name);
            for (const { name: waiting } of again.pending(key)) {
              assert.ok(now.includes(waiting), `${name} ${key} waits for ${waiting}`);
            }
          }
        }
        fresh.engine.dispose();
        graph.engine.dispose();
        assert.equal(world.nextDeadline(), undefined, "no timer outlives the engine");
      }),
    );
  });

  test("law 4: in each batch exactly the keys are evaluated whose value or reads changed, each once", async () => {
    await check(
      fc.asyncProperty(aHistory, async (history) => {
        const world = new SimulatedWorld(1);
        type Seen = { value: unknown; reads: (() => boolean)[]; key: string; from: Collection<unknown> };
        const last = new Map<string, Seen>();
        const nodes = new Map<string, Collection<unknown>>();
        let evaluated: string[] = [];
        const spy: Spy = (name, from, make) => {
          nodes.set(name, from);
          return (value, read, key) => {
            const seen: Seen = { value, reads: [], key, from };
            last.set(`${name} ${key}`, seen);
            evaluated.push(`${name} ${key}`);
            const noting: Read = {
              get: (of, k) => {
                const got = read.get(of, k);
                seen.reads.push(() => of.get(k) !== got);
                return got;
              },
              all: (of, k) => {
                const got = read.all(of, k);
                const row = of.get(k);
                seen.reads.push(() => of.get(k) !== row);
                return got;
              },
              list: (of) => {
                const got = read.list(of);
                const rows = new Map(of.entries());
                seen.reads.push(
                  () => of.size !== rows.size || [...rows].some(([k, row]) => of.get(k) !== row),
                );
                return got;
              },
              reached: (deadline) => {
                const got = read.reached(deadline);
                seen.reads.push(() => !got && deadline <= world.monotonic());
                return got;
              },
            };
            return make(value, noting, key);
          };
        };
        const graph = buildGraph(world, spy);
        let before = new Map(last);
        await play(history, world, graph, () => {
          const expected = new Set<string>();
          for (const [id, { from, key, value, reads }] of before) {
            if (from.get(key) === undefined) continue;
            if (from.get(key) !== value || reads.some((changed) => changed())) expected.add(id);
          }
          for (const [name, from] of nodes) {
            for (const key of from.keys()) {
              if (!before.has(`${name} ${key}`)) expected.add(`${name} ${key}`);
            }
          }
          assert.deepEqual([...evaluated].sort(), [...expected].sort());
          evaluated = [];
          for (const [id, { from, key }] of last) if (from.get(key) === undefined) last.delete(id);
          before = new Map(last);
        });
        graph.engine.dispose();
      }),
    );
  });

  test("law 5: subscribers see whole batches, no empty change, and following them gives the contents", async () => {
    await check(
      fc.asyncProperty(aHistory, async (history) => {
        const world = new SimulatedWorld(1);
        const graph = buildGraph(world);
        const replicas = new Map<string, Map<string, unknown>>();
        let inBatch: { batch: number; contents: unknown } | undefined;
        for (const [name, collection] of Object.entries(graph.derived)) {
          const replica = new Map<string, unknown>();
          replicas.set(name, replica);
          let lastBatch = 0;
          collection.subscribe((changes: readonly Change<unknown>[]) => {
            const batch = graph.engine.work.batches;
            assert.ok(batch > lastBatch, "once per batch");
            lastBatch = batch;
            if (inBatch?.batch === batch) assert.deepEqual(contents(graph), inBatch.contents);
            else inBatch = { batch, contents: contents(graph) };
            for (const { key, before, after } of changes) {
              assert.deepEqual(replica.get(key), before);
              assert.notDeepEqual(before, after);
              if (after === undefined) replica.delete(key);
              else replica.set(key, after);
            }
          });
        }
        await play(history, world, graph, () => {
          for (const [name, collection] of Object.entries(graph.derived)) {
            assert.deepEqual(replicas.get(name), new Map(collection.entries()), name);
          }
        });
        assert.equal(graph.engine.work.bugs, 0);
        graph.engine.dispose();
      }),
    );
  });

  test("law 7: a row or absence with nothing pending stays, whatever the unheard sources turn out to hold", async () => {
    const rest = fc.record({
      items: fc.array(fc.tuple(anInput, anItem), { maxLength: 12 }),
      members: fc.array(fc.tuple(aPartition, aPartition), { maxLength: 3 }),
    });
    await check(
      fc.asyncProperty(aHistory, rest, async (history, { items, members }) => {
        const world = new SimulatedWorld(1);
        // A clash of keys that an unheard source brings is not foreseen: it would hold up every flat row.
        const graph = buildGraph(world, undefined, false);
        const fed = await play(history, world, graph);
        const firm: { name: string; key: string; row: unknown }[] = [];
        for (const [name, collection] of Object.entries(graph.derived)) {
          for (const key of probes(collection)) {
            if (collection.pending(key).length === 0) firm.push({ name, key, row: collection.get(key) });
          }
        }
        for (const [name, item] of items) if (!fed.state.has(name)) graph.sources[name].put(item);
        if (!fed.membersKnown) {
          for (const [partition, from] of members) {
            if (!fed.members.has(partition)) graph.joined.add(partition, graph.sources[from]);
          }
        }
        graph.engine.settle();
        for (const { name, key, row } of firm) {
          assert.deepEqual(graph.derived[name]!.get(key), row, `${name} ${key} had nothing pending`);
        }
        for (const name of inputs) graph.sources[name].markSynced();
        graph.joined.markSynced();
        graph.engine.settle();
        for (const [name, collection] of Object.entries(graph.derived)) {
          for (const key of probes(collection)) {
            assert.deepEqual(collection.pending(key), [], `${name} ${key} waits for nothing in the end`);
          }
        }
        graph.engine.dispose();
      }),
    );
  });

  test("law 7: whoever holds rows that are pending is woken when they no longer are", async () => {
    await check(
      fc.asyncProperty(aHistory, async (history) => {
        const world = new SimulatedWorld(1);
        const graph = buildGraph(world);
        // What a sink believes: it looks again only when it is woken.
        const beliefs = new Map<string, Map<string, boolean>>();
        for (const [name, collection] of Object.entries(graph.derived)) {
          const belief = new Map<string, boolean>();
          beliefs.set(name, belief);
          collection.subscribe(() => {
            for (const key of new Set([...probes(collection), ...belief.keys()]))
              belief.set(key, collection.pending(key).length > 0);
          });
        }
        await play(history, world, graph, () => {
          for (const [name, collection] of Object.entries(graph.derived)) {
            for (const [key, held] of beliefs.get(name)!) {
              assert.equal(collection.pending(key).length > 0, held, `${name} ${key}`);
            }
          }
        });
        graph.engine.dispose();
      }),
    );
  });
});

/** Keys to look at: rows that are there, and some that may not be. */
function probes(collection: Collection<unknown>): string[] {
  const absent = [...ids, "p1/x", "p2/y", "p3/z", "all", "seen1", "x-0", "y-1", "p1:x-x", "p2:y-z", "p3:z-y"];
  return [...new Set([...collection.keys(), ...absent])];
}
