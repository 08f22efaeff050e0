import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { contains, formatAddress, parseAddress, parseRange } from "./address.ts";
import { AddressPool } from "./pods.ts";
import { quote, run } from "./run.ts";

test("an address survives being a number", () => {
  fc.assert(fc.property(fc.ipV4(), (address) => formatAddress(parseAddress(address)) === address));
});

test("a range knows what is in it", () => {
  assert.deepEqual(parseRange("10.10.0.77/24"), { first: parseAddress("10.10.0.0"), size: 256, bits: 24 });
  assert.ok(contains("10.10.0.0/24", "10.10.0.255"));
  assert.ok(!contains("10.10.0.0/24", "10.10.1.0"));
  for (const bad of ["10.10.0.0", "10.10.0.0/33", "10.10.0/24", "10.10.0.256/24", "a/b/c"]) {
    assert.throws(() => parseRange(bad), RangeError);
  }
});

test("no two owners have one address, and everybody keeps theirs", () => {
  const step = fc.oneof(
    fc.record({ op: fc.constant("take" as const), owner: fc.nat(12) }),
    fc.record({ op: fc.constant("release" as const), owner: fc.nat(12) }),
    fc.record({ op: fc.constant("keep" as const), owner: fc.nat(12), n: fc.nat(20) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const pool = new AddressPool("10.10.0.0/28");
      const model = new Map<string, string>();
      for (const step of steps) {
        const owner = `pod-${step.owner}`;
        if (step.op === "take") {
          const address = pool.take(owner);
          const all = new Set(model.values());
          if (address === undefined) assert.equal(all.size, 13);
          else {
            assert.equal(address, model.get(owner) ?? address);
            assert.ok(model.has(owner) || !all.has(address));
            assert.ok(contains("10.10.0.0/28", address));
            model.set(owner, address);
          }
        } else if (step.op === "release") {
          pool.release(owner);
          model.delete(owner);
        } else {
          const address = formatAddress(parseAddress("10.10.0.0") + step.n);
          const other = [...model].some(([name, taken]) => taken === address && name !== owner);
          const usable = step.n >= 2 && step.n <= 14;
          assert.equal(pool.keep(owner, address), usable && !other);
          if (usable && !other) model.set(owner, address);
        }
      }
    }),
  );
});

test("an address that was given back rests before it is used again", () => {
  const pool = new AddressPool("10.10.0.0/24");
  const first = pool.take("a");
  assert.equal(first, "10.10.0.2");
  pool.release("a");
  assert.equal(pool.take("b"), "10.10.0.3");
});

test("a quoted word is read back unchanged by the shell", async () => {
  for (const word of ["plain", "", "it's", "a b\nc", '$(id) `id` "x" \\', "-n", "*"]) {
    assert.equal(await run(["/bin/sh", "-c", `printf %s ${quote(word)}`]), word);
  }
});
