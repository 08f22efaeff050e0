import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { type Loose, testServer } from "../testing/harness.ts";

const services = "/api/v1/namespaces/default/services";
const service = (name: string, spec: object) => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name },
  spec: { ports: [{ port: 80 }], ...spec },
});

describe("Services", () => {
  test("default/kubernetes has the first address and leads to the API server", async () => {
    await using cluster = await testServer();
    const { body } = await cluster.client.get(`${services}/kubernetes`);
    assert.equal(body.spec.clusterIP, "10.11.0.1");
    const slice = await cluster.client.get(
      "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes",
    );
    assert.deepEqual(slice.body.endpoints[0].addresses, ["172.18.0.1"]);
    assert.equal(slice.body.ports[0].port, 6443);
  });

  test("get an address of the range, keep it, and give it back", async () => {
    await using cluster = await testServer();
    const { body } = await cluster.client.post(services, service("a", {}));
    assert.match(body.spec.clusterIP, /^10\.11\./);
    assert.deepEqual(body.spec.clusterIPs, [body.spec.clusterIP]);
    assert.deepEqual(body.spec.ipFamilies, ["IPv4"]);
    const kept = await cluster.client.put(`${services}/a`, service("a", { selector: { x: "y" } }));
    assert.equal(kept.body.spec.clusterIP, body.spec.clusterIP);
    const taken = await cluster.client.post(services, service("b", { clusterIP: body.spec.clusterIP }));
    assert.equal(taken.code, 422);
    assert.match(
      taken.body.message,
      /spec\.clusterIPs: Invalid value: \["10\.11\.[0-9.]+"\]: failed to allocate IP 10\.11\.[0-9.]+: provided IP is already allocated/,
    );
    await cluster.client.delete(`${services}/a`);
    const again = await cluster.client.post(services, service("b", { clusterIP: body.spec.clusterIP }));
    assert.equal(again.code, 201);
  });

  test("refuse addresses outside the range and changes of address", async () => {
    await using cluster = await testServer();
    const outside = await cluster.client.post(services, service("a", { clusterIP: "1.2.3.4" }));
    assert.match(
      outside.body.message,
      /failed to allocate IP 1\.2\.3\.4: the provided network does not match/,
    );
    await cluster.client.post(services, service("a", { clusterIP: "10.11.0.9" }));
    const moved = await cluster.client.patch(`${services}/a`, { spec: { clusterIP: "10.11.0.8" } });
    assert.equal(moved.code, 422);
    assert.match(moved.body.message, /spec\.clusterIPs\[0\]: .*"10\.11\.0\.8".*: may not change once set/);
    const headless = await cluster.client.post(services, service("h", { clusterIP: "None" }));
    assert.deepEqual(headless.body.spec.clusterIPs, ["None"]);
    const external = await cluster.client.post(
      services,
      service("e", { type: "ExternalName", externalName: "example.com" }),
    );
    assert.equal(external.body.spec.clusterIP, undefined);
  });

  test("of type NodePort get ports, which are theirs alone", async () => {
    await using cluster = await testServer();
    const { body } = await cluster.client.post(services, service("a", { type: "NodePort" }));
    const { nodePort } = body.spec.ports[0];
    assert.ok(nodePort >= 30000 && nodePort <= 32767);
    const kept = await cluster.client.put(`${services}/a`, service("a", { type: "NodePort" }));
    assert.equal(kept.body.spec.ports[0].nodePort, nodePort);
    const taken = await cluster.client.post(
      services,
      service("b", { type: "NodePort", ports: [{ port: 1, nodePort }] }),
    );
    assert.match(
      taken.body.message,
      /spec\.ports\[0\]\.nodePort: Invalid value: [0-9]+: provided port is already allocated/,
    );
    const low = await cluster.client.post(
      services,
      service("b", { type: "NodePort", ports: [{ port: 1, nodePort: 80 }] }),
    );
    assert.match(low.body.message, /The range of valid ports is 30000-32767/);
    const plain = await cluster.client.put(`${services}/a`, service("a", { type: "ClusterIP" }));
    assert.equal(plain.body.spec.ports[0].nodePort, undefined);
    const free = await cluster.client.post(
      services,
      service("b", { type: "NodePort", ports: [{ port: 1, nodePort }] }),
    );
    assert.equal(free.code, 201);
  });

  test("never share an address, whatever is created and deleted (property)", async () => {
    const step = fc.record({
      name: fc.constantFrom("a", "b", "c", "d", "e", "f", "g", "h"),
      gone: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), fc.integer(), async (steps, seed) => {
        // Eight addresses: the network's own, kubernetes, broadcast, and five to fight for.
        await using cluster = await testServer({ seed, serviceRange: "10.0.0.0/29" });
        for (const { name, gone } of steps) {
          if (gone) await cluster.client.delete(`${services}/${name}`);
          else await cluster.client.post(services, service(name, {}));
        }
        const { body } = await cluster.client.get(services);
        const addresses = body.items.map((item: Loose) => item.spec.clusterIP);
        assert.equal(new Set(addresses).size, addresses.length);
        assert.ok(addresses.length <= 6);
      }),
      { numRuns: 30 },
    );
  });
});

