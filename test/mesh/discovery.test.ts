/** A mesh's discovery over an API server in this process: settings, roots, certificates, configuration, conditions. */
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { after, before, test } from "node:test";
import { createServer, type Server } from "node:tls";
import { Cluster } from "#protocols/envoy/config/cluster/v3/cluster.ts";
import { ClusterLoadAssignment } from "#protocols/envoy/config/endpoint/v3/endpoint.ts";
import { RouteConfiguration } from "#protocols/envoy/config/route/v3/route.ts";
import {
  configMaps,
  customResourceDefinitions,
  definitions,
  destinationRules,
  discoveryComponent,
  discoveryName,
  endpointSlices,
  gatewayApi,
  type MeshSettings,
  memberOfLabel,
  meshLabel,
  meshSettingsData,
  meshSettingsName,
  namespaces,
  peerTrustConfigMap,
  peerTrustData,
  pods,
  rateLimits,
  rootCertificateConfigMap,
  serviceAccounts,
  services,
  virtualServices,
} from "../../src/api/index.ts";
import { type Discovery, startDiscovery } from "../../src/discovery.ts";
import { makeRequest } from "../../src/identity/index.ts";
import { type FieldSink, KubeClient } from "../../src/kube/index.ts";
import { type ApiServer, createApiServer } from "../../src/lab/apiserver/index.ts";
import { realWorld } from "../../src/world/index.ts";
import { TestClient, type TestClientOptions } from "../../src/xds/testing/client.ts";
import { eventually } from "../support/eventually.ts";

const world = realWorld();
const settings: MeshSettings = {
  name: "basic",
  namespace: "istio-system",
  cluster: "c1",
  trustDomain: "cluster.local",
  trustDomainAliases: [],
  clusterDomain: "cluster.local",
  mtls: { mode: "PERMISSIVE", auto: true },
  balancer: "ROUND_ROBIN",
  outboundPolicy: "ALLOW_ANY",
  traceSampling: 1,
  accessLog: true,
  proxy: { implementation: "embedded", image: "weft", resources: {}, concurrency: 0 },
  discoveryHost: "istiod-basic.istio-system.svc",
};
const controlPlane = {
  apiVersion: "maistra.io/v1",
  kind: "ServiceMeshControlPlane",
  name: "basic",
  uid: "00000000-0000-4000-8000-000000000000",
};
const account = (namespace: string, name: string) => ({ metadata: { namespace, name } });
const log: string[] = [];
let api: ApiServer;
let person: KubeClient;
let discovery: Discovery;
let server: Server;
const clients: TestClient[] = [];

const told = (what: string) => () => `${what}\n${log.slice(-20).join("\n")}\n`;

