import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  clusterProperties,
  configMaps,
  customResourceDefinitions,
  deployments,
  endpointSlices,
  mutatingWebhookConfigurations,
  namespaces,
  type Resource,
  secrets,
  serviceExports,
  serviceImports,
  services,
  virtualServices,
} from "../api/index.ts";
import { type KubeClient, withKind } from "../kube/index.ts";
import { contentsOf } from "./contents.ts";
import { deploymentManifest, joinClusters, prepareCluster, uninstall } from "./index.ts";
import { cluster } from "./testing/cluster.ts";

const system = "weft-system";

/** All there is in a cluster, by name: of all namespaces and of the kinds without one. */
async function everything(client: KubeClient): Promise<string[]> {
  const names: string[] = [];
  for (const { metadata } of (await client.list(namespaces)).items) {
    names.push(`namespaces ${metadata.name}`);
    for (const held of await contentsOf(client, metadata.name)) {
      if (held.resource.kind !== "Event")
        names.push(`${held.resource.plural} ${metadata.name}/${held.metadata.name}`);
    }
  }
  const rbac = { group: "rbac.authorization.k8s.io", version: "v1", namespaced: false };
  for (const resource of [
    customResourceDefinitions,
    { ...rbac, kind: "ClusterRole", plural: "clusterroles" },
    { ...rbac, kind: "ClusterRoleBinding", plural: "clusterrolebindings" },
  ] as Resource[]) {
    for (const { metadata } of (await client.list(resource)).items)
      names.push(`${resource.plural} ${metadata.name}`);
  }
  return names.sort();
}

async function deploy(client: KubeClient, name: string): Promise<void> {
  const { object } = deploymentManifest({ name });
  await client.apply(deployments, object, { manager: "weft-install", force: true });
}

