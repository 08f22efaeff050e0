/**
 * Two clusters, a mesh in each, each with a root and a trust domain of its own: they tell each other their roots, and
 * believe each other about their own trust domains only. Control planes and discoveries run in this process (law 12).
 */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { after, before, test } from "node:test";
import {
  configMaps,
  endpointOffers,
  endpointSlices,
  namespaces,
  nodes,
  peerTrustConfigMap,
  pods,
  secrets,
  serviceAccounts,
  serviceExports,
  serviceMeshControlPlanes,
  serviceMeshMemberRolls,
  services,
  trustBundles,
} from "../../../src/api/index.ts";
import { type Discovery, startDiscovery } from "../../../src/discovery.ts";
import { KubeClient } from "../../../src/kube/index.ts";
import { SimulatedWorld } from "../../../src/world/index.ts";
import { Fleet } from "../../support/fleet.ts";

const home = "istio-system";
const clusters = ["c1", "c2"] as const;
const domain = (cluster: string) => `${cluster}.clusterset.local`;
const world = new SimulatedWorld(5);
let fleet: Fleet;
const discoveries = new Map<string, Discovery>();
const logs: string[] = [];

async function eventually(what: string, look: () => Promise<boolean>): Promise<void> {
  for (let i = 0; i < 100; i++) {
    if (await look()) return;
    await fleet.pass(0.5);
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.fail(`${what} did not come true:\n${logs.slice(-20).join("\n")}`);
}

/** What pods of a cluster's mesh are told, by trust domain: how many roots. */
async function believed(cluster: string, namespace = "coolapp"): Promise<Record<string, string>> {
  const { person } = fleet.of(cluster);
  const configMap = await person.get(configMaps, { namespace, name: "istio-ca-root-cert" });
  return JSON.parse(configMap?.data?.["trust-bundles.json"] ?? "{}") as Record<string, string>;
}

async function discover(cluster: string): Promise<void> {
  const { server } = fleet.of(cluster);
  const starting = startDiscovery({
    client: new KubeClient({
      transport: server.as({ name: "weft", groups: ["system:masters"] }),
      world,
      cluster,
    }),
    namespace: home,
    name: "basic",
    identity: `discovery of ${cluster}`,
    log: (line, error) => void logs.push(`${cluster}: ${line} ${error === undefined ? "" : String(error)}`),
  });
  let started: Discovery | undefined;
  void starting.then((discovery) => {
    started = discovery;
  });
  await eventually(`discovery of ${cluster}`, () => Promise.resolve(started !== undefined));
  discoveries.set(cluster, started!);
}

before(async () => {
  fleet = await Fleet.start(world, clusters);
  for (const cluster of clusters) {
    const { person } = fleet.of(cluster);
    for (const name of [home, "coolapp"]) await person.create(namespaces, { metadata: { name } });
    await person.create(serviceMeshControlPlanes, {
      metadata: { namespace: home, name: "basic" },
      spec: { version: "v2.6" },
    });
    await person.create(serviceMeshMemberRolls, {
      metadata: { namespace: home, name: "default" },
      spec: { members: ["coolapp"] },
    });
    await fleet.startPlane(cluster);
  }
  await fleet.pass(2);
  for (const cluster of clusters) await discover(cluster);
});
after(() => {
  for (const discovery of discoveries.values()) discovery.stop();
  return fleet.close();
});

test("each publishes its roots at home, and nothing of them is secret", async () => {
  for (const cluster of clusters) {
    const { person } = fleet.of(cluster);
    await eventually(`TrustBundle of ${cluster}`, async () => {
      const bundle = await person.get(trustBundles, `${home}/basic`);
      return bundle?.spec.certificates === discoveries.get(cluster)!.authority.roots;
    });
    const bundle = await person.get(trustBundles, `${home}/basic`);
    assert.equal(bundle?.spec.cluster, cluster);
    assert.equal(bundle?.spec.trustDomain, domain(cluster));
    assert.doesNotMatch(JSON.stringify(bundle), /PRIVATE/);
  }
});

test("every pod is told the roots of both, each for its own trust domain", async () => {
  const [one, two] = clusters.map((cluster) => discoveries.get(cluster)!.authority.roots);
  assert.notEqual(one, two);
  for (const cluster of clusters) {
    await eventually(
      `both bundles in ${cluster}`,
      async () => Object.keys(await believed(cluster)).length === 2,
    );
    assert.deepEqual(await believed(cluster), { [domain("c1")]: one, [domain("c2")]: two });
    const { person } = fleet.of(cluster);
    const configMap = await person.get(configMaps, { namespace: "coolapp", name: "istio-ca-root-cert" });
    assert.equal(configMap?.data?.["root-cert.pem"], cluster === "c1" ? one : two, "discovery is ours alone");
  }
});

test("an endpoint of c2 is known in c1 as who it is: mTLS, by c2's trust domain, from its own region", async () => {
  const { person } = fleet.of("c2");
  const namespace = "coolapp";
  await person.create(nodes, {
    metadata: { name: "n1", labels: { "topology.kubernetes.io/region": "us" } },
  });
  await person.create(services, {
    metadata: { namespace, name: "catalog" },
    spec: { selector: { app: "catalog" }, ports: [{ name: "http", port: 8080 }] },
  });
  // A pod's creation waits for it, by a clock that stands here.
  await person.create(serviceAccounts, { metadata: { namespace, name: "default" } });
  await person.create(pods, {
    metadata: {
      namespace,
      name: "catalog-0",
      labels: { app: "catalog", version: "v2", team: "a", "security.istio.io/tlsMode": "istio" },
    },
    spec: {
      nodeName: "n1",
      serviceAccountName: "default",
      containers: [{ name: "catalog", image: "catalog" }],
    },
  });
  await person.create(endpointSlices, {
    metadata: { namespace, name: "catalog-x", labels: { "kubernetes.io/service-name": "catalog" } },
    addressType: "IPv4",
    ports: [{ name: "http", port: 8080, protocol: "TCP" }],
    endpoints: [
      {
        addresses: ["10.12.0.9"],
        conditions: { ready: true },
        nodeName: "n1",
        targetRef: { kind: "Pod", namespace, name: "catalog-0" },
      },
    ],
  });
  await person.create(serviceExports, { metadata: { namespace, name: "catalog" } });
  const upstream = "outbound|8080||catalog.coolapp.svc.clusterset.local";
  const { traffic } = discoveries.get("c1")!;
  await eventually("the endpoint in c1", () =>
    Promise.resolve(Boolean(traffic.endpoints.get(upstream)?.localities[0]?.endpoints[0]?.meshTls)),
  );
  const [locality] = traffic.endpoints.get(upstream)!.localities;
  assert.equal(locality?.region, "us");
  assert.deepEqual(locality?.endpoints[0]?.workload, {
    name: "catalog-0",
    namespace,
    service: "catalog",
    revision: "v2",
    cluster: "c2",
  });
  const offers = await person.list(endpointOffers, { namespace });
  assert.deepEqual(offers.items[0]?.spec.endpoints[0]?.workload, {
    name: "catalog-0",
    serviceAccount: "default",
    trustDomain: domain("c2"),
    labels: { app: "catalog", version: "v2" },
  });
  const instances = traffic.collections.get("instances")!;
  const identities = [...instances.values()].flatMap((each) =>
    (each as { instances: { identity: string }[] }).instances.map(({ identity }) => identity),
  );
  assert.ok(identities.includes(`spiffe://${domain("c2")}/ns/coolapp/sa/default`), identities.join());
});

test("a peer that changes its root is followed", async () => {
  const { person } = fleet.of("c2");
  const { makeRoot } = await import("../../../src/identity/x509.ts");
  const { certificate, key } = await makeRoot(world, "plugged in");
  const entries = { "ca-cert.pem": certificate, "ca-key.pem": key, "root-cert.pem": certificate };
  await person.create(secrets, {
    metadata: { namespace: home, name: "cacerts" },
    data: Object.fromEntries(
      Object.entries(entries).map(([name, text]) => [name, Buffer.from(text).toString("base64")]),
    ),
  });
  const count = async () => (await believed("c1"))[domain("c2")]?.match(/BEGIN/g)?.length;
  await eventually("two roots of c2 in c1", async () => (await count()) === 2);
});

test("a peer that speaks of our trust domain is not heard, and it is said", async () => {
  const { person } = fleet.of("c2");
  const { authority } = discoveries.get("c2")!;
  await person.create(trustBundles, {
    metadata: { namespace: "demo", name: "lie" },
    spec: { cluster: "c2", trustDomain: domain("c1"), certificates: authority.roots },
  });
  await eventually("a word about it", () =>
    Promise.resolve(logs.some((line) => /c1: roots do not count: c1\.clusterset\.local by c2/.test(line))),
  );
  assert.equal((await believed("c1"))[domain("c1")], discoveries.get("c1")!.authority.roots);
});

test("what peers said stands while they are not heard, also over a restart of the control plane", async () => {
  const before = await believed("c1");
  fleet.cut("c1", "c2");
  fleet.of("c1").plane?.stop();
  await fleet.startPlane("c1");
  // Before its lease is over, and long after.
  for (const seconds of [10, 120]) {
    await fleet.pass(seconds);
    assert.deepEqual(await believed("c1"), before);
  }
  const { person } = fleet.of("c1");
  assert.ok(await person.get(configMaps, { namespace: home, name: peerTrustConfigMap }));
  fleet.heal("c1", "c2");
  await fleet.pass(10);
  assert.deepEqual(await believed("c1"), before);
  for (const pem of Object.values(before)) assert.ok(new X509Certificate(pem).ca);
});

test("a cluster that is no peer any more is not believed any more", async () => {
  const { person } = fleet.of("c1");
  await person.delete(secrets, "weft-system/weft-peer-c2");
  await eventually("one bundle in c1", async () => Object.keys(await believed("c1")).length === 1);
  assert.deepEqual(Object.keys(await believed("c1")), [domain("c1")]);
});
