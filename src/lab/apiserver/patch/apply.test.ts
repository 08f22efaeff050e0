import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { ManagedFieldsEntry } from "../../../api/index.ts";
import { builtinSchema, type Schema, schemaFromCrd } from "../schema/index.ts";
import { FieldSet, pathText } from "./fieldset.ts";
import { applyPatch, conflictMessage, trackUpdate } from "./index.ts";

const deploymentSchema = builtinSchema("apps", "v1", "Deployment")!;
const apiVersion = "apps/v1";

interface Thing {
  apiVersion: string;
  kind: string;
  metadata: Record<string, unknown> & { managedFields?: ManagedFieldsEntry[] };
  spec?: Record<string, unknown>;
  status?: Record<string, unknown>;
}

function deployment(spec: Record<string, unknown> = {}, metadata: Record<string, unknown> = {}): Thing {
  return { apiVersion, kind: "Deployment", metadata: { name: "web", ...metadata }, spec };
}

let clock = 0;
const time = () => new Date(Date.UTC(2026, 0, 1) + 1000 * clock++).toISOString().replace(".000Z", "Z");

function apply(live: Thing | undefined, applied: Thing, manager: string, force = false) {
  return applyPatch<Thing>({
    schema: deploymentSchema,
    live,
    applied,
    manager,
    force,
    apiVersion,
    time: time(),
  });
}

function update(before: Thing | undefined, after: Thing, manager: string, subresource?: string) {
  return trackUpdate<Thing>({
    schema: deploymentSchema,
    before,
    after,
    manager,
    apiVersion,
    subresource,
    time: time(),
  });
}

const fieldsOf = (object: Thing, manager: string) =>
  object.metadata.managedFields?.find((entry) => entry.manager === manager)?.fieldsV1;

const pod = (...containers: object[]) => ({ template: { spec: { containers } } });

