/**
 * Seed 002's control plane and member roll without processes: an API server and a control plane in this process under
 * a simulated clock (law 12). What discovery and kubelets would write is put by hand.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { parse } from "yaml";
import {
  type CustomResourceDefinition,
  clusterRoleBindings,
  configMaps,
  customResourceDefinitions,
  type Deployment,
  definitions,
  deployments,
  gatewayApi,
  type KubeObject,
  meshSettingsName,
  mutatingWebhookConfigurations,
  namespaces,
  readMeshSettings,
  roleBindings,
  type ServiceMeshControlPlane,
  serviceAccounts,
  serviceImports,
  serviceMeshControlPlanes,
  serviceMeshMemberRolls,
  serviceMeshMembers,
  services,
} from "../../../src/api/index.ts";
import type { Draft, KubeClient } from "../../../src/kube/index.ts";
import { SimulatedWorld } from "../../../src/world/index.ts";
import { Fleet } from "../../support/fleet.ts";

const samples = new URL("../../../samples/coolapp/", import.meta.url);
const seed = parse(readFileSync(new URL("service-mesh.yaml", samples), "utf8")) as ServiceMeshControlPlane;
const seedRoll = parse(readFileSync(new URL("service-mesh-roll.yaml", samples), "utf8")) as KubeObject;

const home = "istio-system";
const mesh = { namespace: home, name: seed.metadata.name };
const components = ["istio-egressgateway", "istio-ingressgateway", `istiod-${mesh.name}`];

/** As kubectl writes it: in the version of the manifest, whichever our resources name. */
async function applyAsWritten(person: KubeClient, object: KubeObject, namespace: string): Promise<void> {
  const [group, version] = object.apiVersion.split("/");
  const plural = `${object.kind.toLowerCase()}s`;
  const resource = { group: group!, version: version!, kind: object.kind, plural, namespaced: true };
  await person.apply(
    resource,
    { ...object, metadata: { ...object.metadata, namespace } },
    { manager: "kubectl", force: true },
  );
}

/** Whose names, in a namespace or in the cluster, are marked as a mesh's. */
async function ours(person: KubeClient): Promise<string[]> {
  const found: string[] = [];
  for (const resource of [
    deployments,
    services,
    serviceAccounts,
    roleBindings,
    clusterRoleBindings,
    configMaps,
    mutatingWebhookConfigurations,
  ]) {
    const { items } = await person.list<KubeObject>(resource, {
      labelSelector: "app.kubernetes.io/managed-by=weft-mesh",
    });
    for (const { metadata } of items)
      found.push(`${resource.kind} ${metadata.namespace ? `${metadata.namespace}/` : ""}${metadata.name}`);
  }
  return found.sort();
}

/** What kubelets and the Deployment controller would report. */
async function available(person: KubeClient, name: string, count = 1): Promise<void> {
  const deployment = (await person.get(deployments, `${home}/${name}`))!;
  await person.apply(
    deployments,
    {
      metadata: { namespace: home, name },
      status: {
        observedGeneration: deployment.metadata.generation ?? 1,
        replicas: count,
        updatedReplicas: count,
        readyReplicas: count,
        availableReplicas: count,
      },
    } as Draft<Deployment>,
    { manager: "deployments", force: true, subresource: "status" },
  );
}

const makeNamespace = (person: KubeClient, name: string) => person.create(namespaces, { metadata: { name } });

const publishRoots = (person: KubeClient, pem: string) =>
  person.apply(
    configMaps,
    { metadata: { namespace: home, name: "istio-ca-root-cert" }, data: { "root-cert.pem": pem } },
    { manager: "discovery", force: true },
  );

const labelOf = async (person: KubeClient, name: string) =>
  (await person.get(namespaces, name))?.metadata.labels?.["maistra.io/member-of"];

const conditionsOf = (object: {
  status?: { conditions?: { type: string; status: string; reason?: string }[] };
}) =>
  (object.status?.conditions ?? []).map(({ type, status, reason }) => `${type}=${status}/${reason}`).sort();

