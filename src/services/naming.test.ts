import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { derivedName, importedSliceName } from "./naming.ts";

test("derived Services have the names that mcs-api's controller gives them", () => {
  assert.equal(derivedName({ namespace: "demo", name: "serve" }), "derived-ovtkn0laet");
  assert.equal(derivedName({ namespace: "demo", name: "serve-with-vip" }), "derived-3jail2m1qh");
});

test("imported slices are named after their offer and cluster", () => {
  assert.equal(importedSliceName("c2", "serve-z9r87"), "imported-serve-z9r87.c2");
});

const label = fc.stringMatching(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/);
const cluster = fc.oneof(
  label,
  fc.tuple(label, label).map((labels) => labels.join(".")),
);
const offer = fc.oneof(
  label,
  fc.array(label, { minLength: 1, maxLength: 8 }).map((labels) =>
    labels
      .join(".")
      .slice(0, 253)
      .replace(/[-.]+$/, ""),
  ),
);
const subdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

test("names of imported slices are names of objects, however long or dotted their parts", () => {
  fc.assert(
    fc.property(cluster, offer, (cluster, offer) => {
      const name = importedSliceName(cluster, offer);
      assert.match(name, subdomain);
      assert.ok(name.length <= 253, `${name.length}`);
    }),
  );
});

test("two offers never share a name", () => {
  const part = fc.stringMatching(/^[ab]([-.]?[ab]){0,3}$/);
  fc.assert(
    fc.property(part, part, part, part, (cluster, offer, otherCluster, otherOffer) => {
      fc.pre(cluster !== otherCluster || offer !== otherOffer);
      assert.notEqual(importedSliceName(cluster, offer), importedSliceName(otherCluster, otherOffer));
    }),
    { numRuns: 2000 },
  );
});