describe("apply", () => {
  test("creates what was not there and records what it named", () => {
    const { object, conflicts } = apply(
      undefined,
      deployment({ replicas: 2, ...pod({ name: "a", image: "i" }) }),
      "me",
    );
    assert.deepEqual(conflicts, []);
    assert.deepEqual(fieldsOf(object, "me"), {
      "f:spec": {
        "f:replicas": {},
        "f:template": {
          "f:spec": { "f:containers": { 'k:{"name":"a"}': { ".": {}, "f:image": {}, "f:name": {} } } },
        },
      },
    });
  });

  test("removes what the manager applied before and does not any more", () => {
    const first = apply(
      undefined,
      deployment({ replicas: 2, paused: true }, { labels: { a: "1", b: "2" } }),
      "me",
    ).object;
    const { object } = apply(first, deployment({ replicas: 2 }, { labels: { a: "1" } }), "me");
    assert.deepEqual(object.spec, { replicas: 2 });
    assert.deepEqual(object.metadata.labels, { a: "1" });
  });

  test("keeps what it gives up and another owns, and what nobody applied", () => {
    const mine = apply(
      undefined,
      deployment({ replicas: 2, ...pod({ name: "a", image: "i" }) }),
      "me",
    ).object;
    const both = apply(mine, deployment({ replicas: 2 }), "you").object;
    const theirs = update(both, { ...both, spec: { ...both.spec, paused: true } }, "kubectl-edit");
    const { object } = apply(theirs, deployment(pod({ name: "a", image: "i" })), "me");
    assert.equal(object.spec?.replicas, 2);
    assert.equal(object.spec?.paused, true);
    assert.deepEqual(fieldsOf(object, "you"), { "f:spec": { "f:replicas": {} } });
  });

  test("removes a list's item that only it had, and leaves the others'", () => {
    const mine = apply(
      undefined,
      deployment(pod({ name: "a", image: "1" }, { name: "b", image: "1" })),
      "me",
    ).object;
    const both = apply(mine, deployment(pod({ name: "c", image: "1" })), "you").object;
    const { object } = apply(both, deployment(pod({ name: "a", image: "1" })), "me");
    assert.deepEqual(object.spec, pod({ name: "a", image: "1" }, { name: "c", image: "1" }));
  });

  test("does not change what another owns, and says whose it is", () => {
    const theirs = update(undefined, deployment({ replicas: 1 }), "kubectl-create");
    const { object, conflicts } = apply(theirs, deployment({ replicas: 5 }), "me");
    assert.equal(object, theirs);
    assert.deepEqual(
      conflicts.map(({ field, message }) => ({ field, message })),
      [{ field: ".spec.replicas", message: 'conflict with "kubectl-create" using apps/v1' }],
    );
    assert.equal(
      conflictMessage(conflicts),
      'Apply failed with 1 conflict: conflict with "kubectl-create" using apps/v1: .spec.replicas',
    );
  });

  test("with force takes the field over", () => {
    const theirs = update(undefined, deployment({ replicas: 1, paused: true }), "kubectl-create");
    const { object } = apply(theirs, deployment({ replicas: 5 }), "me", true);
    assert.equal(object.spec?.replicas, 5);
    assert.deepEqual(fieldsOf(object, "kubectl-create"), { "f:spec": { "f:paused": {} } });
  });

  test("of the same value shares the field", () => {
    const theirs = apply(undefined, deployment({ replicas: 1 }), "you").object;
    const { object, conflicts } = apply(theirs, deployment({ replicas: 1 }), "me");
    assert.deepEqual(conflicts, []);
    assert.deepEqual(fieldsOf(object, "me"), fieldsOf(object, "you"));
  });

  test("several conflicts are grouped by manager", () => {
    const theirs = update(undefined, deployment({ replicas: 1, paused: true }), "a");
    const { conflicts } = apply(theirs, deployment({ replicas: 2, paused: false }), "me");
    assert.equal(
      conflictMessage(conflicts),
      'Apply failed with 2 conflicts: conflicts with "a" using apps/v1:\n- .spec.paused\n- .spec.replicas',
    );
  });

  test("keeps the order that was applied, with others' items before their neighbours", () => {
    const theirs = apply(
      undefined,
      deployment(pod({ name: "x", image: "1" }, { name: "a", image: "1" })),
      "you",
    ).object;
    const { object } = apply(
      theirs,
      deployment(pod({ name: "b", image: "1" }, { name: "a", image: "1" })),
      "me",
    );
    const list = (object.spec as ReturnType<typeof pod>).template.spec.containers as { name: string }[];
    assert.deepEqual(
      list.map((c) => c.name),
      ["x", "b", "a"],
    );
  });

  test("uses defaults of keys: a port without a protocol is the TCP one", () => {
    const port = (more: object) => pod({ name: "a", ports: [{ containerPort: 80, ...more }] });
    const first = apply(undefined, deployment(port({ protocol: "TCP" })), "me").object;
    const { object } = apply(first, deployment(port({ name: "http" })), "you");
    assert.deepEqual(object.spec, port({ protocol: "TCP", name: "http" }));
  });

  test("after everything that was there before the first apply, conflicts with nobody in particular", () => {
    const untracked = deployment({ replicas: 1 });
    const { conflicts } = apply(untracked, deployment({ replicas: 2 }), "me");
    assert.equal(conflicts[0]?.manager, "before-first-apply");
  });

  test("credits nobody with a status that was there: this endpoint does not write it", () => {
    const live = {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "a" },
      spec: { type: "LoadBalancer" },
      status: { loadBalancer: { ingress: [{ ip: "1.2.3.4" }] } },
    };
    const { object } = applyPatch<object>({
      schema: builtinSchema("", "v1", "Service"),
      live,
      applied: { apiVersion: "v1", kind: "Service", metadata: { name: "a", labels: { a: "b" } } },
      manager: "me",
      force: false,
      apiVersion: "v1",
      reset: ["status"],
      time: time(),
    });
    const { managedFields = [] } = (object as Thing).metadata;
    assert.deepEqual(
      managedFields.map(({ manager, fieldsV1 }) => [manager, Object.keys(fieldsV1 ?? {})]),
      [
        ["me", ["f:metadata"]],
        ["before-first-apply", ["f:spec"]],
      ],
    );
  });

  test("twice the same changes nothing, not even a time", () => {
    const first = apply(undefined, deployment({ replicas: 2 }), "me").object;
    assert.deepEqual(apply(first, deployment({ replicas: 2 }), "me").object, first);
  });

  test("refuses managedFields and another version", () => {
    assert.throws(() => apply(undefined, deployment({}, { managedFields: [] }), "me"), {
      code: 400,
      message: "metadata.managedFields must be nil",
    });
    assert.throws(
      () => apply(undefined, { ...deployment(), apiVersion: "apps/v2" }, "me"),
      /Incorrect version specified in apply patch/,
    );
  });

  test("refuses a list that names an item twice", () => {
    assert.throws(
      () => apply(deployment(pod({ name: "b" })), deployment(pod({ name: "a" }, { name: "a" })), "me"),
      /duplicate entries for key/,
    );
  });

  test("by kubectl takes over from client-side apply without force, and keeps its annotation in step", () => {
    const config = deployment({ replicas: 1 });
    const annotation = "kubectl.kubernetes.io/last-applied-configuration";
    const annotations = { [annotation]: JSON.stringify(config) };
    const live = update(undefined, deployment({ replicas: 1 }, { annotations }), "kubectl-client-side-apply");
    const { object, conflicts } = apply(live, deployment({ replicas: 3 }), "kubectl");
    assert.deepEqual(conflicts, []);
    assert.equal(object.spec?.replicas, 3);
    const stored = (object.metadata.annotations as Record<string, string>)[annotation]!;
    assert.equal((JSON.parse(stored) as Thing).spec?.replicas, 3);
    const changed = update(live, { ...live, spec: { replicas: 9 } }, "someone");
    assert.equal(apply(changed, deployment({ replicas: 3 }), "kubectl").conflicts[0]?.manager, "someone");
  });
});