describe("uninstall", () => {
  test("leaves a cluster as it was before installing and joining", async () => {
    const [a, b] = [await cluster("a", { controllers: true }), await cluster("b")];
    await a.client.create(namespaces, { metadata: { name: "demo" } });
    const before = await everything(a.client);
    for (const [name, { client }] of Object.entries({ a, b })) await prepareCluster(client, { name });
    await joinClusters([a, b].map(({ client }) => ({ client, server: "https://x:6443", ca: undefined })));
    await deploy(a.client, "a");
    assert.notDeepEqual(await everything(a.client), before);
    const { peers, kept } = await uninstall(a.client);
    assert.deepEqual(peers, ["b"]);
    assert.deepEqual(kept, []);
    assert.deepEqual(await everything(a.client), before);
    const again = await uninstall(a.client);
    assert.deepEqual(again, { removed: [], kept: [], peers: [] });
  });

  test("takes what the control plane wrote elsewhere, and leaves what people wrote", async () => {
    const { client } = await cluster("a", { controllers: true });
    await prepareCluster(client, { name: "a" });
    await client.create(namespaces, { metadata: { name: "demo" } });
    const metadata = { namespace: "demo", name: "serve" };
    const ours = { labels: { "app.kubernetes.io/managed-by": "weft" } };
    await client.create(services, { metadata, spec: { ports: [{ port: 80 }] } });
    await client.create(services, {
      metadata: { ...metadata, name: "derived-x", annotations: { "weft.dev/managed-by": "weft" } },
      spec: { ports: [{ port: 80 }] },
    });
    await client.create(serviceImports, {
      metadata: { ...metadata, ...ours },
      spec: { type: "Headless", ports: [] },
    });
    await client.create(serviceImports, {
      metadata: { ...metadata, name: "mine" },
      spec: { type: "Headless", ports: [] },
    });
    for (const [name, labels] of [
      ["imported", ours.labels],
      ["theirs", {}],
    ] as const) {
      await client.create(endpointSlices, {
        metadata: { namespace: "demo", name, labels },
        addressType: "IPv4",
        endpoints: [],
      });
    }
    const condition = {
      type: "Ready",
      status: "True" as const,
      reason: "Ready",
      message: "",
      lastTransitionTime: "2026-01-01T00:00:00Z",
    };
    await client.create(serviceExports, { metadata });
    await client.apply(
      serviceExports,
      { metadata, status: { conditions: [condition] } },
      { manager: "weft-readiness", subresource: "status" },
    );
    const { kept } = await uninstall(client);
    const names = async (resource: Resource) =>
      (await client.list(resource, { namespace: "demo" })).items.map(({ metadata }) => metadata.name);
    assert.deepEqual(await names(services), ["serve"]);
    assert.deepEqual(await names(endpointSlices), ["theirs"]);
    assert.deepEqual(await names(serviceImports), ["mine"]);
    assert.deepEqual((await client.get(serviceExports, "demo/serve"))?.status?.conditions ?? [], []);
    assert.deepEqual(kept.map(({ what }) => what).sort(), [
      "CustomResourceDefinition serviceexports.multicluster.x-k8s.io",
      "CustomResourceDefinition serviceimports.multicluster.x-k8s.io",
    ]);
    assert.equal(await client.get(customResourceDefinitions, "serviceoffers.offer.weft.dev"), undefined);
  });

  test("takes meshes away: webhooks, programs, roots, authorities, and fields on what people wrote", async () => {
    const { client } = await cluster("a", { controllers: true });
    await prepareCluster(client, { name: "a" });
    for (const name of ["istio-system", "coolapp"]) await client.create(namespaces, { metadata: { name } });
    const marked = { "app.kubernetes.io/managed-by": "weft-mesh" };
    const home = "istio-system";
    await client.create(mutatingWebhookConfigurations, { metadata: { name: "injection", labels: marked } });
    await client.create(configMaps, {
      metadata: { namespace: "coolapp", name: "istio-ca-root-cert", labels: marked },
    });
    const discovery = { "app.kubernetes.io/managed-by": "weft-discovery" };
    await client.create(configMaps, { metadata: { namespace: home, name: "roots", labels: discovery } });
    await client.create(configMaps, { metadata: { namespace: home, name: "theirs" } });
    await client.create(secrets, { metadata: { namespace: home, name: "authority" }, type: "weft.dev/ca" });
    await client.create(secrets, { metadata: { namespace: home, name: "theirs" }, type: "Opaque" });
    await client.create(virtualServices, {
      metadata: { namespace: "coolapp", name: "catalog" },
      spec: { hosts: ["catalog"], http: [{ route: [{ destination: { host: "catalog" } }] }] },
    });
    await client.apply(
      virtualServices,
      {
        metadata: { namespace: "coolapp", name: "catalog" },
        status: { conditions: [{ type: "Accepted", status: "False" }] },
      },
      { manager: "weft-conditions-virtualservices", subresource: "status" },
    );
    await client.apply(
      namespaces,
      { metadata: { name: "coolapp", labels: { "maistra.io/member-of": home } } },
      { manager: "weft-members" },
    );
    await uninstall(client);
    const names = async (resource: Resource, namespace: string) =>
      (await client.list(resource, { namespace })).items.map(({ metadata }) => metadata.name);
    assert.deepEqual((await client.list(mutatingWebhookConfigurations)).items, []);
    assert.deepEqual(await names(secrets, home), ["theirs"]);
    assert.deepEqual(
      (await names(configMaps, home)).filter((name) => name !== "kube-root-ca.crt"),
      ["theirs"],
    );
    assert.ok(!(await names(configMaps, "coolapp")).includes("istio-ca-root-cert"));
    const catalog = await client.get(virtualServices, "coolapp/catalog");
    assert.deepEqual(catalog?.status?.conditions ?? [], []);
    const { labels } = (await client.get(namespaces, "coolapp"))!.metadata;
    assert.equal(labels?.["maistra.io/member-of"], undefined);
  });

  test("asks before it takes a definition that has objects, and takes it when told", async () => {
    const { client } = await cluster("a", { controllers: true });
    await prepareCluster(client, { name: "a" });
    await client.create(namespaces, { metadata: { name: "demo" } });
    await client.create(serviceExports, { metadata: { namespace: "demo", name: "serve" } });
    const asked: string[] = [];
    const { kept } = await uninstall(client, {
      takeDefinition: async (name, objects) => {
        asked.push(`${name} ${objects}`);
        return true;
      },
    });
    assert.deepEqual(asked, ["serviceexports.multicluster.x-k8s.io 1"]);
    assert.deepEqual(kept, []);
    assert.equal(
      await client.get(customResourceDefinitions, "serviceexports.multicluster.x-k8s.io"),
      undefined,
    );
  });

  test("keeps what others installed: definitions, the cluster's name, the namespace and what it holds", async () => {
    const { client } = await cluster("a", { controllers: true });
    await client.create(namespaces, { metadata: { name: system } });
    await prepareCluster(client, { name: "a" });
    const ref = "serviceexports.multicluster.x-k8s.io";
    await client.patch(customResourceDefinitions, ref, {
      metadata: { labels: { "app.kubernetes.io/managed-by": null } },
    });
    await client.patch(clusterProperties, "cluster.clusterset.k8s.io", {
      metadata: { labels: { "app.kubernetes.io/managed-by": null } },
    });
    await client.create(
      configMaps,
      { metadata: { namespace: system, name: "notes" }, data: { a: "b" } },
      { manager: "kubectl" },
    );
    const { kept } = await uninstall(client);
    assert.deepEqual(kept.map(({ what, why }) => `${what}: ${why}`).sort(), [
      "ClusterProperty cluster.clusterset.k8s.io: others wrote it",
      "CustomResourceDefinition clusterproperties.about.k8s.io: it has 1 object(s)",
      "CustomResourceDefinition serviceexports.multicluster.x-k8s.io: others installed it",
      "Namespace weft-system: it holds ConfigMap notes",
    ]);
    const left = (await contentsOf(client, system)).map(
      ({ resource, metadata }) => `${resource.plural} ${metadata.name}`,
    );
    assert.deepEqual(
      left.filter((name) => /weft/.test(name)),
      [],
    );
    assert.ok(left.includes("configmaps notes"));
  });

  test("what Helm installed is left to Helm", async () => {
    const { client } = await cluster("a");
    await prepareCluster(client, { name: "a" });
    await deploy(client, "a");
    const metadata = { annotations: { "meta.helm.sh/release-name": "mesh" } };
    await client.patch(deployments, `${system}/weft`, { metadata });
    for (const asked of [uninstall(client), prepareCluster(client, { name: "a" })]) {
      await assert.rejects(asked, { code: "INSTALLED_BY_HELM" });
    }
    assert.ok(withKind(deployments, (await client.get(deployments, `${system}/weft`))!));
  });
});
