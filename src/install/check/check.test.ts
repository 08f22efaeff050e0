import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  clusterRoles,
  configMaps,
  customResourceDefinitions,
  deployments,
  leases,
  namespaces,
  nodes,
  pods as podKind,
  secrets,
  serviceAccounts,
  serviceMeshControlPlanes,
  serviceMeshMemberRolls,
} from "../../api/index.ts";
import { deploymentManifest, joinClusters, prepareCluster } from "../index.ts";
import { cluster, world } from "../testing/cluster.ts";
import { skewFinding } from "./cluster.ts";
import { type Check, checkCluster, checkPair } from "./index.ts";
import { lifeFinding } from "./peers.ts";

const find = (checks: Check[], name: string | RegExp) => {
  const found = checks.find((check) =>
    typeof name === "string" ? check.name === name : name.test(check.name),
  );
  assert.ok(found, `${name} in ${checks.map((check) => check.name).join("; ")}`);
  return found;
};

describe("a mesh", () => {
  const conditions = (ready: "True" | "False", more: object[] = []) => ({
    annotations: { readyComponentCount: ready === "True" ? "3/3" : "1/3" },
    conditions: [
      { type: "Reconciled", status: "True" as const, reason: "InstallSuccessful" },
      { type: "Ready", status: ready, reason: "ComponentsReady", message: "about its components" },
      ...(more as { type: string; status: "True" }[]),
    ],
  });
  test("says of itself what is wrong; who asks for what is not served is warned", async () => {
    const { client } = await cluster("a");
    await prepareCluster(client, { name: "a" });
    await client.create(namespaces, { metadata: { name: "istio-system" } });
    const ref = { namespace: "istio-system", name: "basic" };
    await client.create(serviceMeshControlPlanes, { metadata: ref, spec: {} });
    await client.create(serviceMeshMemberRolls, {
      metadata: { namespace: "istio-system", name: "default" },
      spec: { members: ["coolapp"] },
    });
    const mesh = async () => find(await checkCluster(client, "ctx"), "the mesh istio-system/basic is ready");
    const becomes = (status: object) =>
      client.patch(serviceMeshControlPlanes, ref, { status }, { subresource: "status" });
    assert.match((await mesh()).message ?? "", /nobody has looked at it/);
    await becomes(conditions("False"));
    assert.deepEqual([(await mesh()).status, (await mesh()).message], ["failed", "about its components"]);
    await becomes(conditions("True"));
    assert.deepEqual([(await mesh()).status, (await mesh()).message], ["ok", "3/3 components ready"]);
    await becomes(conditions("True", [{ type: "NotServedYet", status: "True", message: "spec.addons" }]));
    assert.deepEqual(
      [(await mesh()).status, (await mesh()).message],
      ["warning", "3/3 components ready; spec.addons"],
    );
    await becomes(conditions("True", [{ type: "InvalidFields", status: "True", message: "spec.proxy: no" }]));
    assert.deepEqual((await mesh()).message, "3/3 components ready; spec.proxy: no");
    const members = find(await checkCluster(client, "ctx"), "the mesh in istio-system has its members");
    assert.deepEqual(
      [members.status, members.fix],
      ["warning", "kubectl --context ctx -n istio-system describe smmr default"],
    );
  });
});