describe("the seed's control plane", () => {
  let fleet: Fleet;
  let person: KubeClient;
  before(async () => {
    fleet = await Fleet.start(new SimulatedWorld(1), ["c1"]);
    await fleet.startPlane("c1");
    ({ person } = fleet.of("c1"));
    await makeNamespace(person, home);
    await applyAsWritten(person, seed, home);
    await fleet.pass(2);
  });
  after(() => fleet.close());

  const controlPlane = async () => (await person.get(serviceMeshControlPlanes, mesh))!;

  test("becomes discovery and two gateways, all marked and owned by it", async () => {
    assert.deepEqual(await ours(person), [
      "ClusterRoleBinding weft-discovery-istio-system-service-mesh-installation",
      "ConfigMap istio-system/weft-mesh-service-mesh-installation",
      ...components.map((name) => `Deployment istio-system/${name}`),
      "RoleBinding istio-system/istiod-service-mesh-installation",
      ...components.map((name) => `Service istio-system/${name}`),
      "ServiceAccount istio-system/istio-egressgateway-service-account",
      "ServiceAccount istio-system/istio-ingressgateway-service-account",
      "ServiceAccount istio-system/istiod-service-mesh-installation",
    ]);
    const { uid } = (await controlPlane()).metadata;
    for (const name of components) {
      const [owner] = (await person.get(deployments, `${home}/${name}`))!.metadata.ownerReferences ?? [];
      assert.equal(owner?.uid, uid);
    }
  });

  test("Gateways of the Gateway API have a class to name", async () => {
    const found = await person.get(gatewayApi.gatewayClasses, "weft");
    assert.equal(found?.spec.controllerName, "weft.dev/gateway-controller");
    assert.deepEqual(conditionsOf(found!), ["Accepted=True/Accepted"]);
  });

  test("its ingress gateway listens where Istio's does, its egress gateway inside only", async () => {
    const ingress = (await person.get(services, `${home}/istio-ingressgateway`))!.spec!;
    assert.equal(ingress.type, "LoadBalancer");
    assert.deepEqual(
      ingress.ports!.map(({ port, targetPort }) => `${port}→${targetPort}`),
      ["15021→15021", "80→8080", "443→8443"],
    );
    assert.deepEqual(ingress.selector, { app: "istio-ingressgateway", istio: "ingressgateway" });
    assert.equal((await person.get(services, `${home}/istio-egressgateway`))!.spec!.type, "ClusterIP");
    const { spec } = (await person.get(deployments, `${home}/istio-ingressgateway`))!;
    const [proxy] = spec!.template.spec!.containers;
    assert.deepEqual(proxy!.args, ["proxy", "gateway"]);
    assert.equal(proxy!.image, "weft/control-plane:test");
    assert.deepEqual(
      proxy!.resources,
      seed.spec!.istio!.global && {
        requests: { cpu: "100m", memory: "128Mi" },
        limits: { cpu: "500m", memory: "128Mi" },
      },
    );
  });

  test("its settings are what the seed says: permissive, round robin, every request traced", async () => {
    const settings = readMeshSettings(
      await person.get(configMaps, { namespace: home, name: meshSettingsName(mesh.name) }),
    )!;
    assert.deepEqual(settings.mtls, { mode: "PERMISSIVE", auto: true });
    assert.equal(settings.balancer, "ROUND_ROBIN");
    assert.equal(settings.traceSampling, 100);
    assert.equal(settings.trustDomain, "c1.clusterset.local");
    assert.equal(settings.discoveryHost, "istiod-service-mesh-installation.istio-system.svc");
  });

  test("says what is not ready, and which fields have no effect", async () => {
    const { status } = await controlPlane();
    assert.deepEqual(conditionsOf(await controlPlane()), [
      "Installed=True/InstallSuccessful",
      "NotServedYet=True/FieldsWithoutEffect",
      "Ready=False/ComponentsNotReady",
      "Reconciled=True/InstallSuccessful",
    ]);
    assert.equal(status!.annotations!.readyComponentCount, "0/3");
    const told = status!.conditions!.find(({ type }) => type === "NotServedYet")!.message;
    assert.equal(
      told,
      "Weft does not serve these fields yet, they have no effect: spec.istio.global.disablePolicyChecks, spec.istio.kiali, spec.istio.mixer.telemetry, spec.istio.tracing. What comes with the v1 form unasked is not there yet: grafana, prometheus",
    );
  });

  test("is ready when its Deployments are", async () => {
    for (const name of components) await available(person, name);
    await fleet.pass(1);
    const { status } = await controlPlane();
    assert.equal(status!.annotations!.readyComponentCount, "3/3");
    const ready = status!.conditions!.find(({ type }) => type === "Ready")!;
    assert.deepEqual([ready.status, ready.reason], ["True", "ComponentsReady"]);
    assert.deepEqual(status!.readiness!.components!.ready!.sort(), components);
  });

  test("shows pods to discovery once discovery's roots are known, and goes on when they are lost", async () => {
    const name = "weft-injection-istio-system-service-mesh-installation";
    assert.equal(await person.get(mutatingWebhookConfigurations, name), undefined);
    await publishRoots(person, "one");
    await fleet.pass(1);
    const caBundle = async () =>
      Buffer.from(
        (await person.get(mutatingWebhookConfigurations, name))!.webhooks![0]!.clientConfig.caBundle ?? "",
        "base64",
      ).toString();
    assert.equal(await caBundle(), "one");
    await person.delete(configMaps, `${home}/istio-ca-root-cert`);
    await fleet.pass(1);
    assert.equal(await caBundle(), "one");
    await publishRoots(person, "two");
    await fleet.pass(1);
    assert.equal(await caBundle(), "two");
  });

  test("a roll's namespaces become members, also one that comes later, and get the roots", async () => {
    await applyAsWritten(person, seedRoll, home);
    await fleet.pass(1);
    const roll = async () => (await person.get(serviceMeshMemberRolls, `${home}/default`))!;
    assert.deepEqual(conditionsOf(await roll()), ["Ready=False/ErrNamespaceMissing"]);
    assert.deepEqual((await roll()).status!.pendingMembers, ["coolapp"]);
    await makeNamespace(person, "coolapp");
    await makeNamespace(person, "other");
    await fleet.pass(1);
    assert.equal(await labelOf(person, "coolapp"), home);
    assert.equal(await labelOf(person, "other"), undefined);
    const { metadata, status } = await roll();
    assert.deepEqual(status!.configuredMembers, ["coolapp"]);
    assert.equal(status!.annotations!.configuredMemberCount, "1/1");
    assert.equal(status!.observedGeneration, metadata.generation);
    assert.equal(metadata.ownerReferences?.[0]?.name, mesh.name);
    assert.deepEqual(conditionsOf({ status: status! }), ["Ready=True/Configured"]);
    const roots = (await person.get(configMaps, "coolapp/istio-ca-root-cert"))!;
    assert.deepEqual(roots.data, { "root-cert.pem": "two" });
  });

  test("what is deleted by mistake comes back; a control plane that starts again rewrites nothing", async () => {
    await person.delete(services, `${home}/istio-ingressgateway`);
    await person.delete(configMaps, "coolapp/istio-ca-root-cert");
    await fleet.pass(1);
    assert.ok(await person.get(services, `${home}/istio-ingressgateway`));
    assert.ok(await person.get(configMaps, "coolapp/istio-ca-root-cert"));

    const versions = async () => {
      const all: string[] = [];
      for (const resource of [deployments, services, configMaps, serviceAccounts, roleBindings, namespaces])
        for (const { metadata } of (await person.list<KubeObject>(resource)).items)
          all.push(`${resource.kind} ${metadata.namespace}/${metadata.name} ${metadata.resourceVersion}`);
      all.push(`${(await controlPlane()).metadata.resourceVersion}`);
      return all.sort();
    };
    const before = await versions();
    fleet.stopPlane("c1");
    await fleet.startPlane("c1");
    await fleet.pass(3);
    assert.deepEqual(await versions(), before);
  });

  test("a person's own label, and a Service that is in the way, are left alone", async () => {
    await person.create(namespaces, {
      metadata: { name: "theirs", labels: { "maistra.io/member-of": "elsewhere" } },
    });
    await person.apply(
      serviceMeshMemberRolls,
      { metadata: { namespace: home, name: "default" }, spec: { members: ["coolapp", "theirs"] } },
      { manager: "kubectl", force: true },
    );
    await fleet.pass(1);
    assert.equal(await labelOf(person, "theirs"), "elsewhere");
    const { status } = (await person.get(serviceMeshMemberRolls, `${home}/default`))!;
    assert.deepEqual(status!.configuredMembers, ["coolapp"]);
    assert.deepEqual(status!.pendingMembers, ["theirs"]);
    assert.deepEqual(conditionsOf({ status: status! }), ["Ready=False/ReconcileError"]);
    assert.match(status!.conditions![0]!.message!, /Namespace theirs: .*conflict with/);
    await person.delete(namespaces, "theirs");

    await person.patch(services, `${home}/istio-egressgateway`, {
      metadata: { labels: { "app.kubernetes.io/managed-by": "somebody" } },
    });
    await fleet.pass(1);
    const reconciled = async () =>
      (await controlPlane()).status!.conditions!.find(({ type }) => type === "Reconciled")!;
    assert.equal((await reconciled()).reason, "ReconcileError");
    assert.match(
      (await reconciled()).message!,
      /^Service istio-system\/istio-egressgateway exists and is not/,
    );
    await person.delete(services, `${home}/istio-egressgateway`);
    await fleet.pass(1);
    assert.equal((await reconciled()).reason, "InstallSuccessful");
    assert.ok(await person.get(services, `${home}/istio-egressgateway`));
  });

  test("what the API server refuses is told, and mended by the next version of the control plane", async () => {
    const withPort = (port: number) => {
      const ports = [{ port, name: "http2" }];
      const gateways = { ...seed.spec!.istio!.gateways!, "istio-ingressgateway": { ports } };
      return { ...seed, spec: { ...seed.spec, istio: { ...seed.spec!.istio, gateways } } };
    };
    await applyAsWritten(person, withPort(70_000), home);
    await fleet.pass(1);
    const reconciled = async () =>
      (await controlPlane()).status!.conditions!.find(({ type }) => type === "Reconciled")!;
    assert.equal((await reconciled()).reason, "ReconcileError");
    assert.match((await reconciled()).message!, /Service "istio-ingressgateway" is invalid: .*70000/);
    await applyAsWritten(person, withPort(81), home);
    await fleet.pass(1);
    assert.equal((await reconciled()).reason, "InstallSuccessful");
    const { spec } = (await person.get(services, `${home}/istio-ingressgateway`))!;
    assert.deepEqual(
      spec!.ports!.map(({ port, targetPort }) => [port, targetPort]),
      [[81, 8081]],
    );
    await applyAsWritten(person, seed, home);
    await fleet.pass(1);
  });

  test("a namespace that leaves the roll is no member any more; nor is any when the mesh goes, with all it had", async () => {
    await person.apply(
      serviceMeshMemberRolls,
      { metadata: { namespace: home, name: "default" }, spec: { members: [] } },
      { manager: "kubectl", force: true },
    );
    await fleet.pass(1);
    assert.equal(await labelOf(person, "coolapp"), undefined);
    assert.equal(await person.get(configMaps, "coolapp/istio-ca-root-cert"), undefined);
    await applyAsWritten(person, seedRoll, home);
    await fleet.pass(1);
    assert.equal(await labelOf(person, "coolapp"), home);
    await person.delete(serviceMeshControlPlanes, mesh);
    await fleet.pass(2);
    assert.deepEqual(await ours(person), []);
    assert.equal(await labelOf(person, "coolapp"), undefined);
    const roll = (await person.get(serviceMeshMemberRolls, `${home}/default`))!;
    assert.deepEqual(conditionsOf(roll), ["Ready=False/ErrSMCPMissing"]);
    // As in Maistra the roll goes with it: the garbage collector finds its owner gone.
    assert.equal(roll.metadata.ownerReferences?.length, 1);
  });
});

