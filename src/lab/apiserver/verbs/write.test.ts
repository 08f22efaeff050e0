import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { configMap, testServer } from "../testing/harness.ts";

const maps = "/api/v1/namespaces/default/configmaps";

describe("create", () => {
  test("gives uid, creation time, revision and namespace, and records who owns which fields", async () => {
    await using cluster = await testServer();
    const { code, body } = await cluster.client.post(maps, configMap("a", { x: "1" }));
    assert.equal(code, 201);
    assert.equal(body.metadata.namespace, "default");
    assert.match(body.metadata.uid, /^[0-9a-f-]{36}$/);
    assert.equal(body.metadata.creationTimestamp, "2026-01-01T00:00:00Z");
    assert.match(body.metadata.resourceVersion, /^[1-9][0-9]*$/);
    assert.equal(body.metadata.managedFields[0].manager, "test");
    assert.equal(body.metadata.managedFields[0].operation, "Update");
  });

  test("makes a name from generateName", async () => {
    await using cluster = await testServer();
    const { body } = await cluster.client.post(maps, {
      ...configMap(""),
      metadata: { generateName: "a-" },
    });
    assert.match(body.metadata.name, /^a-[bcdfghjklmnpqrstvwxz2456789]{5}$/);
  });

  test("refuses what is there already, in Kubernetes' words", async () => {
    await using cluster = await testServer();
    await cluster.client.post(maps, configMap("a"));
    const { code, body } = await cluster.client.post(maps, configMap("a"));
    assert.equal(code, 409);
    assert.equal(body.reason, "AlreadyExists");
    assert.equal(body.message, 'configmaps "a" already exists');
    assert.deepEqual(body.details, { name: "a", kind: "configmaps" });
  });

  test("refuses bad names, missing names and missing namespaces", async () => {
    await using cluster = await testServer();
    const bad = await cluster.client.post(maps, configMap("A_b"));
    assert.equal(bad.code, 422);
    assert.match(
      bad.body.message,
      /^ConfigMap "A_b" is invalid: metadata\.name: Invalid value: "A_b": a lowercase RFC 1123 subdomain/,
    );
    const missing = await cluster.client.post(maps, configMap(""));
    assert.match(missing.body.message, /name or generateName is required/);
    const nowhere = await cluster.client.post("/api/v1/namespaces/x/configmaps", configMap("a"));
    assert.equal(nowhere.code, 404);
    assert.equal(nowhere.body.message, 'namespaces "x" not found');
  });

  test("refuses an object of another namespace, version or kind", async () => {
    await using cluster = await testServer();
    const namespace = await cluster.client.post(maps, configMap("a", {}, { namespace: "other" }));
    assert.equal(
      namespace.body.message,
      "the namespace of the provided object does not match the namespace sent on the request",
    );
    const version = await cluster.client.post(maps, { ...configMap("a"), apiVersion: "v2" });
    assert.equal(
      version.body.message,
      'ConfigMap in version "v2" cannot be handled as a ConfigMap: no kind "ConfigMap" is registered for version "v2" in scheme "pkg/runtime/scheme.go:111"',
    );
    const kind = await cluster.client.post(maps, { ...configMap("a"), kind: "Secret" });
    assert.equal(kind.code, 400);
  });

  test("keeps nothing of a dry run", async () => {
    await using cluster = await testServer();
    const { code, body } = await cluster.client.post(`${maps}?dryRun=All`, configMap("a"));
    assert.equal(code, 201);
    assert.ok(body.metadata.uid);
    assert.equal((await cluster.client.get(`${maps}/a`)).code, 404);
  });

  test("treats unknown fields as fieldValidation says", async () => {
    await using cluster = await testServer();
    const object = { ...configMap("a"), dat: { x: "1" } };
    const strict = await cluster.client.post(`${maps}?fieldValidation=Strict`, object);
    assert.equal(strict.code, 400);
    assert.equal(
      strict.body.message,
      'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "dat"',
    );
    const warned = await cluster.client.post(`${maps}?fieldValidation=Warn`, object);
    assert.equal(warned.code, 201);
    assert.equal(warned.headers.warning, '299 - "unknown field \\"dat\\""');
    assert.equal(warned.body.dat, undefined);
    const ignored = await cluster.client.post(`${maps}?fieldValidation=Ignore`, {
      ...object,
      metadata: { name: "b" },
    });
    assert.equal(ignored.headers.warning, undefined);
  });
});

