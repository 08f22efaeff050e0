import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SimulatedWorld } from "../world/index.ts";
import {
  type Bug,
  type Change,
  derive,
  Engine,
  equal,
  flatDerive,
  group,
  index,
  joinPartitions,
  source,
  why,
} from "./index.ts";

interface Row {
  id: string;
  n: number;
}

function setup() {
  const world = new SimulatedWorld(1);
  const bugs: Bug[] = [];
  const engine = new Engine({ world, onBug: (bug) => bugs.push(bug) });
  const make = (name: string) => source<Row>(engine, { name, key: (row) => row.id });
  return { world, engine, bugs, make };
}

describe("a batch", () => {
  test("takes all changes of one turn and settles by itself", async () => {
    const { engine, make } = setup();
    const rows = make("rows");
    const doubled = derive(rows, (row) => ({ n: row.n * 2 }), { name: "doubled" });
    const batches: (readonly Change<unknown>[])[] = [];
    doubled.subscribe((changes) => batches.push(changes));
    rows.put({ id: "a", n: 1 });
    rows.put({ id: "b", n: 2 });
    assert.equal(doubled.size, 0, "nothing shows before the batch");
    assert.equal(rows.size, 0, "not even in the source");
    await Promise.resolve();
    assert.deepEqual(batches, [
      [
        { key: "a", before: undefined, after: { n: 2 } },
        { key: "b", before: undefined, after: { n: 4 } },
      ],
    ]);
    assert.equal(engine.work.batches, 1);
  });

  test("visits the collections that something touches, however many there are (law 4)", () => {
    const { engine, make } = setup();
    const all = joinPartitions<Row>(engine, { name: "all" });
    const partitions = Array.from({ length: 100 }, (_, i) => make(`p${i}`));
    for (const rows of partitions)
      all.add(
        rows.name,
        derive(rows, (row) => row, { name: `own ${rows.name}` }),
      );
    const result = derive(all, (row) => row, { name: "result" });
    engine.settle();
    const before = engine.work.visited;
    partitions[7]!.put({ id: "a", n: 1 });
    engine.settle();
    assert.equal(result.size, 1);
    assert.equal(
      engine.work.visited - before,
      4,
      "the source, what is derived from it, the join, the result",
    );
  });

  test("brings what is read for the first time up to date before, with all that it is made from", () => {
    const { engine, make } = setup();
    const [rows, others] = [make("rows"), make("others")];
    const chain = { last: others as ReturnType<typeof derive<Row, Row>> };
    const first = derive(
      rows,
      (row, read) => ({ id: row.id, n: row.n > 1 ? (read.get(chain.last, "x")?.n ?? -1) : 0 }),
      { name: "first" },
    );
    const after = derive(first, (row) => row, { name: "after" });
    for (let i = 0; i < 5; i++)
      chain.last = derive(chain.last, (row) => ({ ...row, n: row.n + 1 }), { name: `link${i}` });
    rows.put({ id: "a", n: 1 });
    engine.settle();
    others.put({ id: "x", n: 10 });
    rows.put({ id: "a", n: 2 });
    const evaluated = engine.work.evaluated;
    engine.settle();
    assert.equal(after.get("a")?.n, 15);
    assert.equal(engine.work.evaluated - evaluated, 7, "each once");
    others.put({ id: "x", n: 20 });
    engine.settle();
    assert.equal(after.get("a")?.n, 25, "from now on it comes after what it reads");
  });

  test("follows what was read last, however often and by however many", () => {
    const { engine, make } = setup();
    const [rows, others] = [make("rows"), make("others")];
    // Row n reads "a" or "b" by its number, and "b" in any case.
    const sums = derive(
      rows,
      ({ n }, read) => ({ sum: [n > 0 ? "a" : "b", "b"].map((key) => read.get(others, key)?.n ?? 0) }),
      { name: "sums" },
    );
    const evaluations = (change: () => void) => {
      const before = engine.work.evaluated;
      change();
      engine.settle();
      return engine.work.evaluated - before;
    };
    for (const id of ["x", "y", "z"]) rows.put({ id, n: 0 });
    engine.settle();
    assert.equal(
      evaluations(() => others.put({ id: "a", n: 1 })),
      0,
      "nobody reads it yet",
    );
    assert.equal(
      evaluations(() => rows.put({ id: "x", n: 1 })),
      1,
    );
    assert.equal(
      evaluations(() => others.put({ id: "b", n: 10 })),
      3,
      "one read of it less is still a read",
    );
    assert.equal(
      evaluations(() => others.put({ id: "a", n: 2 })),
      1,
    );
    assert.deepEqual(sums.get("x"), { sum: [2, 10] });
    assert.equal(
      evaluations(() => rows.put({ id: "y", n: 1 })),
      1,
    );
    assert.equal(
      evaluations(() => others.put({ id: "a", n: 3 })),
      2,
    );
    assert.equal(
      evaluations(() => rows.remove("x")),
      0,
    );
    assert.equal(
      evaluations(() => others.put({ id: "a", n: 4 })),
      1,
    );
    assert.equal(
      evaluations(() => rows.put({ id: "y", n: 0 })),
      1,
    );
    assert.equal(
      evaluations(() => others.put({ id: "a", n: 5 })),
      0,
    );
    assert.deepEqual(sums.get("y"), { sum: [10, 10] });
  });

  test("ends where a result stays equal", () => {
    const { engine, make } = setup();
    const rows = make("rows");
    let evaluated = 0;
    const parity = derive(rows, (row) => ({ odd: row.n % 2 === 1 }), { name: "parity" });
    const next = derive(parity, (row) => ({ even: ++evaluated > 0 && !row.odd }), { name: "next" });
    rows.put({ id: "a", n: 1 });
    engine.settle();
    const first = next.get("a");
    rows.put({ id: "a", n: 3 });
    engine.settle();
    assert.equal(evaluated, 1);
    assert.equal(next.get("a"), first, "the same object");
    rows.put({ id: "a", n: 3 });
    const { evaluated: before } = engine.work;
    engine.settle();
    assert.equal(engine.work.evaluated, before, "an equal value fed again is no change");
  });

  test("may be caused by a subscriber; its changes settle after the batch that it is told of", () => {
    const { engine, make } = setup();
    const rows = make("rows");
    const echo = make("echo");
    rows.subscribe((changes) => {
      for (const { after } of changes) if (after) echo.put(after);
      engine.settle();
      assert.equal(echo.size, 0);
    });
    rows.put({ id: "a", n: 1 });
    engine.settle();
    assert.equal(echo.get("a")?.n, 1);
  });

  test("a subscriber that throws harms no other and is reported", () => {
    const { engine, make, bugs } = setup();
    const rows = make("rows");
    let told = 0;
    rows.subscribe(() => {
      throw new Error("mine");
    });
    rows.subscribe(() => told++);
    rows.put({ id: "a", n: 1 });
    engine.settle();
    assert.equal(told, 1);
    assert.equal(bugs.length, 1);
  });
});

