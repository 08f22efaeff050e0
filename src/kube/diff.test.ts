import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { KubeObject } from "../api/index.ts";
import { Comparison, covers } from "./diff.ts";

const atomic = { "f:spec": { "f:ports": {} } };
const map = { "f:spec": { "f:ports": { 'k:{"port":80}': { ".": {}, "f:port": {}, "f:protocol": {} } } } };
const spec = (...ports: object[]) => ({ spec: { ports } });

describe("whether an object is as it is wanted", () => {
  test("of an atomic list that is ours, items have the wanted fields and no others", () => {
    const named = spec({ port: 80, name: "http" });
    assert.equal(covers(named, spec({ port: 80 }), atomic), false, "the name has to go");
    assert.equal(covers(named, named, atomic), true);
    assert.equal(covers(named, spec({ port: 80, name: "http", appProtocol: undefined }), atomic), true);
  });

  test("items of a list with keys may have what others, or the server, put there", () => {
    const stored = spec({ port: 80, protocol: "TCP", nodePort: 30000 });
    assert.equal(covers(stored, spec({ port: 80, protocol: "TCP" }), map), true);
    assert.equal(covers(stored, spec({ port: 81, protocol: "TCP" }), map), false);
  });

  test("a default that the server puts into an atomic list is not written again and again", () => {
    const object = (version: string): KubeObject => ({
      apiVersion: "v1",
      kind: "Thing",
      metadata: {
        name: "a",
        resourceVersion: version,
        managedFields: [{ manager: "weft", operation: "Apply", fieldsV1: atomic }],
      },
      ...spec({ port: 80, protocol: "TCP" }),
    });
    const comparison = new Comparison("weft");
    const wanted = spec({ port: 80 });
    assert.equal(comparison.matches("a", wanted, wanted, object("1")), false);
    comparison.wrote("a", wanted, wanted, object("2"));
    assert.equal(comparison.matches("a", wanted, wanted, object("2")), true);
    assert.equal(comparison.matches("a", wanted, wanted, object("3")), true, "after someone else's change");
  });
});