before(async () => {
  const { publicKey, privateKey } = generateKeyPairSync("rsa", {
    modulusLength: 2048,
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
  });
  api = await createApiServer({
    serviceAccount: { privateKey, publicKey },
    world,
    cluster: "c1",
    storage: { kind: "memory" },
    serviceRange: "10.11.0.0/16",
    advertise: { address: "172.18.0.1", port: 6443 },
    onBug: (error) => {
      throw error;
    },
  });
  const admin = { name: "admin", groups: ["system:masters"] };
  person = new KubeClient({ transport: api.as(admin), world, cluster: "c1" });
  for (const definition of definitions()) await person.create(customResourceDefinitions, definition);
  const label = { [memberOfLabel]: "istio-system" };
  await person.create(namespaces, { metadata: { name: "istio-system" } });
  await person.create(namespaces, { metadata: { name: "coolapp", labels: label } });
  await person.create(namespaces, { metadata: { name: "elsewhere" } });
  for (const namespace of ["coolapp", "elsewhere"])
    await person.create(serviceAccounts, account(namespace, "gateway"));
  const started = startDiscovery({
    client: new KubeClient({ transport: api.as(admin), world, cluster: "c1" }),
    namespace: "istio-system",
    name: "basic",
    identity: "test",
    log: (line, error) => log.push(`${line} ${error instanceof Error ? error.stack : ""}`),
  });
  // The settings come later than discovery: it waits.
  await eventually(told("waiting"), () => log.some((line) => line.startsWith("waiting for the settings")));
  await person.create(configMaps, {
    metadata: { namespace: "istio-system", name: meshSettingsName("basic"), ownerReferences: [controlPlane] },
    data: meshSettingsData(settings),
  });
  discovery = await started;
  await eventually(told("readiness"), () => discovery.ready);
  server = createServer({ ...discovery.tls.current, requestCert: true, ALPNProtocols: ["h2"] }, (socket) =>
    discovery.xds.accept(socket),
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
});

after(async () => {
  for (const client of clients) client.close();
  discovery?.stop();
  server?.close();
  await api?.close();
});

const post = async (path: string, body: unknown, headers = {}) => {
  const { status, body: text } = await discovery.post(path, {
    method: "POST",
    headers,
    body: Buffer.from(JSON.stringify(body)),
  });
  return { status, body: JSON.parse(text) as Record<string, unknown> };
};

/** A certificate for a service account, as an agent gets one. */
async function certificateFor(namespace: string, name: string) {
  const review = await person.json<{ status: { token: string } }>(
    "POST",
    `/api/v1/namespaces/${namespace}/serviceaccounts/${name}/token`,
    {
      body: {
        apiVersion: "authentication.k8s.io/v1",
        kind: "TokenRequest",
        spec: { audiences: ["istio-ca"] },
      },
    },
  );
  const { keyPem, csrPem } = makeRequest();
  const answer = await post(
    "/certificates",
    { csr: csrPem },
    { authorization: `Bearer ${review.status.token}` },
  );
  return { ...answer, key: keyPem };
}

async function connect(more: Partial<TestClientOptions> = {}): Promise<TestClient> {
  const { body, key } = await certificateFor("coolapp", "gateway");
  const client = new TestClient({
    target: `127.0.0.1:${(server.address() as { port: number }).port}`,
    node: {
      pod: `gateway-${clients.length}`,
      namespace: "coolapp",
      serviceAccount: "gateway",
      labels: { app: "gateway" },
    },
    tls: {
      cert: body.certificateChain as string,
      key,
      ca: discovery.authority.roots,
      serverName: "istiod-basic.istio-system.svc",
    },
    ...more,
  });
  clients.push(client);
  return client;
}

test("its roots stand in the mesh's namespace", async () => {
  const configMap = await eventually(told("the ConfigMap"), () =>
    person.get(configMaps, { namespace: "istio-system", name: rootCertificateConfigMap }),
  );
  assert.equal(configMap.data?.["root-cert.pem"], discovery.authority.roots);
  assert.deepEqual(configMap.metadata.ownerReferences, [controlPlane], "they go with the mesh");
  // What the control plane keeps beside it is none of its business.
  assert.ok(await person.get(configMaps, { namespace: "istio-system", name: meshSettingsName("basic") }));
});

test("members get certificates, others do not", async () => {
  const { status, body } = await certificateFor("coolapp", "gateway");
  assert.equal(status, 200);
  assert.match(String(body.certificateChain), /BEGIN CERTIFICATE/);
  const other = await certificateFor("elsewhere", "gateway");
  assert.equal(other.status, 403);
  assert.match(String(other.body.error), /'elsewhere' is no member of mesh istio-system\/basic/);
  assert.equal(
    (await discovery.post("/else", { method: "POST", headers: {}, body: Buffer.alloc(0) })).status,
    404,
  );
});

test("the webhook injects", async () => {
  const pod = {
    metadata: { generateName: "catalog-", annotations: { "sidecar.istio.io/inject": "true" } },
    spec: { containers: [{ name: "catalog", image: "catalog" }] },
  };
  const request = { uid: "1", kind: { kind: "Pod" }, namespace: "coolapp", operation: "CREATE", object: pod };
  const { body } = await post("/inject", {
    kind: "AdmissionReview",
    apiVersion: "admission.k8s.io/v1",
    request,
  });
  const { response } = body as { response: { allowed: boolean; patch?: string } };
  assert.equal(response.allowed, true);
  assert.match(Buffer.from(response.patch ?? "", "base64").toString(), /istio-proxy/);
});

test("a node that is not whom its certificate is for is refused", async () => {
  const node = { pod: "x-1", namespace: "coolapp", serviceAccount: "another" };
  const client = await connect({ node });
  client.ask("cluster");
  await assert.rejects(
    client.until(() => false),
    /the node says it is coolapp\/another, its certificate is for coolapp\/gateway/,
  );
});

test("a proxy gets clusters, endpoints and routes, and every change of them", async () => {
  const host = "catalog.coolapp.svc.cluster.local";
  const name = `outbound|8080||${host}`;
  await person.create(services, {
    metadata: { namespace: "coolapp", name: "catalog" },
    spec: { selector: { app: "catalog" }, ports: [{ name: "http", port: 8080 }] },
  });
  const labels = { app: "catalog", "security.istio.io/tlsMode": "istio" };
  await person.create(serviceAccounts, account("coolapp", "catalog"));
  await person.create(pods, {
    metadata: { namespace: "coolapp", name: "catalog-v1-1", labels },
    spec: { serviceAccountName: "catalog", containers: [{ name: "catalog", image: "catalog" }] },
  });
  const slice = (address: string) => ({
    metadata: {
      namespace: "coolapp",
      name: "catalog-1",
      labels: { "kubernetes.io/service-name": "catalog" },
    },
    addressType: "IPv4" as const,
    endpoints: [
      {
        addresses: [address],
        conditions: { ready: true },
        targetRef: { kind: "Pod", name: "catalog-v1-1", namespace: "coolapp" },
      },
    ],
    ports: [{ name: "http", port: 8080, protocol: "TCP" }],
  });
  await person.create(endpointSlices, slice("10.10.0.9"));
  const client = await connect();
  client.ask("cluster");
  await client.until(() => client.held.cluster.has(name), name);
  assert.equal(Cluster.decode(client.held.cluster.get(name)!.message).lbPolicy, 0);
  client.ask("endpoints", [name]);
  const addresses = () => {
    const held = client.held.endpoints.get(name);
    const { endpoints = [] } = held ? ClusterLoadAssignment.decode(held.message) : {};
    return JSON.stringify(endpoints);
  };
  await client.until(() => addresses().includes("10.10.0.9"), "endpoints");
  assert.match(addresses(), /"tlsMode":"istio"/);
  client.ask("listener");
  await client.until(() => client.held.listener.has("virtualOutbound"), "listeners");
  client.ask("route", ["8080"]);
  const route = () => {
    const held = client.held.route.get("8080");
    return held ? JSON.stringify(RouteConfiguration.decode(held.message)) : "";
  };
  await client.until(() => route().includes(name), "routes");

  await person.create(virtualServices, {
    metadata: { namespace: "coolapp", name: "catalog" },
    spec: {
      hosts: ["catalog"],
      http: [{ route: [{ destination: { host: "catalog", subset: "version-v2" } }] }],
    },
  });
  await client.until(() => route().includes("outbound|8080|version-v2|"), "the subset's route");
  const before = client.responses;
  await person.apply(endpointSlices, slice("10.10.0.10"), { force: true });
  await client.until(() => addresses().includes("10.10.0.10"), "the new endpoint");
  assert.equal(client.responses, before + 1);

  await eventually(told("its acknowledgement"), () =>
    discovery.xds.proxies().some(({ kinds, lag }) => kinds.route.state === "synced" && lag === 0),
  );
});

test("what is wrong with an object stands in its status, until it is mended", async () => {
  const condition = async () =>
    (await person.get(virtualServices, "coolapp/catalog"))?.status?.conditions?.[0];
  const found = await eventually(told("a condition"), condition);
  assert.equal(found.type, "Accepted");
  assert.equal(found.status, "False");
  assert.match(found.message ?? "", /version-v2/);
  await person.create(destinationRules, {
    metadata: { namespace: "coolapp", name: "catalog" },
    spec: { host: "catalog", subsets: [{ name: "version-v2", labels: { version: "v2" } }] },
  });
  await eventually(told("no condition"), async () => (await condition()) === undefined);
});

test("a kind of our own says that it counts", async () => {
  await person.create(rateLimits, {
    metadata: { namespace: "coolapp", name: "calm" },
    spec: { limits: [{ name: "all", tokens: 5, interval: "1m" }] },
  });
  const accepted = await eventually(
    told("a condition"),
    async () => (await person.get(rateLimits, "coolapp/calm"))?.status?.conditions?.[0],
  );
  assert.deepEqual([accepted.type, accepted.status], ["Accepted", "True"]);
});

test("Gateway API's objects are told whether they are served", async () => {
  await person.create(services, {
    metadata: { namespace: "istio-system", name: "istio-ingressgateway" },
    spec: { selector: { istio: "ingressgateway" }, ports: [{ name: "http", port: 80, targetPort: 8080 }] },
  });
  await person.create(gatewayApi.gateways, {
    metadata: { namespace: "coolapp", name: "front" },
    spec: {
      gatewayClassName: "weft",
      listeners: [{ name: "http", port: 80, protocol: "HTTP", hostname: "*.example.com" }],
    },
  });
  await person.create(gatewayApi.httpRoutes, {
    metadata: { namespace: "coolapp", name: "shop" },
    spec: {
      parentRefs: [{ name: "front" }],
      hostnames: ["shop.example.com"],
      rules: [{ backendRefs: [{ name: "nobody", port: 80 }] }],
    },
  });
  const gateway = await eventually(told("an attached route"), async () => {
    const { status } = (await person.get(gatewayApi.gateways, "coolapp/front")) ?? {};
    return status?.listeners?.[0]?.attachedRoutes === 1 ? status : undefined;
  });
  assert.equal(gateway.conditions?.find(({ type }) => type === "Programmed")?.status, "True");
  assert.match(gateway.listeners![0]!.conditions[0]!.lastTransitionTime, /^20\d\d-/);
  const parent = await eventually(
    told("the route's status"),
    async () => (await person.get(gatewayApi.httpRoutes, "coolapp/shop"))?.status?.parents[0],
  );
  assert.deepEqual(
    parent.conditions?.map(({ type, status, reason }) => [type, status, reason]),
    [
      ["Accepted", "True", "Accepted"],
      ["ResolvedRefs", "False", "BackendNotFound"],
    ],
  );
});

test("of two meshes each speaks of its own objects: nothing is written back and forth", async () => {
  const other = { ...settings, name: "other", namespace: "mesh-b", discoveryHost: "istiod-other.mesh-b.svc" };
  await person.create(namespaces, { metadata: { name: "mesh-b" } });
  await person.create(namespaces, {
    metadata: { name: "theirs", labels: { [memberOfLabel]: "mesh-b" } },
  });
  await person.create(configMaps, {
    metadata: { namespace: "mesh-b", name: meshSettingsName("other") },
    data: meshSettingsData(other),
  });
  // As the control plane makes them: by these the meshes' own namespaces are known.
  for (const [namespace, name] of [
    ["istio-system", "basic"],
    ["mesh-b", "other"],
  ] as const)
    await person.create(services, {
      metadata: {
        namespace,
        name: discoveryName(name),
        labels: { [meshLabel]: `${namespace}.${name}`, "app.kubernetes.io/component": discoveryComponent },
      },
      spec: { ports: [{ name: "grpc-xds", port: 15012 }] },
    });
  const second = await startDiscovery({
    client: new KubeClient({
      transport: api.as({ name: "admin", groups: ["system:masters"] }),
      world,
      cluster: "c1",
    }),
    namespace: "mesh-b",
    name: "other",
    identity: "second",
    log: (line, error) => log.push(`${line} ${error instanceof Error ? error.stack : ""}`),
  });
  try {
    const wrong = async (namespace: string, name: string) => {
      await person.create(virtualServices, {
        metadata: { namespace, name },
        spec: { hosts: [name], http: [{ route: [{ destination: { host: "nobody" } }] }] },
      });
      await eventually(
        told(`what is wrong in ${namespace}`),
        async () => (await person.get(virtualServices, `${namespace}/${name}`))?.status?.conditions?.[0],
      );
    };
    const writes = (of: Discovery) => {
      const sink = of.sinks.get("weft-conditions-virtualservices") as FieldSink;
      return [sink.writes.statuses, sink.writes.withdrawn];
    };
    const before = writes(discovery);
    for (const name of ["a", "b"])
      for (const namespace of ["coolapp", "istio-system", "theirs", "mesh-b"]) await wrong(namespace, name);
    assert.deepEqual(writes(discovery), [before[0]! + 4, before[1]]);
    assert.deepEqual(writes(second), [4, 0]);
    // What leaves every mesh is spoken of no more.
    await person.patch(
      namespaces,
      "theirs",
      { metadata: { labels: { [memberOfLabel]: null } } },
      { manager: "person" },
    );
    await eventually(
      told("no condition"),
      async () => (await person.get(virtualServices, "theirs/a"))?.status?.conditions === undefined,
    );
  } finally {
    second.stop();
  }
});

test("a mesh that is taken away: what is heard after its settings are gone harms nothing", async () => {
  await person.delete(configMaps, { namespace: "istio-system", name: meshSettingsName("basic") });
  await eventually(told("the end of the settings"), () => discovery.collections.get("mesh")!.size === 0);
  const roots = discovery.authority.roots;
  const of = { cluster: "c2", trustDomain: "c2.example", certificates: roots };
  await person.create(configMaps, {
    metadata: { namespace: "istio-system", name: peerTrustConfigMap },
    data: peerTrustData([of]),
  });
  await eventually(told("the peer's roots"), async () => {
    const said = await person.get(configMaps, { namespace: "istio-system", name: rootCertificateConfigMap });
    return said?.data?.["trust-bundles.json"]?.includes("c2.example");
  });
  assert.equal(discovery.engine.work.bugs, 0, log.filter((line) => /^bug/.test(line)).join("\n"));
});