describe("time", () => {
  test("a deadline wakes only the key that read it, once, at its time", async () => {
    const { engine, make, world } = setup();
    const rows = make("rows");
    const evaluated: string[] = [];
    const late = derive(
      rows,
      (row, read) => {
        evaluated.push(row.id);
        return { late: read.reached(row.n) };
      },
      { name: "late" },
    );
    rows.replace([
      { id: "a", n: 100 },
      { id: "b", n: 200 },
    ]);
    engine.settle();
    evaluated.length = 0;
    await world.advance(99);
    assert.deepEqual(evaluated, []);
    await world.advance(1);
    assert.deepEqual(evaluated, ["a"]);
    assert.equal(late.get("a")?.late, true);
    assert.equal(late.get("b")?.late, false);
    rows.remove("b");
    engine.settle();
    assert.equal(world.nextDeadline(), undefined, "a key that goes takes its timer along");
  });

  test("keys that wait for the same moment wake in one batch", async () => {
    const { engine, make, world } = setup();
    const rows = make("rows");
    const late = derive(rows, (row, read) => ({ late: read.reached(row.n) }), { name: "late" });
    rows.replace([
      { id: "a", n: 100 },
      { id: "b", n: 100 },
    ]);
    engine.settle();
    const batches: number[] = [];
    late.subscribe((changes) => batches.push(changes.length));
    await world.advance(100);
    assert.deepEqual(batches, [2]);
    assert.equal(world.nextDeadline(), undefined);
  });

  test("a deadline months away is not taken for one that has passed", async () => {
    const { engine, make, world } = setup();
    const rows = make("rows");
    const far = derive(rows, (row, read) => ({ late: read.reached(row.n) }), { name: "far" });
    rows.put({ id: "a", n: 2 ** 33 });
    engine.settle();
    await world.advance(2 ** 32);
    assert.equal(far.get("a")?.late, false);
    await world.advance(2 ** 32);
    assert.equal(far.get("a")?.late, true);
  });
});

