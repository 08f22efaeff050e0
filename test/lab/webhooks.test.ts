/** Admission webhooks of the embedded API server where answers take time: what others do meanwhile counts. */
import assert from "node:assert/strict";
import { networkInterfaces } from "node:os";
import { after, test } from "node:test";
import { clientOf, type Loose, testServer } from "../../src/lab/apiserver/testing/harness.ts";
import { realWorld } from "../../src/world/index.ts";
import { patchOf, startWebhook } from "../support/webhook.ts";

const webhook = await startWebhook(["hook.webhooks.svc"]);
after(() => webhook.close());
const configurations = "/apis/admissionregistration.k8s.io/v1";
const maps = "/api/v1/namespaces/default/configmaps";

const hook = (name: string, more: object = {}) => ({
  name: `${name}.example.com`,
  clientConfig: { url: `https://127.0.0.1:${webhook.port}/${name}`, caBundle: webhook.caBundle },
  rules: [
    {
      operations: ["CREATE", "UPDATE"],
      apiGroups: [""],
      apiVersions: ["v1"],
      resources: ["configmaps", "services"],
    },
  ],
  admissionReviewVersions: ["v1"],
  sideEffects: "None",
  ...more,
});

const server = () => testServer({ world: realWorld() });
type Server = Awaited<ReturnType<typeof server>>;

async function configure(cluster: Server, kind: "mutating" | "validating", ...hooks: object[]) {
  const path = `${configurations}/${kind}webhookconfigurations`;
  const made = await cluster.client.post(path, { metadata: { name: "test" }, webhooks: hooks });
  assert.equal(made.code, 201, JSON.stringify(made.body));
}

test("a webhook behind a Service is called at a ready endpoint, under the Service's name", async () => {
  await using cluster = await server();
  const { client } = cluster;
  // Endpoints may not be on the loopback.
  const address = Object.values(networkInterfaces())
    .flat()
    .find((one) => one?.family === "IPv4" && !one.internal)?.address;
  assert.ok(address, "this machine has an address");
  await client.post("/api/v1/namespaces", { metadata: { name: "webhooks" } });
  await client.post("/api/v1/namespaces/webhooks/services", {
    metadata: { name: "hook" },
    spec: { ports: [{ name: "https", port: 443, targetPort: 8443 }] },
  });
  const service = { name: "hook", namespace: "webhooks", path: "/named" };
  await configure(
    cluster,
    "mutating",
    hook("named", { clientConfig: { service, caBundle: webhook.caBundle } }),
  );
  const without = await client.post(maps, { metadata: { name: "a" } });
  assert.equal(without.code, 500);
  assert.match(
    without.body.message,
    /failed calling webhook "named\.example\.com": failed to call webhook: Post "https:\/\/hook\.webhooks\.svc:443\/named\?timeout=10s": no endpoints available for service "hook"$/,
  );
  await client.post("/apis/discovery.k8s.io/v1/namespaces/webhooks/endpointslices", {
    metadata: { name: "hook-1", labels: { "kubernetes.io/service-name": "hook" } },
    addressType: "IPv4",
    endpoints: [
      { addresses: ["192.0.2.1"], conditions: { ready: false } },
      { addresses: [address], conditions: { ready: true } },
    ],
    ports: [{ name: "https", port: webhook.port }],
  });
  webhook.say("/named", patchOf({ op: "add", path: "/data", value: { seen: "yes" } }));
  const made = await client.post(maps, { metadata: { name: "a" } });
  assert.deepEqual(made.body.data, { seen: "yes" });
  assert.deepEqual(cluster.bugs, []);
});

test("a certificate for another name is refused in Go's words", async () => {
  await using cluster = await server();
  const url = `https://localhost:${webhook.port}/x`;
  await configure(cluster, "validating", hook("x", { clientConfig: { url, caBundle: webhook.caBundle } }));
  const { body } = await cluster.client.post(maps, { metadata: { name: "a" } });
  assert.match(
    body.message,
    /tls: failed to verify certificate: x509: certificate is valid for hook\.webhooks\.svc, 127\.0\.0\.1, not localhost$/,
  );
});