describe("other writes", () => {
  test("record what they set, not what Go has anyway", () => {
    const spec = {
      replicas: 1,
      selector: { matchLabels: { a: "b" } },
      strategy: { type: "Recreate" },
      ...pod({ name: "a" }),
    };
    const created = update(
      undefined,
      deployment(spec, { labels: { a: "b" }, uid: "u", creationTimestamp: "t" }),
      "kubectl",
    );
    assert.deepEqual(fieldsOf(created, "kubectl"), {
      "f:metadata": { "f:labels": { ".": {}, "f:a": {} } },
      "f:spec": {
        "f:replicas": {},
        "f:selector": {},
        "f:strategy": { "f:type": {} },
        "f:template": { "f:spec": { "f:containers": { 'k:{"name":"a"}': { ".": {}, "f:name": {} } } } },
      },
    });
  });

  test("take fields from those who had them", () => {
    const created = update(undefined, deployment({ replicas: 1, paused: true }), "a");
    const scaled = update(created, { ...created, spec: { ...created.spec, replicas: 2 } }, "b");
    assert.deepEqual(fieldsOf(scaled, "a"), { "f:spec": { "f:paused": {} } });
    assert.deepEqual(fieldsOf(scaled, "b"), { "f:spec": { "f:replicas": {} } });
    const removed = update(scaled, { ...scaled, spec: { replicas: 2 } }, "c");
    assert.equal(fieldsOf(removed, "a"), undefined);
    assert.equal(fieldsOf(removed, "c"), undefined);
  });

  test("of a subresource are managers of their own", () => {
    const created = { ...update(undefined, deployment({ replicas: 1 }), "a"), status: {} };
    const reported = update(created, { ...created, status: { replicas: 1 } }, "a", "status");
    const entry = reported.metadata.managedFields?.find((of) => of.subresource === "status");
    assert.equal(entry?.manager, "a");
    assert.deepEqual(entry?.fieldsV1, { "f:status": { "f:replicas": {} } });
    const { conflicts } = applyPatch<Thing>({
      schema: deploymentSchema,
      live: reported,
      applied: { ...deployment(), status: { replicas: 2 } },
      manager: "b",
      force: false,
      apiVersion,
      subresource: "status",
      time: time(),
    });
    assert.equal(conflicts[0]?.message, 'conflict with "a" with subresource "status" using apps/v1');
  });

  test("that change nothing keep everyone's entries as they are", () => {
    const created = update(undefined, deployment({ replicas: 1 }), "a");
    assert.deepEqual(update(created, structuredClone(created), "b"), created);
  });

  test("may reset the managers, and then nothing is tracked until the next apply", () => {
    const created = update(undefined, deployment({ replicas: 1 }), "a");
    const reset = update(
      created,
      { ...created, metadata: { ...created.metadata, managedFields: [{}] } },
      "b",
    );
    assert.equal(reset.metadata.managedFields, undefined);
    assert.equal(update(reset, { ...reset, spec: { replicas: 2 } }, "b").metadata.managedFields, undefined);
  });

  test("by many managers become one entry for the ancient ones", () => {
    let object = update(undefined, deployment({}, { labels: { m0: "x" } }), "m0");
    for (let i = 1; i < 15; i++) {
      const labels = { ...(object.metadata.labels as object), [`m${i}`]: "x" };
      object = update(object, { ...object, metadata: { ...object.metadata, labels } }, `m${i}`);
    }
    const names = object.metadata.managedFields!.map((entry) => entry.manager);
    assert.equal(names.length, 10);
    assert.ok(names.includes("ancient-changes"));
    const all = object.metadata.managedFields!.reduce(
      (set, of) => set.union(FieldSet.fromFields(of.fieldsV1)),
      new FieldSet(),
    );
    for (let i = 0; i < 15; i++) assert.ok(all.has(["f:metadata", "f:labels", `f:m${i}`]));
  });
});

