import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { configMap, testServer } from "../testing/harness.ts";

const maps = "/api/v1/namespaces/default/configmaps";

describe("list", () => {
  test("pages are of one snapshot, whatever is written in between", async () => {
    await using cluster = await testServer();
    for (const name of ["a", "b", "c", "d"]) await cluster.client.post(maps, configMap(name));
    const first = (await cluster.client.get(`${maps}?limit=2`)).body;
    assert.equal(first.metadata.remainingItemCount, 2);
    await cluster.client.delete(`${maps}/c`);
    await cluster.client.post(maps, configMap("e"));
    const second = (await cluster.client.get(`${maps}?limit=2&continue=${first.metadata.continue}`)).body;
    const names = [...first.items, ...second.items].map((item) => item.metadata.name);
    assert.deepEqual(names, ["a", "b", "c", "d"]);
    assert.equal(second.metadata.resourceVersion, first.metadata.resourceVersion);
    assert.equal(second.metadata.continue, undefined);
    const broken = await cluster.client.get(`${maps}?limit=2&continue=x`);
    assert.equal(broken.code, 400);
  });

  test("of a revision that is yet to come is refused so that clients try again", async () => {
    await using cluster = await testServer();
    const { code, body } = await cluster.client.get(`${maps}?resourceVersion=999999`);
    assert.equal(code, 504);
    assert.equal(body.details.causes[0].reason, "ResourceVersionTooLarge");
    assert.equal(body.details.retryAfterSeconds, 1);
  });

  test("of an exact past revision shows that revision", async () => {
    await using cluster = await testServer();
    const { body } = await cluster.client.post(maps, configMap("a", { x: "1" }));
    await cluster.client.patch(`${maps}/a`, { data: { x: "2" } });
    const then = await cluster.client.get(
      `${maps}?resourceVersion=${body.metadata.resourceVersion}&resourceVersionMatch=Exact`,
    );
    assert.equal(then.body.items[0].data.x, "1");
    assert.equal(then.body.metadata.resourceVersion, body.metadata.resourceVersion);
  });

  test("keeps the rules of its options", async () => {
    await using cluster = await testServer();
    for (const query of [
      "resourceVersionMatch=Exact",
      "resourceVersionMatch=Exact&resourceVersion=0",
      "resourceVersionMatch=Nearly&resourceVersion=1",
      "sendInitialEvents=true",
    ]) {
      assert.equal((await cluster.client.get(`${maps}?${query}`)).code, 422, query);
    }
    assert.equal((await cluster.client.get(`${maps}?resourceVersion=one`)).code, 400);
    assert.equal((await cluster.client.get(`${maps}?fieldSelector=data.x%3D1`)).code, 400);
    assert.equal((await cluster.client.get(`${maps}?labelSelector=a+in+%28`)).code, 400);
  });

  test("is given whole, as a Table, or as metadata only", async () => {
    await using cluster = await testServer();
    await cluster.client.post(maps, configMap("a", { x: "1" }));
    const table = await cluster.client.get(maps, {
      accept: "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    });
    assert.equal(table.body.kind, "Table");
    assert.deepEqual(table.body.rows[0].cells.slice(0, 2), ["a", 1]);
    assert.equal(table.body.rows[0].object.kind, "PartialObjectMetadata");
    const partial = await cluster.client.get(maps, {
      accept: "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    });
    assert.equal(partial.body.kind, "PartialObjectMetadataList");
    assert.equal(partial.body.items[0].data, undefined);
    const protobuf = await cluster.client.get(maps, {
      accept: "application/vnd.kubernetes.protobuf,application/json",
    });
    assert.equal(protobuf.body.kind, "ConfigMapList");
    const none = await cluster.client.get(maps, { accept: "application/vnd.kubernetes.protobuf" });
    assert.equal(none.code, 406);
    const yaml = await cluster.client.get(`${maps}/a`, { accept: "application/yaml" });
    assert.match(yaml.body, /^kind: ConfigMap$/m);
  });
});

describe("watch", () => {
  test("begins with what is there, then tells every change in order", async () => {
    await using cluster = await testServer();
    await cluster.client.post(maps, configMap("a"));
    const events = await cluster.client.watch(`${maps}?watch=1`);
    await cluster.client.post(maps, configMap("b"));
    await cluster.client.patch(`${maps}/a`, { data: { x: "1" } });
    const gone = await cluster.client.delete(`${maps}/b`);
    assert.equal(gone.code, 200);
    const seen = await events.take(4);
    assert.deepEqual(
      seen.map(({ type, object }) => `${type} ${object.metadata.name}`),
      ["ADDED a", "ADDED b", "MODIFIED a", "DELETED b"],
    );
    const revisions = seen.map(({ object }) => Number(object.metadata.resourceVersion));
    assert.deepEqual(
      revisions,
      [...revisions].sort((a, b) => a - b),
    );
    await events.stop();
  });

  test("resumes after a revision without loss, and says 410 for one that is forgotten", async () => {
    await using cluster = await testServer();
    const { body } = await cluster.client.post(maps, configMap("a"));
    await cluster.client.post(maps, configMap("b"));
    const events = await cluster.client.watch(
      `${maps}?watch=1&resourceVersion=${body.metadata.resourceVersion}`,
    );
    assert.equal((await events.take(1))[0]!.object.metadata.name, "b");
    await events.stop();
    for (let i = 0; i < 3000; i++) await cluster.client.patch(`${maps}/a`, { data: { x: String(i) } });
    const old = await cluster.client.get(`${maps}?watch=1&resourceVersion=${body.metadata.resourceVersion}`);
    assert.equal(old.code, 410);
    assert.equal(old.body.reason, "Expired");
  });

  test("a selector makes objects come and go", async () => {
    await using cluster = await testServer();
    await cluster.client.post(maps, configMap("a", {}, { labels: { show: "no" } }));
    const events = await cluster.client.watch(`${maps}?watch=1&labelSelector=show%3Dyes`);
    await cluster.client.patch(`${maps}/a`, { metadata: { labels: { show: "yes" } } });
    await cluster.client.patch(`${maps}/a`, { data: { x: "1" } });
    const left = await cluster.client.patch(`${maps}/a`, { metadata: { labels: { show: "no" } } });
    const seen = await events.take(3);
    assert.deepEqual(
      seen.map(({ type }) => type),
      ["ADDED", "MODIFIED", "DELETED"],
    );
    assert.equal(seen[2]!.object.metadata.labels.show, "yes");
    assert.equal(seen[2]!.object.metadata.resourceVersion, left.body.metadata.resourceVersion);
    await events.stop();
  });

  test("WatchList ends the initial events with a bookmark that says so", async () => {
    await using cluster = await testServer();
    await cluster.client.post(maps, configMap("a"));
    const query = "watch=1&sendInitialEvents=true&allowWatchBookmarks=true";
    const refused = await cluster.client.get(`${maps}?${query}`);
    assert.equal(refused.code, 422);
    const events = await cluster.client.watch(
      `${maps}?${query}&resourceVersionMatch=NotOlderThan&resourceVersion=`,
    );
    const [added, bookmark] = await events.take(2);
    assert.equal(added!.type, "ADDED");
    assert.equal(bookmark!.type, "BOOKMARK");
    assert.equal(bookmark!.object.kind, "ConfigMap");
    assert.equal(bookmark!.object.apiVersion, "v1");
    assert.equal(bookmark!.object.metadata.annotations["k8s.io/initial-events-end"], "true");
    await events.stop();
  });

  test("bookmarks come every minute, and the watch ends when it was asked to", async () => {
    await using cluster = await testServer();
    const events = await cluster.client.watch(`${maps}?watch=1&allowWatchBookmarks=true&timeoutSeconds=100`);
    await cluster.world.advance(101_000);
    const kinds: string[] = [];
    for (let event = await events.next(); event; event = await events.next()) kinds.push(event.type);
    assert.ok(kinds.length >= 1 && kinds.every((kind) => kind === "BOOKMARK"), kinds.join());
  });

  test("as Table sends the columns once", async () => {
    await using cluster = await testServer();
    const transport = cluster.server.as({ name: "a", groups: ["system:masters"] });
    await cluster.client.post(maps, configMap("a"));
    await cluster.client.post(maps, configMap("b"));
    const response = await transport({
      method: "GET",
      path: `${maps}?watch=1`,
      headers: { accept: "application/json;as=Table;v=v1;g=meta.k8s.io" },
    });
    let text = "";
    for await (const chunk of response.body) {
      text += Buffer.from(chunk).toString();
      if (text.split("\n").length > 2) break;
    }
    const [first, second] = text.split("\n").map((line) => (line === "" ? undefined : JSON.parse(line)));
    assert.ok(first.object.columnDefinitions.length > 0);
    assert.equal(second.object.columnDefinitions, null);
    assert.equal(second.object.rows[0].cells[0], "b");
  });
});

describe("what is not there", () => {
  test("unknown paths, kinds and subresources are refused with a Status that names them", async () => {
    await using cluster = await testServer();
    for (const path of ["/api/v1/things", "/apis/apps/v2/deployments", "/apis/batch/v1/cronjobs"]) {
      const { code, body } = await cluster.client.get(path);
      assert.equal(code, 404, path);
      assert.equal(body.kind, "Status");
    }
    const unserved = await cluster.client.get("/apis/batch/v1/cronjobs");
    assert.match(unserved.body.message, /cronjobs.batch\/v1 is not served here/);
    const proxy = await cluster.client.get("/api/v1/namespaces/default/pods/p/proxy");
    assert.equal(proxy.code, 501);
    assert.match(proxy.body.message, /pods\/proxy is not served/);
    const method = await cluster.client.put(maps, {});
    assert.equal(method.code, 405);
  });

  test("each kind that docs/lab.md lists as refused is refused by its name, read or written", async () => {
    await using cluster = await testServer();
    const kinds = {
      "/apis/batch/v1": ["cronjobs"],
      "/api/v1": ["replicationcontrollers", "componentstatuses"],
      "/apis/autoscaling/v2": ["horizontalpodautoscalers"],
      "/apis/certificates.k8s.io/v1": ["certificatesigningrequests"],
      "/apis/apiregistration.k8s.io/v1": ["apiservices"],
      "/apis/node.k8s.io/v1": ["runtimeclasses"],
      "/apis/admissionregistration.k8s.io/v1": [
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "mutatingadmissionpolicies",
      ],
      "/apis/resource.k8s.io/v1": ["resourceclaims", "resourceclaimtemplates", "deviceclasses"],
      "/apis/storage.k8s.io/v1": ["csidrivers", "csinodes", "csistoragecapacities"],
      "/apis/flowcontrol.apiserver.k8s.io/v1": ["flowschemas", "prioritylevelconfigurations"],
      "/apis/networking.k8s.io/v1": ["ipaddresses", "servicecidrs"],
    };
    for (const [group, plurals] of Object.entries(kinds)) {
      for (const plural of plurals) {
        const path = `${group}/${plural}`;
        for (const { code, body } of [
          await cluster.client.get(path),
          await cluster.client.get(`${path}/one`),
          await cluster.client.post(path, { metadata: { name: "one" } }),
        ]) {
          assert.equal(code, 404, path);
          assert.equal(body.kind, "Status", path);
          assert.match(body.message, new RegExp(`\\(${plural}[./].* is not served here\\)`), path);
        }
      }
    }
  });

  test("bodies that are broken, too deep, too big or mean are refused, and the server lives", async () => {
    await using cluster = await testServer();
    const send = (body: string) => cluster.client.post(maps, body);
    assert.equal((await send("{")).code, 400);
    assert.equal((await send("[]")).code, 400);
    assert.equal((await send("null")).code, 422);
    assert.equal((await send('{"metadata": 3}')).code, 400);
    assert.equal((await send('{"metadata":{"name":"a","labels":[1]}}')).code, 400);
    assert.equal((await send(`${"[".repeat(100000)}${"]".repeat(100000)}`)).code, 400);
    assert.equal((await send('{"metadata":{"name":"a"},"data":{"__proto__":{"x":"y"}}}')).code, 400);
    assert.equal((await send('{"metadata":{"name":"a"},"data":{"\\u005f_proto__":"y"}}')).code, 400);
    assert.equal((await send(JSON.stringify(configMap("a", { x: "y".repeat(4e6) })))).code, 413);
    // YAML: aliases of aliases, levels by brackets and by indicators, and as many keys as take seconds to compare.
    const yaml = (body: string) => cluster.client.post(maps, body, { "content-type": "application/yaml" });
    const bomb = ["a: &a [x, x]", ..."bcdefghij"].reduce(
      (text, name, i) =>
        `${text}\n${name}: &${name} [${Array(10)
          .fill(`*${"abcdefghij"[i - 1]}`)
          .join(", ")}]`,
    );
    assert.match(
      (await yaml(bomb)).body.message,
      /error converting YAML to JSON: yaml: Excessive alias count/,
    );
    assert.match((await yaml(`a: ${"[".repeat(300000)}`)).body.message, /nests deeper/);
    assert.match((await yaml("- ".repeat(300000))).body.message, /nests deeper/);
    const keys = Array.from({ length: 600 }, (_, i) => `k${i}: {a: [1, 2], b: x}`).join("\n");
    assert.equal(
      (await yaml(`metadata: {name: many}\ndata: {}\nother:\n  ${keys.replaceAll("\n", "\n  ")}`)).code,
      201,
    );
    for (const name of ["constructor", "tostring", "hasownproperty"]) {
      assert.equal((await send(JSON.stringify(configMap(name, { constructor: "x" })))).code, 201);
    }
    assert.equal((await cluster.client.get(`${maps}?labelSelector=constructor`)).body.items.length, 0);
    assert.deepEqual(cluster.bugs, []);
    assert.equal(({} as { x?: string }).x, undefined);
  });
});