describe("several meshes", () => {
  let fleet: Fleet;
  let person: KubeClient;
  const v2 = (namespace: string, name: string, spec: ServiceMeshControlPlane["spec"]) =>
    person.create(serviceMeshControlPlanes, { metadata: { namespace, name }, spec });
  const roll = (namespace: string, members: string[]) =>
    person.create(serviceMeshMemberRolls, { metadata: { namespace, name: "default" }, spec: { members } });
  before(async () => {
    fleet = await Fleet.start(new SimulatedWorld(2), ["c1"]);
    await fleet.startPlane("c1");
    ({ person } = fleet.of("c1"));
    for (const name of ["mesh-a", "mesh-b", "shop", "bank"]) await makeNamespace(person, name);
    await v2("mesh-a", "basic", {
      security: { dataPlane: { mtls: true }, trust: { domain: "a.example" } },
      tracing: { type: "Jaeger", sampling: 500 },
      gateways: {
        egress: { enabled: false },
        additionalIngress: { "shop-gateway": { service: { type: "ClusterIP", ports: [{ port: 80 }] } } },
      },
      addons: { kiali: { enabled: true }, grafana: { enabled: false } },
    });
    await fleet.pass(1);
    await v2("mesh-b", "basic", { gateways: { enabled: false } });
    await roll("mesh-a", ["shop", "mesh-b"]);
    await fleet.pass(1);
    await roll("mesh-b", ["shop", "bank"]);
    await fleet.pass(1);
  });
  after(() => fleet.close());

  test("v2: strict, least request, its own trust domain, five percent traced, the gateways that it lists", async () => {
    const settings = readMeshSettings(await person.get(configMaps, "mesh-a/weft-mesh-basic"))!;
    assert.deepEqual(settings.mtls, { mode: "STRICT", auto: true });
    assert.equal(settings.balancer, "LEAST_REQUEST");
    assert.equal(settings.traceSampling, 5);
    assert.equal(settings.trustDomain, "a.example");
    assert.deepEqual(settings.trustDomainAliases, ["cluster.local"]);
    const names = async (namespace: string) =>
      (await person.list(deployments, { namespace })).items.map(({ metadata }) => metadata.name).sort();
    assert.deepEqual(await names("mesh-a"), ["istio-ingressgateway", "istiod-basic", "shop-gateway"]);
    assert.deepEqual(await names("mesh-b"), ["istiod-basic"]);
    const { spec } = (await person.get(services, "mesh-a/shop-gateway"))!;
    assert.deepEqual(
      spec!.ports!.map(({ name, port, targetPort }) => [name, port, targetPort]),
      [["port-80", 80, 8080]],
    );
    const { status } = (await person.get(serviceMeshControlPlanes, "mesh-a/basic"))!;
    assert.match(
      status!.conditions!.find(({ type }) => type === "NotServedYet")!.message!,
      /: spec\.addons\.kiali, spec\.tracing\.type$/,
    );
  });

  test("a namespace is a member of the first that claims it, and the other is told; a mesh's own is of none", async () => {
    assert.equal(await labelOf(person, "shop"), "mesh-a");
    assert.equal(await labelOf(person, "bank"), "mesh-b");
    assert.equal(await labelOf(person, "mesh-b"), undefined);
    const { status } = (await person.get(serviceMeshMemberRolls, "mesh-b/default"))!;
    assert.deepEqual(conditionsOf({ status: status! }), ["Ready=False/ErrMemberOfOtherMesh"]);
    assert.match(status!.conditions![0]!.message!, /shop \(of mesh-a\)/);
  });

  test("a ServiceMeshMember makes its own namespace a member", async () => {
    await makeNamespace(person, "cafe");
    await person.create(serviceMeshMembers, {
      metadata: { namespace: "cafe", name: "default" },
      spec: { controlPlaneRef: { namespace: "mesh-b", name: "basic" } },
    });
    await fleet.pass(1);
    assert.equal(await labelOf(person, "cafe"), "mesh-b");
    const member = (await person.get(serviceMeshMembers, "cafe/default"))!;
    assert.deepEqual(conditionsOf(member), ["Ready=True/Configured"]);
    assert.equal(member.status!.annotations!.controlPlaneRef, "mesh-b/basic");
    const { status } = (await person.get(serviceMeshMemberRolls, "mesh-b/default"))!;
    assert.deepEqual(status!.configuredMembers, ["bank", "cafe"]);
  });

  test("a second control plane in a namespace makes no mesh and is told so", async () => {
    await fleet.pass(1);
    await v2("mesh-a", "another", {});
    await fleet.pass(1);
    const another = (await person.get(serviceMeshControlPlanes, "mesh-a/another"))!;
    assert.deepEqual(conditionsOf(another), [
      "Installed=False/ErrMultipleSMCPs",
      "Ready=False/ErrMultipleSMCPs",
      "Reconciled=False/ErrMultipleSMCPs",
    ]);
    assert.equal(await person.get(deployments, "mesh-a/istiod-another"), undefined);
    assert.ok(await person.get(deployments, "mesh-a/istiod-basic"));
  });

  test("quantities in any spelling are written once, also by a control plane that starts again", async () => {
    await person.apply(
      serviceMeshControlPlanes,
      {
        metadata: { namespace: "mesh-b", name: "basic" },
        spec: {
          gateways: { enabled: true, egress: { enabled: false } },
          proxy: { runtime: { container: { resources: { requests: { cpu: "1000m", memory: "1024Mi" } } } } },
        },
      },
      { manager: "person", force: true },
    );
    await fleet.pass(1);
    const look = async () => {
      const { metadata, spec } = (await person.get(deployments, "mesh-b/istio-ingressgateway"))!;
      return { version: metadata.resourceVersion, resources: spec!.template.spec!.containers[0]!.resources };
    };
    const before = await look();
    assert.deepEqual(before.resources?.requests, { cpu: "1", memory: "1Gi" });
    const writes = () =>
      [...fleet.of("c1").plane!.sinks].map(([name, { writes }]) => [name, JSON.stringify(writes)]);
    const written = writes();
    await fleet.pass(5);
    assert.deepEqual(writes(), written);
    fleet.stopPlane("c1");
    await fleet.startPlane("c1");
    await fleet.pass(3);
    const settled = writes();
    await fleet.pass(5);
    assert.deepEqual(writes(), settled);
    assert.deepEqual(await look(), before);
  });

  test("'*' has all namespaces but the system's and the meshes'", async () => {
    await person.apply(
      serviceMeshMemberRolls,
      { metadata: { namespace: "mesh-b", name: "default" }, spec: { members: ["*"] } },
      { manager: "person", force: true },
    );
    await fleet.pass(1);
    const members: string[] = [];
    for (const { metadata } of (await person.list(namespaces)).items)
      if (metadata.labels?.["maistra.io/member-of"] === "mesh-b") members.push(metadata.name);
    assert.deepEqual(members.sort(), ["bank", "cafe", "default", "demo"]);
  });
});