/** A custom kind with every sort of field. */
const thingSchema: Schema = schemaFromCrd({
  type: "object",
  properties: {
    spec: {
      type: "object",
      properties: {
        a: { type: "integer" },
        b: { type: "string" },
        map: { type: "object", additionalProperties: { type: "integer" } },
        whole: {
          type: "object",
          "x-kubernetes-map-type": "atomic",
          additionalProperties: { type: "integer" },
        },
        set: { type: "array", items: { type: "string" }, "x-kubernetes-list-type": "set" },
        list: { type: "array", items: { type: "integer" } },
        keyed: {
          type: "array",
          items: {
            type: "object",
            properties: { k: { type: "string" }, v: { type: "integer" }, w: { type: "integer" } },
          },
          "x-kubernetes-list-type": "map",
          "x-kubernetes-list-map-keys": ["k"],
        },
      },
    },
  },
});

const few = fc.constantFrom("p", "q", "r");
const small = fc.integer({ min: 0, max: 2 });
const spec = fc.record(
  {
    a: small,
    b: few,
    map: fc.dictionary(few, small, { maxKeys: 3, noNullPrototype: true }),
    whole: fc.dictionary(few, small, { maxKeys: 2, noNullPrototype: true }),
    set: fc.uniqueArray(few),
    list: fc.array(small, { maxLength: 2 }),
    keyed: fc.uniqueArray(
      fc.record({ k: few, v: small, w: small }, { requiredKeys: ["k"], noNullPrototype: true }),
      {
        selector: (item) => item.k,
      },
    ),
  },
  { requiredKeys: [], noNullPrototype: true },
);

const thing = (of: object): Thing => ({
  apiVersion: "example.com/v1",
  kind: "Thing",
  metadata: { name: "t" },
  spec: of as Record<string, unknown>,
});

const applyThing = (live: Thing | undefined, of: object, manager: string, force = true) =>
  applyPatch<Thing>({
    schema: thingSchema,
    live,
    applied: thing(of),
    manager,
    force,
    apiVersion: "example.com/v1",
    time: time(),
  }).object;

