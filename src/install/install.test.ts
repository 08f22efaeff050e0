import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import {
  clusterProperties,
  configMaps,
  leases,
  namespaces,
  type Resource,
  secrets,
  serviceAccounts,
  serviceOffers,
  services,
} from "../api/index.ts";
import { ApiError, KubeClient, parseKubeconfig, transportFor } from "../kube/index.ts";
import { type ApiServer, createApiServer } from "../lab/apiserver/index.ts";
import { makeClusterPki } from "../lab/pki.ts";
import { defaultCluster } from "../lab/spec.ts";
import { realWorld } from "../world/index.ts";
import { credentialsIn, expiryOf } from "./credentials.ts";
import {
  joinClusters,
  leaveClusters,
  manifests,
  peersOf,
  prepareCluster,
  renewExpired,
  serverForPeers,
} from "./index.ts";

const world = realWorld();
const pki = (await makeClusterPki(world, defaultCluster("c1", 0))).cluster;
const servers: ApiServer[] = [];
after(() => Promise.all(servers.map((server) => server.close())));
const admin = { name: "admin", groups: ["system:masters"] };

interface Cluster {
  server: ApiServer;
  client: KubeClient;
}

async function cluster(name: string): Promise<Cluster> {
  const server = await createApiServer({
    world,
    cluster: name,
    storage: { kind: "memory" },
    serviceRange: "10.11.0.0/16",
    advertise: { address: "172.18.0.1", port: 6443 },
    serviceAccount: pki.serviceAccount,
  });
  servers.push(server);
  return { server, client: new KubeClient({ transport: server.as(admin), world, cluster: `weft-${name}` }) };
}

async function refusal(asked: Promise<unknown>): Promise<number | undefined> {
  try {
    await asked;
    return undefined;
  } catch (error) {
    if (error instanceof ApiError) return error.code;
    throw error;
  }
}

describe("install", () => {
  test("a cluster gets a name, and its DNS is told where clusterset.local is answered", async () => {
    const { client } = await cluster("c1");
    await client.create(configMaps, {
      metadata: { namespace: "kube-system", name: "kube-dns" },
      data: { stubDomains: '{"acme.local":["1.2.3.4"]}' },
    });
    await prepareCluster(client, { name: "c1" });
    await prepareCluster(client, { name: "c1" }); // again is no harm
    assert.equal((await client.get(clusterProperties, "cluster.clusterset.k8s.io"))?.spec.value, "c1");
    const service = await client.get(services, "weft-system/weft-dns");
    const config = await client.get(configMaps, "kube-system/kube-dns");
    assert.deepEqual(JSON.parse(config!.data!.stubDomains!), {
      "acme.local": ["1.2.3.4"],
      "clusterset.local": [service!.spec!.clusterIP],
    });
  });

  test("a name that is no part of a DNS name is refused before anything is written", async () => {
    const { client } = await cluster("c1");
    for (const name of [
      "Big",
      "a.b.c",
      "a_b",
      "-a",
      "a".repeat(64),
      `${"a".repeat(40)}.${"b".repeat(40)}`,
      "",
    ]) {
      await assert.rejects(prepareCluster(client, { name }), { code: "CLUSTER_ID_INVALID" }, name);
    }
    assert.equal(await client.get(namespaces, "weft-system"), undefined);
    await prepareCluster(client, { name: "east.prod" });
  });

  test("a cluster keeps the name that it has", async () => {
    const { client } = await cluster("c1");
    await prepareCluster(client, { name: "c1" });
    await assert.rejects(prepareCluster(client, { name: "other" }), { code: "CLUSTER_NAMED" });
    assert.equal((await client.get(clusterProperties, "cluster.clusterset.k8s.io"))?.spec.value, "c1");
  });

  test("the manifests are those that are applied, each once", () => {
    const names = manifests({ name: "c1" }).map(({ object }) => `${object.kind} ${object.metadata.name}`);
    assert.equal(new Set(names).size, names.length);
    for (const name of ["Namespace weft-system", "Deployment weft", "Service weft-dns"]) {
      assert.ok(names.includes(name), name);
    }
  });
});