describe("update and patch", () => {
  test("an update of an old revision is a conflict, one without a revision is not", async () => {
    await using cluster = await testServer();
    const first = (await cluster.client.post(maps, configMap("a", { x: "1" }))).body;
    const second = await cluster.client.put(`${maps}/a`, { ...first, data: { x: "2" } });
    assert.equal(second.code, 200);
    const third = await cluster.client.put(`${maps}/a`, { ...first, data: { x: "3" } });
    assert.equal(third.code, 409);
    assert.equal(
      third.body.message,
      'Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again',
    );
    const blind = await cluster.client.put(`${maps}/a`, configMap("a", { x: "4" }));
    assert.equal(blind.code, 200);
    assert.equal(blind.body.metadata.uid, first.metadata.uid);
  });

  test("an update of somebody else's uid is a conflict", async () => {
    await using cluster = await testServer();
    await cluster.client.post(maps, configMap("a"));
    const { code, body } = await cluster.client.put(`${maps}/a`, configMap("a", {}, { uid: "other" }));
    assert.equal(code, 409);
    assert.match(body.message, /Precondition failed: UID in precondition: other/);
  });

  test("a write that changes nothing keeps the revision and is no event", async () => {
    await using cluster = await testServer();
    const { body } = await cluster.client.post(maps, configMap("a", { x: "1" }));
    const events = await cluster.client.watch(
      `${maps}?watch=1&resourceVersion=${body.metadata.resourceVersion}`,
    );
    await cluster.world.advance(5000);
    const again = await cluster.client.patch(`${maps}/a`, { data: { x: "1" } });
    assert.equal(again.body.metadata.resourceVersion, body.metadata.resourceVersion);
    await cluster.client.patch(`${maps}/a`, { data: { x: "2" } });
    const [event] = await events.take(1);
    assert.equal(event!.object.data.x, "2");
    await events.stop();
  });

  test("every kind of patch works on built-in kinds", async () => {
    await using cluster = await testServer();
    await cluster.client.post(maps, configMap("a", { x: "1", y: "1" }));
    const merged = await cluster.client.patch(`${maps}/a`, { data: { x: null, z: "1" } });
    assert.deepEqual(merged.body.data, { y: "1", z: "1" });
    const json = await cluster.client.patch(
      `${maps}/a`,
      [{ op: "replace", path: "/data/y", value: "2" }],
      "json",
    );
    assert.deepEqual(json.body.data, { y: "2", z: "1" });
    const strategic = await cluster.client.patch(
      `${maps}/a`,
      { data: { $patch: "replace", q: "1" } },
      "strategic",
    );
    assert.deepEqual(strategic.body.data, { q: "1" });
    const applied = await cluster.client.patch(
      `${maps}/b?fieldManager=me`,
      "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\ndata: {x: '1'}\n",
      "apply",
    );
    assert.equal(applied.code, 201);
    assert.equal(applied.body.data.x, "1");
    const other = await cluster.client.patch(`${maps}/a`, "x", "merge");
    assert.equal(other.code, 400);
  });

  test("an apply that takes another manager's field is a conflict that names it", async () => {
    await using cluster = await testServer();
    const apply = (manager: string, x: string, force = "") =>
      cluster.client.patch(
        `${maps}/a?fieldManager=${manager}${force}`,
        { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "a" }, data: { x } },
        "apply",
      );
    assert.equal((await apply("one", "1")).code, 201);
    const refused = await apply("two", "2");
    assert.equal(refused.code, 409);
    assert.equal(refused.body.message, 'Apply failed with 1 conflict: conflict with "one": .data.x');
    assert.equal(refused.body.details.causes[0].reason, "FieldManagerConflict");
    assert.equal((await apply("two", "2", "&force=true")).body.data.x, "2");
    const nameless = await cluster.client.patch(`${maps}/a`, configMap("a"), "apply");
    assert.equal(nameless.code, 422);
  });

  test("an unknown type of patch is 415", async () => {
    await using cluster = await testServer();
    await cluster.client.post(maps, configMap("a"));
    const transport = cluster.server.as({ name: "a", groups: ["system:masters"] });
    const response = await transport({
      method: "PATCH",
      path: `${maps}/a`,
      headers: { "content-type": "text/plain" },
      body: "{}",
    });
    assert.equal(response.status, 415);
  });

  test("generation counts changes of the spec; status has its own door", async () => {
    await using cluster = await testServer();
    const deployments = "/apis/apps/v1/namespaces/default/deployments";
    const made = await cluster.client.post(deployments, {
      metadata: { name: "d" },
      spec: {
        replicas: 1,
        selector: { matchLabels: { a: "b" } },
        template: { metadata: { labels: { a: "b" } }, spec: { containers: [{ name: "c", image: "i" }] } },
      },
      status: { replicas: 7 },
    });
    assert.equal(made.code, 201, made.body.message);
    assert.equal(made.body.metadata.generation, 1);
    assert.notEqual(made.body.status?.replicas, 7);
    const labelled = await cluster.client.patch(`${deployments}/d`, { metadata: { labels: { x: "y" } } });
    assert.equal(labelled.body.metadata.generation, 1);
    const ignored = await cluster.client.patch(`${deployments}/d`, { status: { replicas: 7 } });
    assert.notEqual(ignored.body.status?.replicas, 7);
    const status = await cluster.client.patch(`${deployments}/d/status`, {
      status: { replicas: 7 },
      spec: { replicas: 9 },
    });
    assert.equal(status.body.status.replicas, 7);
    assert.equal(status.body.spec.replicas, 1);
    assert.equal(status.body.metadata.generation, 1);
    const scale = await cluster.client.get(`${deployments}/d/scale`);
    assert.deepEqual(scale.body.status, { replicas: 7, selector: "a=b" });
    const scaled = await cluster.client.patch(`${deployments}/d/scale`, { spec: { replicas: 3 } });
    assert.equal(scaled.body.spec.replicas, 3);
    assert.equal((await cluster.client.get(`${deployments}/d`)).body.metadata.generation, 2);
  });
});