describe("an exception in a derivation (law 6)", () => {
  test("keeps the key's last good row, is reported, harms no other key, and is tried again when a read changes", () => {
    const { engine, make, bugs } = setup();
    const rows = make("rows");
    const divisors = make("divisors");
    const shares = derive(
      rows,
      (row, read) => {
        const divisor = read.get(divisors, row.id)?.n;
        if (divisor === 0) throw new Error("division by zero");
        return { share: row.n / (divisor ?? 1) };
      },
      { name: "shares" },
    );
    rows.replace([
      { id: "a", n: 6 },
      { id: "b", n: 8 },
    ]);
    engine.settle();
    divisors.put({ id: "a", n: 0 });
    rows.put({ id: "b", n: 10 });
    engine.settle();
    assert.equal(shares.get("a")?.share, 6, "last good");
    assert.equal(shares.get("b")?.share, 10);
    assert.equal(engine.work.bugs, 1);
    assert.deepEqual(
      bugs.map(({ collection, key, error }) => [collection, key, String(error)]),
      [["shares", "a", "Error: division by zero"]],
    );
    assert.match(why(shares, "a").bug ?? "", /division by zero/);
    divisors.put({ id: "a", n: 2 });
    engine.settle();
    assert.equal(shares.get("a")?.share, 3);
    assert.equal(why(shares, "a").bug, undefined);
    divisors.put({ id: "a", n: 0 });
    rows.remove("a");
    engine.settle();
    assert.equal(shares.has("a"), false, "a key without its input has no row, bug or not");
  });

  test("without a last good row the result is unknown: nobody may conclude from its absence", () => {
    const { engine, make } = setup();
    const rows = make("rows");
    rows.markSynced();
    const checked = flatDerive(
      rows,
      (row) => {
        if (row.n < 0) throw new Error("negative");
        return [{ id: `${row.id}!`, n: row.n }];
      },
      { name: "checked", key: (row) => row.id },
    );
    const byParity = index(checked, (row) => (row.n % 2 === 0 ? "even" : "odd"), { name: "byParity" });
    let woken = 0;
    byParity.subscribe(() => woken++);
    rows.put({ id: "a", n: -1 });
    engine.settle();
    assert.deepEqual(
      checked.pending("a!").map(({ name }) => name),
      ["checked a: an exception"],
    );
    assert.equal(byParity.pending("odd").length, 1);
    woken = 0;
    rows.remove("a");
    engine.settle();
    assert.deepEqual(checked.pending("a!"), []);
    assert.equal(woken, 1, "whoever held back is told");
  });

  test("is counted for a collection that reads itself, and the rest goes on", () => {
    const { engine, make, bugs } = setup();
    const rows = make("rows");
    const loop: { later?: ReturnType<typeof derive<Row, Row>> } = {};
    const first = derive(rows, (row, read) => read.get(loop.later!, row.id) ?? row, { name: "first" });
    loop.later = derive(first, (row) => row, { name: "later" });
    const other = derive(rows, (row) => row, { name: "other" });
    rows.put({ id: "a", n: 1 });
    engine.settle();
    assert.equal(bugs.length, 1);
    assert.equal(other.size, 1);
  });
});

test("a join that would read itself is refused when it is told to", () => {
  const { engine, make } = setup();
  const all = joinPartitions<Row>(engine, { name: "all" });
  all.add("a", make("a"));
  const made = derive(all, (row) => row, { name: "made" });
  assert.throws(() => all.add("b", made), /collection all reads itself/);
});

describe("pending (law 7)", () => {
  test("a partition that is not heard holds up what depends on it and nothing else", () => {
    const { engine, make } = setup();
    const [c1, c2] = [make("c1.offers"), make("c2.offers")];
    const offers = joinPartitions<Row>(engine, { name: "offers", awaitPartitions: true });
    const slices = derive(offers, (row) => (row.n > 0 ? row : undefined), { name: "slices" });
    const merged = group(
      offers,
      (row) => row.id,
      (id, rows) => ({ id, n: rows.length }),
      { name: "merged" },
    );
    const names = (waiting: readonly { name: string }[]) => waiting.map(({ name }) => name).sort();
    let woken: (readonly Change<unknown>[])[] = [];
    merged.subscribe((changes) => woken.push(changes));
    c1.put({ id: "a", n: 1 });
    c1.markSynced();
    offers.add("c1", c1);
    engine.settle();
    assert.deepEqual(
      names(slices.pending("c2/a")),
      ["offers"],
      "c2 may be a partition that is not known yet",
    );
    assert.deepEqual(slices.pending("c1/gone"), [], "but this one is c1's, and c1 is heard");
    offers.add("c2", c2);
    offers.markSynced();
    engine.settle();
    assert.deepEqual(slices.pending("c1/a"), []);
    assert.deepEqual(slices.pending("c1/gone"), []);
    assert.deepEqual(names(slices.pending("c2/a")), ["c2.offers"]);
    assert.deepEqual(slices.pending("c3/a"), [], "there is no c3: its rows may go");
    assert.deepEqual(names(merged.pending("a")), ["c2.offers"], "c2 may add to the sum");
    assert.deepEqual(names(merged.pending("b")), ["c2.offers"]);
    woken = [];
    c2.giveUp();
    engine.settle();
    assert.deepEqual(woken, [[]], "told, though no row changed");
    assert.deepEqual(merged.pending("a"), []);
    c2.put({ id: "a", n: 1 });
    c2.markSynced();
    engine.settle();
    assert.equal(merged.get("a")?.n, 2, "coming back needs nothing");
  });

  test("a source is heard together with the rows that came with it, not before", () => {
    const { engine, make } = setup();
    const rows = make("rows");
    const same = derive(rows, (row) => row, { name: "same" });
    engine.settle();
    rows.replace([{ id: "a", n: 1 }]);
    rows.markSynced();
    assert.equal(same.pending("a").length, 1);
    engine.settle();
    assert.equal(same.has("a"), true);
    assert.equal(same.pending("a").length, 0);
  });

  test("a collection made late is not trusted before its first batch", () => {
    const { engine, make } = setup();
    const rows = make("rows");
    rows.put({ id: "a", n: 1 });
    rows.markSynced();
    engine.settle();
    const same = derive(rows, (row) => row, { name: "same" });
    assert.equal(same.pending("a").length, 1);
    engine.settle();
    assert.deepEqual([same.get("a")?.n, same.pending("a").length], [1, 0]);
  });
});