test("a patch meets what another wrote while the webhook was asked", async () => {
  await using cluster = await server();
  const { client } = cluster;
  await client.post(maps, { metadata: { name: "a" }, data: { count: "0" } });
  await configure(cluster, "validating", hook("slow"));
  let asked = 0;
  webhook.say("/slow", async () => {
    asked++;
    if (asked === 1) {
      const inner = await client.patch(maps.concat("/a"), { data: { other: "1" } });
      assert.equal(inner.code, 200);
    }
    return {};
  });
  const { code, body } = await client.patch(`${maps}/a`, { data: { count: "1" } });
  assert.equal(code, 200);
  assert.deepEqual(body.data, { count: "1", other: "1" });
  assert.equal(asked, 3, "once for each, and again for the first");
});

test("an update of a revision that another has replaced meanwhile is a conflict", async () => {
  await using cluster = await server();
  const { client } = cluster;
  const { body } = await client.post(maps, { metadata: { name: "a" } });
  await configure(cluster, "mutating", hook("between"));
  let asked = 0;
  webhook.say("/between", async () => {
    if (++asked === 1) await client.patch(`${maps}/a`, { data: { other: "1" } });
    return {};
  });
  const answer = await client.put(`${maps}/a`, { ...body, data: { mine: "1" } });
  assert.equal(answer.code, 409);
  assert.match(answer.body.message, /the object has been modified/);
});

test("an object that is deleted while a webhook is asked about it is not found", async () => {
  await using cluster = await server();
  const { client } = cluster;
  await client.post(maps, { metadata: { name: "a" } });
  await configure(cluster, "mutating", hook("gone"));
  webhook.say("/gone", async () => {
    await client.delete(`${maps}/a`);
    return {};
  });
  const { code } = await client.patch(`${maps}/a`, { data: { mine: "1" } });
  assert.equal(code, 404);
});

test("Services that are made at the same time get different addresses", async () => {
  await using cluster = await testServer({ world: realWorld(), serviceRange: "10.11.0.0/28" });
  await configure(cluster, "validating", hook("services"));
  let waiting: (() => void)[] = [];
  // All wait until the last has been asked about: each has its address by then.
  webhook.say("/services", () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    waiting.push(resolve);
    if (waiting.length >= 6) {
      for (const go of waiting) go();
      waiting = [];
    } else setTimeout(resolve, 200);
    return promise.then(() => ({}));
  });
  const made = await Promise.all(
    ["a", "b", "c", "d", "e", "f"].map((name) =>
      cluster.client.post("/api/v1/namespaces/default/services", {
        metadata: { name },
        spec: { ports: [{ port: 80 }] },
      }),
    ),
  );
  assert.deepEqual(
    made.map(({ code }) => code),
    made.map(() => 201),
  );
  const addresses = new Set(made.map(({ body }) => body.spec.clusterIP as string));
  assert.equal(addresses.size, 6);
});

test("a kind's other versions count for webhooks that name one of them", async () => {
  await using cluster = await server();
  const event = {
    rules: [
      { operations: ["CREATE"], apiGroups: ["events.k8s.io"], apiVersions: ["v1"], resources: ["events"] },
    ],
  };
  await configure(
    cluster,
    "validating",
    hook("equivalent", event),
    hook("exact", { ...event, matchPolicy: "Exact" }),
  );
  webhook.say("/equivalent", {});
  webhook.say("/exact", {});
  webhook.take();
  const { code } = await cluster.client.post("/api/v1/namespaces/default/events", {
    metadata: { name: "e" },
    involvedObject: { kind: "Pod", name: "p", namespace: "default" },
    reason: "Tested",
    type: "Normal",
  });
  assert.equal(code, 201);
  const [{ path, review }, ...others] = webhook.take() as [{ path: string; review: Loose }];
  assert.equal(path, "/equivalent");
  assert.deepEqual(others, []);
  assert.equal(review.request.object.apiVersion, "events.k8s.io/v1");
  assert.equal(review.request.object.regarding.name, "p");
  assert.equal(review.request.requestResource.group, "");
});

test("a caller who is refused by a webhook reads the refusal, the admin's own namespace goes on", async () => {
  await using cluster = await server();
  webhook.say("/deny", ({ userInfo }: Loose) => ({
    allowed: userInfo.username === "admin",
    status: { message: "only the admin", code: 403, reason: "Forbidden" },
  }));
  await configure(cluster, "validating", hook("deny"));
  assert.equal((await cluster.client.post(maps, { metadata: { name: "a" } })).code, 201);
  const other = clientOf(cluster.server, { name: "somebody", groups: ["system:masters"] });
  const { code, body } = await other.post(maps, { metadata: { name: "b" } });
  assert.equal(code, 403);
  assert.equal(body.message, 'admission webhook "deny.example.com" denied the request: only the admin');
});