describe("for all objects", () => {
  test("applying twice is applying once", () => {
    fc.assert(
      fc.property(spec, spec, spec, (before, mine, theirs) => {
        const live = applyThing(applyThing(undefined, theirs, "you"), before, "me");
        const once = applyThing(live, mine, "me");
        assert.deepEqual(applyThing(once, mine, "me"), once);
      }),
    );
  });

  test("what was applied is what is there, whatever was there before", () => {
    fc.assert(
      fc.property(spec, spec, spec, (before, theirs, mine) => {
        const live = applyThing(applyThing(undefined, before, "me"), theirs, "you");
        const after = applyThing(live, mine, "me").spec ?? {};
        const { keyed, set, map, ...leaves } = mine as Record<string, unknown>;
        for (const [name, value] of Object.entries(leaves)) assert.deepEqual(after[name], value);
        for (const [name, value] of Object.entries((map ?? {}) as object)) {
          assert.equal((after.map as Record<string, unknown>)[name], value);
        }
        for (const item of (set ?? []) as string[]) assert.ok((after.set as string[]).includes(item));
        for (const item of (keyed ?? []) as { k: string }[]) {
          const found = (after.keyed as { k: string }[]).find((other) => other.k === item.k);
          assert.deepEqual({ ...found, ...item }, found);
        }
      }),
    );
  });

  test("one manager alone ends with exactly its last configuration", () => {
    fc.assert(
      fc.property(fc.array(spec, { minLength: 1, maxLength: 4 }), (specs) => {
        const end = specs.reduce<Thing | undefined>((live, of) => applyThing(live, of, "me"), undefined)!;
        const bare = (value: unknown): unknown => {
          if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
          const parts = Object.entries(value).map(([name, part]) => [name, bare(part)] as const);
          return Object.fromEntries(parts.filter(([, part]) => !isEmpty(part)));
        };
        const sorted = (of: unknown) => {
          const { keyed, ...rest } = bare(of) as { keyed?: { k: string }[]; set?: string[] };
          return {
            ...rest,
            keyed: keyed?.toSorted((x, y) => (x.k < y.k ? -1 : 1)),
            set: rest.set?.toSorted(),
          };
        };
        assert.deepEqual(sorted(end.spec ?? {}), sorted(specs.at(-1)));
      }),
    );
  });

  test("two managers of different fields never conflict", () => {
    const first = fc.record({
      a: small,
      map: fc.dictionary(fc.constantFrom("p", "q"), small, { noNullPrototype: true }),
    });
    const second = fc.record({
      b: few,
      map: fc.dictionary(fc.constantFrom("x", "y"), small, { noNullPrototype: true }),
    });
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.tuple(fc.constant("one"), first), fc.tuple(fc.constant("two"), second))),
        (writes) => {
          let live: Thing | undefined;
          for (const [manager, of] of writes) {
            const { object, conflicts } = applyPatch<Thing>({
              schema: thingSchema,
              live,
              applied: thing(of),
              manager,
              force: false,
              apiVersion: "example.com/v1",
              time: time(),
            });
            assert.deepEqual(conflicts, []);
            live = object;
          }
        },
      ),
    );
  });

  test("every field that an update changes has the updater as its owner, and no field has an owner that is not there", () => {
    fc.assert(
      fc.property(spec, spec, (before, after) => {
        const by = (manager: string, old: Thing | undefined, next: Thing) =>
          trackUpdate<Thing>({
            schema: thingSchema,
            before: old,
            after: next,
            manager,
            apiVersion: "example.com/v1",
            time: time(),
          });
        const created = by("one", undefined, thing(before));
        const changed = by("two", created, { ...thing(after), metadata: created.metadata });
        const owned = (changed.metadata.managedFields ?? []).flatMap((of) => [
          ...FieldSet.fromFields(of.fieldsV1).paths(),
        ]);
        for (const path of owned)
          assert.ok(exists(changed, path), `${pathText(path)} is owned and not there`);
        if (before.a !== after.a && after.a !== undefined) {
          assert.ok(FieldSet.fromFields(fieldsOf(changed, "two")).has(["f:spec", "f:a"]));
        }
      }),
    );
  });

  test("FieldsV1 written and read is the same set", () => {
    const element = fc.constantFrom("f:a", "f:b", 'k:{"name":"x"}', 'v:"y"', "i:0");
    fc.assert(
      fc.property(fc.array(fc.array(element, { minLength: 1, maxLength: 4 })), (paths) => {
        const set = FieldSet.of(...paths);
        assert.ok(FieldSet.fromFields(JSON.parse(JSON.stringify(set.toFields()))).equals(set));
        for (const path of paths) assert.ok(set.has(path));
      }),
    );
  });

  test("sets obey the algebra of sets", () => {
    const path = fc.array(fc.constantFrom("f:a", "f:b", "f:c"), { minLength: 1, maxLength: 3 });
    const set = fc.array(path).map((paths) => FieldSet.of(...paths));
    const texts = (of: FieldSet) => new Set([...of.paths()].map(pathText));
    fc.assert(
      fc.property(set, set, (a, b) => {
        assert.deepEqual(texts(a.union(b)), texts(a).union(texts(b)));
        assert.deepEqual(texts(a.intersection(b)), texts(a).intersection(texts(b)));
        assert.deepEqual(texts(a.difference(b)), texts(a).difference(texts(b)));
      }),
    );
  });
});

function isEmpty(value: unknown): boolean {
  return typeof value === "object" && value !== null && Object.keys(value).length === 0;
}

/** Whether a path leads somewhere in an object. */
function exists(object: unknown, path: readonly string[]): boolean {
  let here: unknown = object;
  for (const element of path) {
    const rest = element.slice(2);
    if (element.startsWith("f:")) here = (here as Record<string, unknown> | undefined)?.[rest];
    else if (element.startsWith("v:"))
      here = (here as unknown[]).find((item) => JSON.stringify(item) === rest);
    else {
      const keys = Object.entries(JSON.parse(rest) as object);
      here = (here as Record<string, unknown>[]).find((item) =>
        keys.every(([name, value]) => item[name] === value),
      );
    }
    if (here === undefined) return false;
  }
  return true;
}