describe("join", () => {
  test("each cluster gets a credential for every other that reads offers and one Lease, nothing else", async () => {
    const clusters = { a: await cluster("a"), b: await cluster("b"), c: await cluster("c") };
    for (const [name, { client }] of Object.entries(clusters)) {
      await prepareCluster(client, { name });
      await client.create(leases, { metadata: { namespace: "weft-system", name: "weft-heartbeat" } });
    }
    const joiners = Object.entries(clusters).map(([name, { client }]) => ({
      client,
      server: `https://${name}:6443`,
      ca: `-----BEGIN CERTIFICATE-----\n${name}\n-----END CERTIFICATE-----\n`,
    }));
    assert.deepEqual(await joinClusters(joiners), { names: ["a", "b", "c"], forgotten: [] });
    assert.deepEqual(await peersOf(clusters.a.client), ["b", "c"]);

    const secret = await clusters.a.client.get(secrets, "weft-system/weft-peer-b");
    const text = Buffer.from(secret!.data!.kubeconfig!, "base64").toString();
    const credentials = parseKubeconfig(text, "the Secret").credentials();
    assert.equal(credentials.server, "https://b:6443");
    const token = credentials.token as string;
    const tls = { ...pki.serving, clientCa: pki.ca.cert };
    const { port } = await clusters.b.server.listen({ host: "127.0.0.1", port: 0, tls });
    const transport = transportFor({ server: `https://127.0.0.1:${port}`, ca: pki.ca.cert, token });
    const peer = new KubeClient({ transport, world, cluster: "b" });
    assert.deepEqual((await peer.list(serviceOffers)).items, []);
    assert.ok(await peer.get(leases, "weft-system/weft-heartbeat"));
    const only = { namespace: "weft-system", fieldSelector: "metadata.name=weft-heartbeat" };
    assert.equal((await peer.list(leases, only)).items.length, 1);
    for (const kind of [services, secrets, configMaps, leases] as Resource[]) {
      assert.equal(await refusal(peer.list(kind)), 403, kind.plural);
    }
    const renew = (account: string) =>
      peer.json("POST", `/api/v1/namespaces/weft-system/serviceaccounts/${account}/token`, {
        body: { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec: {} },
      });
    assert.equal(await refusal(renew("weft-peer-a")), undefined);
    assert.equal(await refusal(renew("weft-peer-c")), 403);
    assert.equal(await refusal(renew("weft")), 403);

    assert.equal(await leaveClusters(clusters.a.client, [clusters.b.client, clusters.c.client]), "a");
    assert.deepEqual(await peersOf(clusters.a.client), []);
    assert.deepEqual(await peersOf(clusters.b.client), ["c"]);
    assert.notEqual(await refusal(peer.list(serviceOffers)), undefined, "the credential is void");
  });

  test("a cluster that was renamed without leaving is no peer under its former name any more", async () => {
    const [a, b, c] = [await cluster("a"), await cluster("b"), await cluster("c")];
    for (const [name, { client }] of Object.entries({ a, b, c })) await prepareCluster(client, { name });
    const joiners = Object.entries({ a, b, c }).map(([name, { client }]) => ({
      client,
      server: `https://${name}:6443`,
      ca: undefined,
    }));
    await joinClusters(joiners);
    const value = "b-2";
    await b.client.patch(clusterProperties, "cluster.clusterset.k8s.io", { spec: { value } });
    const { forgotten } = await joinClusters(joiners.slice(0, 2));
    assert.deepEqual(forgotten, [{ reader: "a", before: "b", name: "b-2" }]);
    assert.deepEqual(await peersOf(a.client), ["b-2", "c"]);
    assert.deepEqual(await peersOf(b.client), ["a", "c"], "what it knew stands");
    assert.equal(await a.client.get(serviceAccounts, "weft-system/weft-peer-b"), undefined);
    assert.ok(await a.client.get(serviceAccounts, "weft-system/weft-peer-b-2"));
    assert.deepEqual((await joinClusters(joiners)).forgotten, [{ reader: "c", before: "b", name: "b-2" }]);
  });

  test("credentials are good for a week; those that are over are made anew, and no others", async () => {
    const [a, b] = [await cluster("a"), await cluster("b")];
    for (const [name, { client }] of Object.entries({ a, b })) await prepareCluster(client, { name });
    const joiners = Object.entries({ a, b }).map(([name, { client }]) => ({
      client,
      name,
      server: `https://${name}:6443`,
      ca: undefined,
    }));
    await joinClusters(joiners);
    const life = async (of: Cluster, peer: string) => {
      const secret = await of.client.get(secrets, `weft-system/weft-peer-${peer}`);
      const { from, to } = expiryOf(credentialsIn(secret!))!;
      return { days: (to - from) / (24 * 3600_000), left: to - world.now() };
    };
    assert.equal((await life(a, "b")).days, 7);
    const secret = (await a.client.get(secrets, "weft-system/weft-peer-b"))!;
    const claims = Buffer.from(JSON.stringify({ iat: 1, exp: 2 })).toString("base64url");
    const text = Buffer.from(secret.data!.kubeconfig!, "base64").toString();
    const over = text.replace(/"token":"[^"]*"/, `"token":"x.${claims}.x"`);
    const data = { kubeconfig: Buffer.from(over).toString("base64") };
    await a.client.patch(secrets, "weft-system/weft-peer-b", { data });
    assert.ok((await life(a, "b")).left < 0);
    const other = await b.client.get(secrets, "weft-system/weft-peer-a");
    await renewExpired(joiners);
    assert.ok((await life(a, "b")).left > 0);
    assert.deepEqual(await b.client.get(secrets, "weft-system/weft-peer-a"), other);
    await leaveClusters(a.client, [b.client]);
    await renewExpired(joiners);
    assert.deepEqual([await peersOf(a.client), await peersOf(b.client)], [[], []]);
  });

  test("clusters without Weft, and two of one name, are refused before anything is written", async () => {
    const [a, b, empty] = [await cluster("a"), await cluster("b"), await cluster("empty")];
    await prepareCluster(a.client, { name: "same" });
    await prepareCluster(b.client, { name: "same" });
    const joiner = ({ client }: Cluster) => ({ client, server: "https://x", ca: undefined });
    await assert.rejects(joinClusters([joiner(a), joiner(empty)]), { code: "NOT_INSTALLED" });
    await assert.rejects(joinClusters([joiner(a), joiner(b)]), { code: "CLUSTER_TWICE" });
    assert.deepEqual(await peersOf(a.client), []);
  });

  test("an address on this machine is replaced by the one that the cluster publishes", async () => {
    const { client } = await cluster("a");
    assert.equal(await serverForPeers(client, "https://api.example:6443"), "https://api.example:6443");
    await assert.rejects(serverForPeers(client, "https://127.0.0.1:1"), { code: "NO_PEER_ADDRESS" });
    await client.create(configMaps, {
      metadata: { namespace: "kube-public", name: "cluster-info" },
      data: { kubeconfig: "clusters:\n- cluster:\n    server: https://172.18.0.1:6443\n  name: ''\n" },
    });
    assert.equal(await serverForPeers(client, "https://127.0.0.1:1"), "https://172.18.0.1:6443");
  });
});
