import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Names } from "./names.ts";

test("names behave as a set, however few or many there are", () => {
  const name = fc.constantFrom("a", "b", "c", "d");
  const step = fc.oneof(
    fc.record({ what: fc.constantFrom("add" as const, "delete" as const), name }),
    fc.record({ what: fc.constant("takeAll" as const), others: fc.array(name, { maxLength: 3 }) }),
    fc.record({ what: fc.constant("clear" as const) }),
  );
  fc.assert(
    fc.property(fc.array(step), (steps) => {
      const names = new Names();
      const model = new Set<string>();
      for (const step of steps) {
        if (step.what === "takeAll") {
          const others = new Names();
          for (const other of step.others) others.add(other);
          names.takeAll(others);
          for (const other of step.others) model.add(other);
          assert.equal(others.size, 0);
        } else if (step.what === "clear") {
          names.clear();
          model.clear();
        } else {
          names[step.what](step.name);
          model[step.what](step.name);
        }
        assert.deepEqual([...names], [...model]);
        assert.deepEqual([names.size, names.first], [model.size, [...model][0]]);
      }
    }),
  );
});

test("each is looked at once, also where the last ones are taken out on the way", () => {
  const names = new Names();
  for (const name of ["a", "b", "c"]) names.add(name);
  const seen: string[] = [];
  for (const name of names) {
    seen.push(name);
    names.delete(name);
  }
  assert.deepEqual([seen, names.size], [["a", "b", "c"], 0]);
});