describe("a cluster without the kinds of meshes", () => {
  let fleet: Fleet;
  before(async () => {
    fleet = await Fleet.start(new SimulatedWorld(3), ["c1"]);
  });
  after(() => fleet.close());

  test("is a member of its clusterset all the same; once it has them, a mesh is made", async () => {
    const { person } = fleet.of("c1");
    const isOfMeshes = ({ spec }: CustomResourceDefinition) =>
      spec.group === "maistra.io" || spec.group === "gateway.networking.k8s.io";
    for (const definition of definitions().filter(isOfMeshes))
      await person.delete(customResourceDefinitions, definition.metadata.name);
    await fleet.pass(1);
    const plane = await fleet.startPlane("c1");
    await fleet.pass(2);
    assert.equal(plane.ready, true);
    await fleet.makeService("c1", "serve");
    await fleet.exportService("c1", "serve");
    await fleet.pass(2);
    assert.ok(await person.get(serviceImports, "demo/serve"));

    for (const definition of definitions().filter(isOfMeshes))
      await person.create(customResourceDefinitions, definition);
    await makeNamespace(person, home);
    await applyAsWritten(person, seed, home);
    await fleet.pass(60);
    assert.ok(await person.get(deployments, `${home}/istiod-${mesh.name}`));
  });
});