describe("a cluster", () => {
  test("without Weft fails in everything but that it answers, and each failure says what to do", async () => {
    const { client } = await cluster("a");
    const checks = await checkCluster(client, "ctx");
    assert.equal(find(checks, "the API server answers").status, "ok");
    for (const name of [
      /^definition/,
      "the cluster has a name",
      "the control plane runs",
      "one control plane leads",
    ]) {
      assert.equal(find(checks, name).status, "failed", String(name));
    }
    for (const { status, fix, name } of checks) assert.equal(status !== "ok", fix !== undefined, name);
  });

  test("with Weft: what is broken fails, one thing at a time", async () => {
    const { client } = await cluster("a");
    await prepareCluster(client, { name: "a" });
    const { object } = deploymentManifest({ name: "a" });
    await client.apply(deployments, object, { manager: "weft-install", force: true });
    const status = {
      replicas: 1,
      updatedReplicas: 1,
      readyReplicas: 1,
      availableReplicas: 1,
      observedGeneration: 1,
    };
    await client.patch(deployments, "weft-system/weft", { status }, { subresource: "status" });
    const renewTime = new Date(world.now()).toISOString().replace("Z", "000Z");
    for (const name of ["weft-leader", "weft-heartbeat"]) {
      await client.create(leases, {
        metadata: { namespace: "weft-system", name },
        spec: { holderIdentity: "pod", leaseDurationSeconds: 30, renewTime },
      });
    }
    const statusOf = async (name: string | RegExp) => find(await checkCluster(client, "ctx"), name).status;
    const checks = await checkCluster(client, "ctx");
    const bad = checks.filter(({ status }) => status === "failed").map(({ name }) => name);
    assert.deepEqual(bad, ["clusterset.local is answered"], "no pod is behind the Service here");

    await client.delete(customResourceDefinitions, "peerreports.offer.weft.dev");
    assert.equal(await statusOf("definition peerreports.offer.weft.dev"), "failed");
    const rules = [{ apiGroups: [""], resources: ["services"], verbs: ["get"] }];
    await client.patch(clusterRoles, "weft", { rules });
    assert.equal(await statusOf("the control plane may do what it does"), "failed");
    await client.patch(configMaps, "kube-system/kube-dns", { data: { stubDomains: "{}" } });
    assert.equal(await statusOf("the cluster's DNS forwards clusterset.local"), "failed");
    await client.patch(leases, "weft-system/weft-leader", {
      spec: { renewTime: "2020-01-01T00:00:00.000000Z" },
    });
    assert.equal(await statusOf("one control plane leads"), "failed");
  });

  test("names a Secret that cannot be used and a token that is over", async () => {
    const { client } = await cluster("a");
    await prepareCluster(client, { name: "a" });
    const labels = { "weft.dev/peer": "b" };
    const data = { kubeconfig: Buffer.from("{{{").toString("base64") };
    await client.create(secrets, {
      metadata: { namespace: "weft-system", name: "weft-peer-b", labels },
      data,
    });
    const found = find(await checkCluster(client, "ctx"), "the credential for b is good");
    assert.equal(found.status, "failed");
    assert.match(found.message ?? "", /Secret weft-system\/weft-peer-b/);
    const day = 24 * 3600_000;
    const life = { from: 0, to: 100 * day, byItself: true };
    assert.equal(lifeFinding(life, 40 * day, "").status, "ok");
    assert.match(
      lifeFinding(life, 60 * day, "").message ?? "",
      /expires on 1970-04-11 00:00 UTC and has not/,
    );
    assert.equal(lifeFinding(life, 100 * day, "").status, "failed");
    const certificate = { ...life, byItself: false };
    assert.equal(lifeFinding(certificate, 60 * day, "").status, "ok");
    assert.equal(lifeFinding(certificate, 80 * day, "").status, "warning");
  });
});

describe("two clusters", () => {
  test("are told apart by names, addresses and credentials", async () => {
    const [a, b] = [await cluster("a"), await cluster("b")];
    const pair = () => checkPair({ client: a.client, context: "A" }, { client: b.client, context: "B" });
    for (const [name, { client }] of Object.entries({ a, b })) await prepareCluster(client, { name });
    assert.equal(find(await pair(), "each has a credential for the other").status, "failed");
    await joinClusters([a, b].map(({ client }) => ({ client, server: "https://x:6443", ca: undefined })));
    const pods = async () => {
      const { status, message } = find(await pair(), "their pods have different addresses");
      return `${status}: ${message}`;
    };
    assert.match(await pods(), /^ok: not known/);
    const pod = async ({ client }: typeof a, name: string, ip: string) => {
      const ref = { namespace: "default", name };
      const spec = { containers: [{ name: "app", image: "app" }] };
      await client.create(podKind, { metadata: ref, spec });
      await client.patch(podKind, ref, { status: { podIPs: [{ ip }] } }, { subresource: "status" });
    };
    for (const { client } of [a, b])
      await client.create(serviceAccounts, { metadata: { namespace: "default", name: "default" } });
    await pod(a, "one", "10.244.0.5");
    await pod(b, "one", "10.245.0.5");
    assert.match(await pods(), /^ok: as far as their pods show/);
    await pod(b, "two", "10.244.0.5");
    assert.equal(await pods(), "failed: both have a pod at 10.244.0.5");
    const node = (name: string, podCIDR: string, address: string) => ({
      metadata: { name },
      spec: { podCIDR, podCIDRs: [podCIDR] },
      status: { addresses: [{ type: "InternalIP", address }] },
    });
    await a.client.create(nodes, node("n", "10.244.0.0/24", "192.0.2.1"));
    await b.client.create(nodes, node("n", "10.245.0.0/24", "192.0.2.2"));
    assert.deepEqual(
      (await pair()).filter(({ status }) => status !== "ok"),
      [],
    );
    await b.client.create(nodes, node("m", "10.244.0.128/25", "192.0.2.1"));
    const checks = await pair();
    assert.match(
      find(checks, "their pods have different addresses").message ?? "",
      /10\.244\.0\.0\/24 and 10\.244\.0\.128\/25/,
    );
    assert.equal(find(checks, "their nodes have different addresses").status, "warning");
  });
});

test("clocks may differ by what a Date header cannot tell", () => {
  assert.equal(skewFinding(1_000_000, 1_004_000, "it").status, "ok");
  assert.equal(skewFinding(1_000_000, 1_020_000, "it").status, "warning");
  assert.equal(skewFinding(1_000_000, 2_000_000, "it").status, "failed");
  assert.equal(skewFinding(undefined, 0, "it").status, "ok");
});
