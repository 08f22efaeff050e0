import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { configMaps, namespaces, WeftError } from "../api/index.ts";
import { SimulatedWorld } from "../world/index.ts";
import { KubeClient } from "./client.ts";
import {
  ApiError,
  isAlreadyExists,
  isConflict,
  isFieldConflict,
  isForbidden,
  isGone,
  isNotFound,
} from "./errors.ts";
import { testCluster } from "./testing/cluster.ts";
import { FakeApi, json, once, refuse } from "./testing/fake-api.ts";
import type { KubeRequest, KubeResponse } from "./transport.ts";

type Answer = (request: KubeRequest) => KubeResponse | Promise<KubeResponse>;

function scripted(...answers: Answer[]) {
  const world = new SimulatedWorld(1);
  const requests: KubeRequest[] = [];
  const transport = async (request: KubeRequest) => {
    requests.push(request);
    return (answers.length > 1 ? answers.shift()! : answers[0]!)(request);
  };
  return {
    world,
    requests,
    client: new KubeClient({ transport, world, cluster: "c1", server: "https://c1:6443" }),
  };
}

const never = () => new Promise<never>(() => {});

describe("a client", () => {
  test("makes, reads, changes, lists and deletes objects of the API server", async () => {
    const { client } = await testCluster();
    const metadata = { namespace: "default", name: "a" };
    const made = await client.create(configMaps, { metadata, data: { x: "1" } });
    assert.equal(made.kind, "ConfigMap");
    assert.deepEqual(await client.get(configMaps, "default/a"), made);
    assert.deepEqual(await client.get(configMaps, made.metadata), made);
    assert.equal(await client.get(configMaps, "default/none"), undefined);
    await assert.rejects(client.create(configMaps, { metadata }), isAlreadyExists);
    const replaced = await client.replace(configMaps, { ...made, data: { x: "2" } });
    await assert.rejects(client.replace(configMaps, { ...made, data: { x: "3" } }), isConflict);
    const merged = await client.patch(configMaps, "default/a", { data: { y: "1" } });
    assert.deepEqual(merged.data, { x: "2", y: "1" });
    const patch = [{ op: "remove" as const, path: "/data/x" }];
    assert.deepEqual((await client.patch(configMaps, "default/a", patch, { type: "json" })).data, { y: "1" });
    const other = { uid: "another" };
    await assert.rejects(client.delete(configMaps, "default/a", other), isConflict);
    const { resourceVersion } = replaced.metadata;
    await assert.rejects(
      client.delete(configMaps, "default/a", { ...(resourceVersion && { resourceVersion }) }),
      isConflict,
    );
    assert.equal(await client.delete(configMaps, "default/a", { uid: made.metadata.uid! }), true);
    assert.equal(await client.delete(configMaps, "default/a"), false);
    const generated = await client.create(configMaps, {
      metadata: { namespace: "default", generateName: "g-" },
    });
    assert.match(generated.metadata.name, /^g-/);
    await client.create(configMaps, {
      metadata: { namespace: "default", name: "l", labels: { pick: "me" } },
    });
    const { items } = await client.list(configMaps, { labelSelector: "pick=me" });
    assert.deepEqual(
      items.map(({ metadata }) => metadata.name),
      ["l"],
    );
    await client.deleteCollection(configMaps, { namespace: "default", labelSelector: "pick=me" });
    assert.equal((await client.list(configMaps, { labelSelector: "pick=me" })).items.length, 0);
  });

  test("applies with a manager, and tells a conflict of fields from other conflicts", async () => {
    const { client } = await testCluster();
    const metadata = { namespace: "default", name: "a" };
    await client.apply(configMaps, { metadata, data: { x: "1" } }, { manager: "one" });
    const wish = { metadata, data: { x: "2" } };
    await assert.rejects(client.apply(configMaps, wish, { manager: "two" }), (error: unknown) => {
      assert.ok(isFieldConflict(error));
      assert.ok(isConflict(error));
      return true;
    });
    const taken = await client.apply(configMaps, wish, { manager: "two", force: true });
    assert.deepEqual(taken.data, { x: "2" });
    const gone = { metadata: { namespace: "default", name: "b", uid: "of-one-that-is-gone" } };
    await assert.rejects(
      client.apply(configMaps, gone),
      (error) => isConflict(error) && !isFieldConflict(error),
    );
    assert.equal(await client.get(configMaps, "default/b"), undefined);
  });

  test("refuses to address an object of a namespaced kind without a namespace", async () => {
    const { client } = scripted(() => json(200, {}));
    await assert.rejects(client.get(configMaps, "a"), /needs a namespace/);
    await client.get(namespaces, "a");
  });

  test("names the cluster in refusals, and makes a Status where the server sent none", async () => {
    const { client } = scripted(
      () => refuse(403, "Forbidden", 'secrets is forbidden: User "x" cannot list'),
      () => ({ status: 502, headers: {}, body: once("<html>bad gateway</html>") }),
    );
    await assert.rejects(client.list(configMaps), (error: unknown) => {
      assert.ok(error instanceof ApiError && isForbidden(error));
      assert.equal(error.message, 'c1: secrets is forbidden: User "x" cannot list');
      return true;
    });
    await assert.rejects(client.list(configMaps), (error: unknown) => {
      assert.ok(error instanceof ApiError);
      assert.equal(error.code, 502);
      assert.match(error.message, /c1: .*bad gateway/);
      return true;
    });
  });

  test("tries again when the server asks to with Retry-After, a few times", async () => {
    const busy = () => refuse(429, "TooManyRequests", "too many requests", { "retry-after": "2" });
    const { client, world, requests } = scripted(busy, busy, () => json(200, { metadata: { name: "a" } }));
    const result = client.get(configMaps, "demo/a");
    await world.advance(1_900);
    assert.equal(requests.length, 1);
    await world.advance(4_000);
    assert.equal((await result)?.metadata.name, "a");
    const hopeless = scripted(busy);
    const refused = assert.rejects(hopeless.client.get(configMaps, "demo/a"), /too many requests/);
    await hopeless.world.advance(60_000);
    await refused;
    assert.equal(hopeless.requests.length, 5);
  });

  test("does not repeat a refusal that asks for nothing", async () => {
    const { client, requests } = scripted(() => refuse(500, "InternalError", "boom"));
    await assert.rejects(client.get(configMaps, "demo/a"), /boom/);
    assert.equal(requests.length, 1);
  });

  test("gives up on a server that does not answer, in its head or in its body", async () => {
    const silent = { status: 200, headers: {}, body: { [Symbol.asyncIterator]: () => ({ next: never }) } };
    for (const answer of [never, () => silent]) {
      const { client, world, requests } = scripted(answer);
      const failed = assert.rejects(
        client.get(configMaps, "demo/a", { timeout: 5_000 }),
        (error: unknown) => {
          assert.ok(error instanceof WeftError);
          assert.equal(error.code, "API_UNREACHABLE");
          assert.match(
            error.message,
            /API server of c1 at https:\/\/c1:6443 cannot be reached: no answer within 5 s/,
          );
          return true;
        },
      );
      await world.advance(6_000);
      await failed;
      assert.equal(requests[0]?.signal?.aborted, true);
      assert.equal(world.nextDeadline(), undefined);
    }
  });

  test("says in words why a server cannot be reached", async () => {
    for (const [code, words] of [
      ["ECONNREFUSED", /connection refused/],
      ["CERT_HAS_EXPIRED", /certificate has expired/],
      ["SOMETHING_NEW", /a new reason/],
    ] as const) {
      const { client } = scripted(() => Promise.reject(Object.assign(new Error("a new reason"), { code })));
      await assert.rejects(client.get(configMaps, "demo/a"), words);
    }
  });

  test("ends with the caller's signal and its reason", async () => {
    const { client, requests } = scripted(never);
    const controller = new AbortController();
    const failed = assert.rejects(client.get(configMaps, "demo/a", { signal: controller.signal }), /enough/);
    await Promise.resolve();
    controller.abort(new Error("enough"));
    await failed;
    assert.equal(requests[0]?.signal?.aborted, true);
  });

  test("lists all at once when the pages' snapshot was compacted away", async () => {
    const api = new FakeApi();
    for (let i = 0; i < 10; i++) api.put(`o${i}`);
    const client = new KubeClient({ transport: api.transport, world: new SimulatedWorld(1), cluster: "c1" });
    api.intercept = (_, url) => {
      if (url.searchParams.has("continue")) {
        api.intercept = undefined;
        api.put("late");
        return refuse(410, "Expired", "the continue token is too old");
      }
      return undefined;
    };
    const list = await client.list(configMaps, { pageSize: 4 });
    assert.equal(list.items.length, 11);
    assert.equal(list.resourceVersion, api.version);
    assert.equal(new Set(list.items.map(({ metadata }) => metadata.name)).size, 11);
  });

  test("never sends back managedFields, of which reflectors keep only a part", async () => {
    const { client, requests } = scripted(() => json(200, {}));
    const metadata = { namespace: "demo", name: "a", managedFields: [{ manager: "weft" }] };
    await client.replace(configMaps, { metadata });
    await client.apply(configMaps, { metadata });
    for (const { body } of requests) assert.doesNotMatch(String(body), /managedFields/);
  });

  test("tells the refusals apart", () => {
    const error = (code: number, reason: string) => new ApiError({ code, reason, message: "" }, "c1");
    assert.ok(isGone(error(410, "Expired")));
    assert.ok(isNotFound(error(404, "NotFound")));
    assert.ok(!isConflict(error(409, "AlreadyExists")));
    assert.ok(!isNotFound(new Error("NotFound")));
  });
});