describe("delete", () => {
  test("answers with a Status, and the object is gone", async () => {
    await using cluster = await testServer();
    const { body } = await cluster.client.post(maps, configMap("a"));
    const gone = await cluster.client.delete(`${maps}/a`);
    assert.equal(gone.body.status, "Success");
    assert.equal(gone.body.details.uid, body.metadata.uid);
    const again = await cluster.client.delete(`${maps}/a`);
    assert.equal(again.code, 404);
    assert.equal(again.body.message, 'configmaps "a" not found');
  });

  test("keeps its preconditions", async () => {
    await using cluster = await testServer();
    const { body } = await cluster.client.post(maps, configMap("a"));
    const wrongUid = await cluster.client.delete(`${maps}/a`, { preconditions: { uid: "other" } });
    assert.equal(wrongUid.code, 409);
    const old = await cluster.client.delete(`${maps}/a`, { preconditions: { resourceVersion: "1" } });
    assert.equal(old.code, 409);
    const { uid, resourceVersion } = body.metadata;
    assert.equal(
      (await cluster.client.delete(`${maps}/a`, { preconditions: { uid, resourceVersion } })).code,
      200,
    );
  });

  test("waits for finalizers, takes no new ones, and ends with the last", async () => {
    await using cluster = await testServer();
    await cluster.client.post(maps, configMap("a", {}, { finalizers: ["example.com/hold"] }));
    const events = await cluster.client.watch(`${maps}?watch=1`);
    const held = await cluster.client.delete(`${maps}/a`);
    assert.equal(held.body.kind, "ConfigMap");
    assert.ok(held.body.metadata.deletionTimestamp);
    const more = await cluster.client.patch(`${maps}/a`, {
      metadata: { finalizers: ["example.com/hold", "example.com/b"] },
    });
    assert.equal(more.code, 422);
    assert.match(more.body.message, /no new finalizers can be added if the object is being deleted/);
    assert.equal((await cluster.client.patch(`${maps}/a`, { metadata: { finalizers: null } })).code, 200);
    assert.equal((await cluster.client.get(`${maps}/a`)).code, 404);
    const seen = (await events.take(3)).map(({ type }) => type);
    assert.deepEqual(seen, ["ADDED", "MODIFIED", "DELETED"]);
    await events.stop();
  });

  test("records how dependents are to go", async () => {
    await using cluster = await testServer();
    for (const [policy, finalizer] of [
      ["Foreground", "foregroundDeletion"],
      ["Orphan", "orphan"],
    ]) {
      await cluster.client.post(maps, configMap("a"));
      const { body } = await cluster.client.delete(`${maps}/a`, { propagationPolicy: policy });
      assert.deepEqual(body.metadata.finalizers, [finalizer]);
      await cluster.client.patch(`${maps}/a`, { metadata: { finalizers: null } });
    }
    const wrong = await cluster.client.delete(`${maps}/a`, { propagationPolicy: "Sideways" });
    assert.equal(wrong.code, 422);
  });

  test("of a collection takes what the selector selects", async () => {
    await using cluster = await testServer();
    for (const name of ["a", "b", "c"]) {
      await cluster.client.post(maps, configMap(name, {}, { labels: { keep: String(name === "b") } }));
    }
    const { body } = await cluster.client.delete(`${maps}?labelSelector=keep!%3Dtrue`);
    assert.deepEqual(
      body.items.map((item: { metadata: { name: string } }) => item.metadata.name),
      ["a", "c"],
    );
    assert.equal((await cluster.client.get(maps)).body.items.length, 1);
  });
});