describe("a join", () => {
  test("puts a new collection in the place of an old one and changes only rows that differ", () => {
    const { engine, make } = setup();
    const [before, after] = [make("before"), make("after")];
    const all = joinPartitions<Row>(engine, { name: "all" });
    all.add("c1", before);
    before.replace([1, 2, 3].map((n) => ({ id: `r${n}`, n })));
    engine.settle();
    const seen: Change<Row>[] = [];
    all.subscribe((changes) => void seen.push(...changes));
    after.replace([2, 3, 4].map((n) => ({ id: `r${n}`, n: n === 3 ? 33 : n })));
    all.add("c1", after);
    before.dispose();
    engine.settle();
    assert.deepEqual(seen.map(({ key }) => key).sort(), ["c1/r1", "c1/r3", "c1/r4"]);
    all.drop("c1");
    after.dispose();
    engine.settle();
    assert.equal(all.size, 0);
  });
});

describe("why", () => {
  test("gives the inputs behind a row, absent ones included", () => {
    const { engine, make } = setup();
    const rows = make("rows");
    const others = make("others");
    const all = joinPartitions<Row>(engine, { name: "all" });
    all.add("c1", rows);
    const sums = group(
      all,
      () => "sum",
      (_key, members, read) => ({ n: members.length + (read.get(others, "x")?.n ?? 0) }),
      { name: "sums" },
    );
    rows.put({ id: "a", n: 1 });
    rows.markSynced();
    engine.settle();
    assert.deepEqual(why(sums, "sum"), {
      collection: "sums",
      key: "sum",
      value: { n: 1 },
      pending: ["others"],
      from: [
        {
          collection: "sums.members",
          key: "sum",
          value: [{ id: "a", n: 1 }],
          from: [
            {
              collection: "all",
              key: "c1/a",
              value: { id: "a", n: 1 },
              from: [{ collection: "rows", key: "a", value: { id: "a", n: 1 }, from: [] }],
            },
          ],
        },
        { collection: "others", key: "x", pending: ["others"], from: [] },
      ],
    });
  });
});

describe("equality", () => {
  test("is structural, and an undefined property is an absent one", () => {
    const cases: [unknown, unknown, boolean][] = [
      [{ a: 1, b: undefined }, { a: 1 }, true],
      [{ a: 1 }, { a: 1, b: undefined }, true],
      [{ a: undefined }, { b: 1 }, false],
      [{ a: null }, {}, false],
      [{}, [], false],
      [[1, [2, { x: 3 }]], [1, [2, { x: 3 }]], true],
      [[1, 2], [1, 2, 3], false],
      [new Map([["a", { n: 1 }]]), new Map([["a", { n: 1 }]]), true],
      [new Map([["a", undefined]]), new Map([["b", undefined]]), false],
      [new Set(["a"]), new Set(["b"]), false],
      [Uint8Array.of(1, 2), Uint8Array.of(1, 2), true],
      [Uint8Array.of(1, 2), Uint8Array.of(2, 1), false],
      [Number.NaN, Number.NaN, true],
      ["1", 1, false],
    ];
    for (const [a, b, same] of cases) assert.equal(equal(a, b), same, `${String(a)} ${String(b)}`);
  });
});

describe("disposal", () => {
  test("leaves no timer and calls no subscriber any more", async () => {
    const { engine, make, world } = setup();
    const rows = make("rows");
    derive(rows, (row, read) => ({ late: read.reached(row.n) }), { name: "late" });
    let told = 0;
    rows.subscribe(() => told++);
    rows.put({ id: "a", n: 100 });
    engine.settle();
    rows.put({ id: "b", n: 100 });
    engine.dispose();
    await world.advance(1000);
    assert.equal(told, 1);
    assert.equal(world.nextDeadline(), undefined);
  });
});
