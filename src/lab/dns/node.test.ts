import assert from "node:assert/strict";
import { Resolver } from "node:dns/promises";
import { after, before, describe, test } from "node:test";
import { eventually as until } from "../../../test/support/eventually.ts";
import { configMaps, type EndpointSlice, endpointSlices, namespaces, services } from "../../api/index.ts";
import { createDnsServer, Zones } from "../../dns/index.ts";
import { KubeClient } from "../../kube/index.ts";
import { realWorld } from "../../world/index.ts";
import { type ApiServer, createApiServer } from "../apiserver/index.ts";
import { ensureDnsService, type NodeDns, startNodeDns } from "./index.ts";

const world = realWorld();
let api: ApiServer;
let client: KubeClient;
let dns: NodeDns;
const resolver = new Resolver({ timeout: 2000, tries: 1 });
const problems: string[] = [];

before(async () => {
  api = await createApiServer({
    world,
    cluster: "c1",
    storage: { kind: "memory" },
    serviceRange: "10.11.0.0/16",
    advertise: { address: "172.18.0.1", port: 6443 },
  });
  client = new KubeClient({
    transport: api.as({ name: "admin", groups: ["system:masters"] }),
    world,
    cluster: "c1",
  });
  dns = await startNodeDns({
    world,
    client,
    clusterDomain: "cluster.local",
    address: "127.0.0.1",
    port: 0,
    onProblem: (problem) => problems.push(problem),
  });
  resolver.setServers([`127.0.0.1:${dns.port}`]);
  await dns.synced;
});
after(async () => {
  await dns.close();
  await api.close();
});

/** Asks until the answer, or the code of its error, is the expected one. */
async function eventually<T>(ask: () => Promise<T>, expected: T): Promise<void> {
  await until("the answer", async () => {
    assert.deepEqual(await ask().catch((error: { code: string }) => error.code as T), expected);
    return true;
  });
}

const a = (name: string) => async () => (await resolver.resolve4(name)).sort();
const slice = (name: string, service: string, endpoints: EndpointSlice["endpoints"]) => ({
  metadata: { name, namespace: "demo", labels: { "kubernetes.io/service-name": service } },
  addressType: "IPv4",
  ports: [{ name: "sql", port: 5432, protocol: "TCP" }],
  endpoints,
});