describe("namespaces", () => {
  test("go only when their content has gone, and take nothing new meanwhile", async () => {
    await using cluster = await testServer();
    const made = await cluster.client.post("/api/v1/namespaces", { metadata: { name: "demo" } });
    assert.equal(made.body.metadata.labels["kubernetes.io/metadata.name"], "demo");
    assert.equal(made.body.status.phase, "Active");
    const going = await cluster.client.delete("/api/v1/namespaces/demo");
    assert.equal(going.body.status.phase, "Terminating");
    const refused = await cluster.client.post("/api/v1/namespaces/demo/configmaps", {
      metadata: { name: "a" },
    });
    assert.equal(refused.code, 403);
    assert.equal(
      refused.body.message,
      'configmaps "a" is forbidden: unable to create new content in namespace demo because it is being terminated',
    );
    assert.equal(refused.body.details.causes[0].reason, "NamespaceTerminating");
    const done = await cluster.client.put("/api/v1/namespaces/demo/finalize", {
      ...going.body,
      spec: { finalizers: [] },
    });
    assert.equal(done.code, 200);
    assert.equal((await cluster.client.get("/api/v1/namespaces/demo")).code, 404);
  });

  test("that every cluster needs cannot be deleted", async () => {
    await using cluster = await testServer();
    const { code, body } = await cluster.client.delete("/api/v1/namespaces/default");
    assert.equal(code, 403);
    assert.equal(body.message, 'namespaces "default" is forbidden: this namespace may not be deleted');
  });
});

const pods = "/api/v1/namespaces/default/pods";
const pod = (name: string, spec: object = {}) => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name },
  spec: { containers: [{ name: "c", image: "i" }], ...spec },
});

async function withAccount() {
  const cluster = await testServer();
  await cluster.client.post("/api/v1/namespaces/default/serviceaccounts", { metadata: { name: "default" } });
  return cluster;
}

describe("pods", () => {
  test("run as a ServiceAccount and are given its token", async () => {
    await using cluster = await withAccount();
    const { code, body } = await cluster.client.post(pods, pod("p"));
    assert.equal(code, 201, body.message);
    assert.equal(body.spec.serviceAccountName, "default");
    assert.match(body.spec.volumes[0].name, /^kube-api-access-[a-z0-9]{5}$/);
    assert.equal(body.spec.volumes[0].projected.sources.length, 3);
    assert.deepEqual(body.spec.containers[0].volumeMounts, [
      {
        name: body.spec.volumes[0].name,
        readOnly: true,
        mountPath: "/var/run/secrets/kubernetes.io/serviceaccount",
      },
    ]);
    assert.deepEqual([body.status.phase, body.status.qosClass], ["Pending", "BestEffort"]);
    const plain = await cluster.client.post(pods, pod("q", { automountServiceAccountToken: false }));
    assert.equal(plain.body.spec.volumes, undefined);
  });

  test("wait a moment for their ServiceAccount, and no longer", async () => {
    await using cluster = await testServer();
    const late = cluster.client.post(pods, pod("p"));
    await cluster.world.advance(100);
    await cluster.client.post("/api/v1/namespaces/default/serviceaccounts", {
      metadata: { name: "default" },
    });
    assert.equal((await late).code, 201);
    const never = cluster.client.post(pods, pod("q", { serviceAccountName: "nobody" }));
    await cluster.world.advance(1100);
    const { code, body } = await never;
    assert.equal(code, 403);
    assert.equal(
      body.message,
      'pods "q" is forbidden: error looking up service account default/nobody: serviceaccount "nobody" not found',
    );
  });

  test("on a node end gracefully, and when the kubelet says so", async () => {
    await using cluster = await withAccount();
    await cluster.client.post(pods, pod("p", { terminationGracePeriodSeconds: 7 }));
    const bound = await cluster.client.post(`${pods}/p/binding`, {
      metadata: { name: "p" },
      target: { kind: "Node", name: "n1" },
    });
    assert.equal(bound.code, 201);
    const twice = await cluster.client.post(`${pods}/p/binding`, {
      metadata: { name: "p" },
      target: { kind: "Node", name: "n2" },
    });
    assert.equal(twice.code, 409);
    const { body } = await cluster.client.delete(`${pods}/p`);
    assert.equal(body.spec.nodeName, "n1");
    assert.equal(body.metadata.deletionGracePeriodSeconds, 7);
    assert.equal(body.metadata.deletionTimestamp, "2026-01-01T00:00:07Z");
    assert.equal((await cluster.client.get(`${pods}/p`)).code, 200);
    await cluster.client.delete(`${pods}/p`, {
      gracePeriodSeconds: 0,
      preconditions: { uid: body.metadata.uid },
    });
    assert.equal((await cluster.client.get(`${pods}/p`)).code, 404);
  });

  test("without a node go at once", async () => {
    await using cluster = await withAccount();
    await cluster.client.post(pods, pod("p"));
    await cluster.client.delete(`${pods}/p`);
    assert.equal((await cluster.client.get(`${pods}/p`)).code, 404);
  });

  test("are not evicted against a disruption budget", async () => {
    await using cluster = await withAccount();
    await cluster.client.post(pods, { ...pod("p"), metadata: { name: "p", labels: { a: "b" } } });
    await cluster.client.patch(`${pods}/p/status`, { status: { phase: "Running" } });
    await cluster.client.post("/apis/policy/v1/namespaces/default/poddisruptionbudgets", {
      metadata: { name: "b" },
      spec: { minAvailable: 1, selector: { matchLabels: { a: "b" } } },
    });
    const eviction = { apiVersion: "policy/v1", kind: "Eviction", metadata: { name: "p" } };
    const refused = await cluster.client.post(`${pods}/p/eviction`, eviction);
    assert.equal(refused.code, 429);
    assert.equal(refused.body.message, "Cannot evict pod as it would violate the pod's disruption budget.");
    await cluster.client.delete("/apis/policy/v1/namespaces/default/poddisruptionbudgets/b");
    assert.equal((await cluster.client.post(`${pods}/p/eviction`, eviction)).code, 201);
  });
});

test("Events are one store with two faces", async () => {
  await using cluster = await testServer();
  await cluster.client.post("/apis/events.k8s.io/v1/namespaces/default/events", {
    metadata: { name: "e" },
    eventTime: "2026-01-01T00:00:00.000000Z",
    reportingController: "c",
    reportingInstance: "i",
    action: "Do",
    reason: "Because",
    note: "said",
    type: "Normal",
    regarding: { kind: "Pod", name: "p", namespace: "default" },
  });
  const { body } = await cluster.client.get(
    "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Dp,reason%3DBecause",
  );
  assert.equal(body.items[0].message, "said");
  assert.equal(body.items[0].reportingComponent, "c");
});

test("Events go after an hour", async () => {
  await using cluster = await testServer();
  const events = "/api/v1/namespaces/default/events";
  const event = (name: string) => ({
    metadata: { name },
    involvedObject: { kind: "Pod", name: "p", namespace: "default" },
    lastTimestamp: new Date(cluster.world.now()).toISOString().replace(/\.\d+/, ""),
  });
  assert.equal((await cluster.client.post(events, event("old"))).code, 201);
  await cluster.world.advance(2000_000);
  await cluster.client.post(events, event("new"));
  assert.equal((await cluster.client.get(events)).body.items.length, 2);
  await cluster.world.advance(2000_000);
  const names = (await cluster.client.get(events)).body.items.map((item: Loose) => item.metadata.name);
  assert.deepEqual(names, ["new"]);
});

test("a Node may be registered with its status", async () => {
  await using cluster = await testServer();
  const status = { addresses: [{ type: "InternalIP", address: "172.18.0.2" }] };
  const { body } = await cluster.client.post("/api/v1/nodes", { metadata: { name: "n" }, status });
  assert.equal(body.status.addresses[0].address, "172.18.0.2");
});