describe("the cluster DNS of a node", () => {
  before(async () => {
    await client.create(namespaces, { metadata: { name: "demo" } });
  });

  test("answers for the API server's service, there and back", async () => {
    await eventually(a("kubernetes.default.svc.cluster.local"), ["10.11.0.1"]);
    await eventually(() => resolver.reverse("10.11.0.1"), ["kubernetes.default.svc.cluster.local"]);
    const srv = async () =>
      (await resolver.resolveSrv("_https._tcp.kubernetes.default.svc.cluster.local")).map(
        ({ name, port, priority, weight }) => [name, port, priority, weight],
      );
    await eventually(srv, [["kubernetes.default.svc.cluster.local", 443, 0, 100]]);
    await eventually(() => resolver.resolveTxt("dns-version.cluster.local"), [["1.1.0"]]);
  });

  test("follows a service from its making to its end", async () => {
    await eventually(a("serve.demo.svc.cluster.local"), "ENOTFOUND" as never);
    const made = await client.create(services, {
      metadata: { name: "serve", namespace: "demo" },
      spec: { selector: { app: "serve" }, ports: [{ port: 80 }] },
    });
    await eventually(a("serve.demo.svc.cluster.local"), [made.spec!.clusterIP!]);
    await client.delete(services, "demo/serve");
    await eventually(a("serve.demo.svc.cluster.local"), "ENOTFOUND" as never);
    await eventually(a("demo.svc.cluster.local"), "ENODATA" as never);
  });

  test("follows the endpoints of a headless service", async () => {
    await client.create(services, {
      metadata: { name: "db", namespace: "demo" },
      spec: { clusterIP: "None", ports: [{ name: "sql", port: 5432 }] },
    });
    const two = [
      { addresses: ["10.10.0.1"], hostname: "db-0" },
      { addresses: ["10.10.0.2"], hostname: "db-1" },
    ];
    await client.create(endpointSlices, slice("db-1", "db", two));
    await eventually(a("db.demo.svc.cluster.local"), ["10.10.0.1", "10.10.0.2"]);
    await eventually(a("db-1.db.demo.svc.cluster.local"), ["10.10.0.2"]);
    await eventually(() => resolver.reverse("10.10.0.2"), ["db-1.db.demo.svc.cluster.local"]);
    const srv = async () =>
      (await resolver.resolveSrv("_sql._tcp.db.demo.svc.cluster.local")).map((r) => r.name).sort();
    await eventually(srv, ["db-0.db.demo.svc.cluster.local", "db-1.db.demo.svc.cluster.local"]);
    const [first, second] = two as [EndpointSlice["endpoints"][0], EndpointSlice["endpoints"][0]];
    await client.replace(
      endpointSlices,
      slice("db-1", "db", [first, { ...second, conditions: { ready: false } }]),
    );
    await eventually(a("db.demo.svc.cluster.local"), ["10.10.0.1"]);
    await eventually(a("db-1.db.demo.svc.cluster.local"), "ENOTFOUND" as never);
    await client.delete(endpointSlices, "demo/db-1");
    await eventually(a("db.demo.svc.cluster.local"), "ENOTFOUND" as never);
  });

  test("knows pods by their address in namespaces that exist", async () => {
    await eventually(a("10-10-0-7.demo.pod.cluster.local"), ["10.10.0.7"]);
    await eventually(a("10-10-0-7.nobody.pod.cluster.local"), "ENOTFOUND" as never);
  });

  test("hands stub domains to their servers as soon as the ConfigMap says so, and no longer", async () => {
    const theirs = new Zones();
    theirs.add({ name: "clusterset.local" });
    theirs.put({ name: "serve.demo.svc.clusterset.local", type: "A", ttl: 5, data: "10.11.0.77" });
    const other = createDnsServer({ world, zones: theirs });
    const { port } = await other.listen({ address: "127.0.0.1", port: 0 });
    await eventually(a("serve.demo.svc.clusterset.local"), "ENOTFOUND" as never);
    await client.create(configMaps, {
      metadata: { name: "kube-dns", namespace: "kube-system" },
      data: {
        stubDomains: JSON.stringify({ "clusterset.local": [`127.0.0.1:${port}`], "bad.local": ["?"] }),
      },
    });
    await eventually(a("serve.demo.svc.clusterset.local"), ["10.11.0.77"]);
    assert.deepEqual(problems, ['stubDomains bad.local: "?" is not the address of a DNS server']);
    await client.create(services, {
      metadata: { name: "alias", namespace: "demo" },
      spec: { type: "ExternalName", externalName: "serve.demo.svc.clusterset.local" },
    });
    await eventually(a("alias.demo.svc.cluster.local"), ["10.11.0.77"]);
    await client.delete(configMaps, "kube-system/kube-dns");
    await eventually(a("serve.demo.svc.clusterset.local"), "ENOTFOUND" as never);
    await other.close();
  });

  test("its own Service is made with an endpoint for every node, and kept so", async () => {
    const nodes = [
      { name: "c1-control-plane", address: "172.18.0.2" },
      { name: "c1-worker", address: "172.18.0.3" },
    ];
    await ensureDnsService(client, { clusterIP: "10.11.0.10", nodes });
    const service = await client.get(services, "kube-system/kube-dns");
    assert.deepEqual(
      service!.spec!.ports!.map(({ name, port, protocol }) => [name, port, protocol]),
      [
        ["dns", 53, "UDP"],
        ["dns-tcp", 53, "TCP"],
      ],
    );
    await eventually(a("kube-dns.kube-system.svc.cluster.local"), ["10.11.0.10"]);
    await eventually(() => resolver.resolveNs("cluster.local"), ["kube-dns.kube-system.svc.cluster.local"]);
    const addresses = async () => {
      const { items } = await client.list(endpointSlices, { namespace: "kube-system" });
      return items.map(({ metadata, endpoints }) => `${metadata.name} ${endpoints[0]!.addresses[0]}`).sort();
    };
    assert.deepEqual(await addresses(), [
      "kube-dns-c1-control-plane 172.18.0.2",
      "kube-dns-c1-worker 172.18.0.3",
    ]);
    await ensureDnsService(client, { clusterIP: "10.11.0.10", nodes });
    assert.equal(
      (await client.get(services, "kube-system/kube-dns"))!.metadata.resourceVersion,
      service!.metadata.resourceVersion,
      "nothing is written where nothing is to be changed",
    );
    await ensureDnsService(client, { clusterIP: "10.11.0.10", nodes: nodes.slice(0, 1) });
    assert.deepEqual(await addresses(), ["kube-dns-c1-control-plane 172.18.0.2"]);
  });
});
