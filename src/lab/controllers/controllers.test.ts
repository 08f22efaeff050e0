import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  configMaps,
  deployments,
  endpointSlices,
  endpoints,
  events,
  nameOf,
  namespaces,
  nodes,
  pods,
  replicaSets,
  serviceAccounts,
  services,
} from "../../api/index.ts";
import { type TestCluster, testCluster } from "./harness.ts";
import { isReady } from "./pods.ts";

const template = (app: string, image = "serve") => ({
  metadata: { labels: { app } },
  spec: { containers: [{ name: "serve", image, ports: [{ name: "http", containerPort: 8080 }] }] },
});

async function deploy(cluster: TestCluster, replicas: number, spec: object = {}): Promise<void> {
  await cluster.client.create(deployments, {
    metadata: { name: "serve", namespace: "demo" },
    spec: { replicas, selector: { matchLabels: { app: "serve" } }, template: template("serve"), ...spec },
  });
}

const complete = (cluster: TestCluster, replicas: number, image = "serve") =>
  cluster.until(`${replicas} available of ${image}`, async () => {
    const found = await cluster.client.get(deployments, "demo/serve");
    const status = found?.status;
    return (
      found?.spec?.template.spec?.containers[0]?.image === image &&
      status?.observedGeneration === found.metadata.generation &&
      (status?.updatedReplicas ?? 0) === replicas &&
      (status?.replicas ?? 0) === replicas &&
      (status?.availableReplicas ?? 0) === replicas &&
      found
    );
  });

describe("a Deployment", () => {
  test("becomes a ReplicaSet, pods on a node, and says so in status and events", async () => {
    await using cluster = await testCluster();
    await cluster.namespace("demo");
    await deploy(cluster, 2);
    const deployment = await complete(cluster, 2);
    const [set] = await cluster.list(replicaSets, "demo");
    const hash = set!.metadata.labels!["pod-template-hash"]!;
    assert.match(hash, /^[456789bcdf]{8,10}$/);
    assert.equal(set!.metadata.name, `serve-${hash}`);
    const made = await cluster.list(pods, "demo");
    for (const pod of made) {
      assert.match(pod.metadata.name, new RegExp(`^serve-${hash}-[bcdfghjklmnpqrstvwxz2456789]{5}$`));
      assert.equal(pod.spec.nodeName, "c1-control-plane");
      assert.deepEqual(pod.metadata.labels, { app: "serve", "pod-template-hash": hash });
    }
    const conditions = deployment.status!.conditions!.map((one) => [one.type, one.status, one.reason]);
    assert.deepEqual(conditions, [
      ["Available", "True", "MinimumReplicasAvailable"],
      ["Progressing", "True", "NewReplicaSetAvailable"],
    ]);
    assert.equal(deployment.metadata.annotations!["deployment.kubernetes.io/revision"], "1");
    const said = await cluster.until("events", async () => {
      const all = await cluster.list(events, "demo");
      return all.length >= 5 && all.map((one) => `${one.reason}: ${one.message}`).sort();
    });
    const names = made.map((pod) => pod.metadata.name).sort();
    assert.deepEqual(said, [
      `ScalingReplicaSet: Scaled up replica set serve-${hash} from 0 to 2`,
      ...names.map((name) => `Scheduled: Successfully assigned demo/${name} to c1-control-plane`),
      ...names.map((name) => `SuccessfulCreate: Created pod: ${name}`),
    ]);
    assert.deepEqual(cluster.log, []);
  });

  test("replaces its pods without ever having fewer than it may", async () => {
    await using cluster = await testCluster();
    await cluster.namespace("demo");
    await deploy(cluster, 4, { strategy: { rollingUpdate: { maxSurge: 1, maxUnavailable: 1 } } });
    await complete(cluster, 4);
    let fewest = 4;
    let most = 4;
    const stop = cluster.observe(pods, (all) => {
      const alive = all.filter((pod) => !pod.metadata.deletionTimestamp);
      fewest = Math.min(fewest, alive.filter(isReady).length);
      most = Math.max(most, alive.length);
    });
    await cluster.client.patch(deployments, "demo/serve", { spec: { template: template("serve", "v2") } });
    const done = await complete(cluster, 4, "v2");
    stop();
    assert.equal(done.metadata.annotations!["deployment.kubernetes.io/revision"], "2");
    assert.ok(fewest >= 3, `${fewest} ready`);
    assert.ok(most <= 5, `${most} at once`);
    assert.ok(most > 4 || fewest < 4, "nothing was seen of the rollout");
  });

  test("goes back to an old ReplicaSet when its template comes back, under a new revision", async () => {
    await using cluster = await testCluster();
    await cluster.namespace("demo");
    await deploy(cluster, 1);
    await complete(cluster, 1);
    const [first] = await cluster.list(replicaSets, "demo");
    for (const image of ["v2", "serve"]) {
      await cluster.client.patch(deployments, "demo/serve", { spec: { template: template("serve", image) } });
      await complete(cluster, 1, image);
    }
    const sets = await cluster.list(replicaSets, "demo");
    assert.equal(sets.length, 2);
    const again = sets.find((set) => set.metadata.uid === first!.metadata.uid)!;
    assert.equal(again.spec!.replicas, 1);
    assert.equal(again.metadata.annotations!["deployment.kubernetes.io/revision"], "3");
    assert.equal(again.metadata.annotations!["deployment.kubernetes.io/revision-history"], "1");
  });

  test("with Recreate has no two templates at a time", async () => {
    await using cluster = await testCluster();
    await cluster.namespace("demo");
    await deploy(cluster, 3, { strategy: { type: "Recreate" } });
    await complete(cluster, 3);
    let mixed = false;
    const stop = cluster.observe(pods, (all) => {
      mixed ||= new Set(all.map((pod) => pod.metadata.labels?.["pod-template-hash"])).size > 1;
    });
    await cluster.client.patch(deployments, "demo/serve", { spec: { template: template("serve", "v2") } });
    await complete(cluster, 3, "v2");
    stop();
    assert.equal(mixed, false);
  });

  test("scales up and down, and to nothing", async () => {
    await using cluster = await testCluster();
    await cluster.namespace("demo");
    await deploy(cluster, 1);
    for (const replicas of [1, 5, 2, 0, 1]) {
      await cluster.client.patch(deployments, "demo/serve", { spec: { replicas } });
      await complete(cluster, replicas);
      await cluster.until(
        `${replicas} pods`,
        async () => (await cluster.list(pods, "demo")).length === replicas,
      );
    }
    assert.equal((await cluster.list(replicaSets, "demo")).length, 1);
  });

  test("while paused makes no new pods of a new template, and rolls it out when resumed", async () => {
    await using cluster = await testCluster();
    await cluster.namespace("demo");
    await deploy(cluster, 2);
    await complete(cluster, 2);
    await cluster.client.patch(deployments, "demo/serve", { spec: { paused: true } });
    await cluster.until("paused", async () => {
      const found = await cluster.client.get(deployments, "demo/serve");
      return found?.status?.conditions?.some((one) => one.reason === "DeploymentPaused");
    });
    await cluster.client.patch(deployments, "demo/serve", { spec: { template: template("serve", "v2") } });
    await cluster.until("observed", async () => {
      const found = await cluster.client.get(deployments, "demo/serve");
      return found?.status?.observedGeneration === found?.metadata.generation;
    });
    assert.equal((await cluster.list(replicaSets, "demo")).length, 1);
    await cluster.client.patch(deployments, "demo/serve", { spec: { paused: false } });
    await complete(cluster, 2, "v2");
  });

  test("says when it does not progress", async () => {
    await using cluster = await testCluster();
    cluster.hold = () => true;
    await cluster.namespace("demo");
    await deploy(cluster, 1, { progressDeadlineSeconds: 1 });
    const found = await cluster.until("deadline exceeded", async () => {
      const found = await cluster.client.get(deployments, "demo/serve");
      return found?.status?.conditions?.find((one) => one.reason === "ProgressDeadlineExceeded");
    });
    assert.equal(found.status, "False");
    assert.match(found.message!, /^ReplicaSet "serve-\w+" has timed out progressing\.$/);
  });

  test("makes a pod anew that someone deletes, and takes over one that has its labels", async () => {
    await using cluster = await testCluster();
    await cluster.namespace("demo");
    await deploy(cluster, 2);
    await complete(cluster, 2);
    const [gone] = await cluster.list(pods, "demo");
    await cluster.client.delete(pods, nameOf(gone!));
    await cluster.until("replacement", async () => {
      const now = await cluster.list(pods, "demo");
      return now.length === 2 && !now.some((pod) => pod.metadata.uid === gone!.metadata.uid);
    });
    const [set] = await cluster.list(replicaSets, "demo");
    const labels = set!.spec!.template!.metadata!.labels!;
    await cluster.client.create(pods, {
      metadata: { name: "stray", namespace: "demo", labels },
      spec: { containers: [{ name: "serve", image: "serve" }] },
    });
    await cluster.until("surplus gone", async () => {
      const now = await cluster.list(pods, "demo");
      return (
        now.length === 2 && now.every((pod) => pod.metadata.ownerReferences?.[0]?.uid === set!.metadata.uid)
      );
    });
  });

  test("leaves nothing behind when it is deleted, or only itself with --cascade=orphan", async () => {
    await using cluster = await testCluster();
    await cluster.namespace("demo");
    await deploy(cluster, 2);
    await complete(cluster, 2);
    await cluster.client.delete(deployments, "demo/serve", { propagationPolicy: "Orphan" });
    await cluster.until("gone", async () => !(await cluster.client.get(deployments, "demo/serve")));
    const [set] = await cluster.until("orphan", async () => {
      const sets = await cluster.list(replicaSets, "demo");
      return sets.every((one) => !one.metadata.ownerReferences?.length) && sets;
    });
    assert.equal((await cluster.list(pods, "demo")).length, 2);
    // A new Deployment of the same template takes the orphan over.
    await deploy(cluster, 2);
    await cluster.until("adopted", async () => {
      const [one] = await cluster.list(replicaSets, "demo");
      return one?.metadata.uid === set!.metadata.uid && one?.metadata.ownerReferences?.length === 1;
    });
    await cluster.client.delete(deployments, "demo/serve", { propagationPolicy: "Foreground" });
    await cluster.until("all gone", async () => !(await cluster.client.get(deployments, "demo/serve")));
    assert.deepEqual(await cluster.list(replicaSets, "demo"), []);
    assert.deepEqual(await cluster.list(pods, "demo"), []);
  });
});

describe("a Service", () => {
  test("has a slice and an Endpoints object that follow its pods, under one name", async () => {
    await using cluster = await testCluster();
    await cluster.namespace("demo");
    await cluster.client.create(services, {
      metadata: { name: "serve", namespace: "demo" },
      spec: { selector: { app: "serve" }, ports: [{ port: 80, targetPort: "http" }] },
    });
    const slicesWith = (count: number) =>
      cluster.until(`${count} endpoints`, async () => {
        const found = await cluster.list(endpointSlices, "demo");
        const legacy = await cluster.client.get(endpoints, "demo/serve");
        const addresses = legacy?.subsets?.[0]?.addresses ?? [];
        return (
          found.length === 1 &&
          (found[0]!.endpoints ?? []).length === count &&
          addresses.length === count &&
          found[0]!
        );
      });
    const empty = await slicesWith(0);
    await deploy(cluster, 2);
    const slice = await slicesWith(2);
    assert.equal(slice.metadata.name, empty.metadata.name);
    assert.match(slice.metadata.name, /^serve-[bcdfghjklmnpqrstvwxz2456789]{5}$/);
    assert.deepEqual(slice.metadata.labels, {
      "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
      "kubernetes.io/service-name": "serve",
    });
    assert.deepEqual(slice.ports, [{ name: "", port: 8080, protocol: "TCP" }]);
    const [pod] = await cluster.list(pods, "demo");
    const endpoint = slice.endpoints!.find((one) => one.targetRef?.uid === pod!.metadata.uid)!;
    assert.deepEqual(endpoint.addresses, [pod!.status!.podIP]);
    assert.deepEqual(endpoint.conditions, { ready: true, serving: true, terminating: false });
    assert.equal(endpoint.nodeName, "c1-control-plane");
    await cluster.client.patch(deployments, "demo/serve", { spec: { replicas: 0 } });
    await slicesWith(0);
    await cluster.client.delete(services, "demo/serve");
    await cluster.until("slices and Endpoints gone", async () => {
      const slices = await cluster.list(endpointSlices, "demo");
      return slices.length === 0 && !(await cluster.client.get(endpoints, "demo/serve"));
    });
  });

  test("without a selector is left to those who made it", async () => {
    await using cluster = await testCluster();
    await cluster.namespace("demo");
    await cluster.client.create(services, {
      metadata: { name: "derived", namespace: "demo" },
      spec: { ports: [{ port: 80 }] },
    });
    await cluster.client.create(endpointSlices, {
      metadata: { name: "mine", namespace: "demo", labels: { "kubernetes.io/service-name": "derived" } },
      addressType: "IPv4",
      ports: [{ name: "", port: 8080, protocol: "TCP" }],
      endpoints: [{ addresses: ["10.12.0.7"] }],
    });
    await deploy(cluster, 1);
    await complete(cluster, 1);
    const slices = await cluster.list(endpointSlices, "demo");
    assert.deepEqual(
      slices.map((one) => one.metadata.name),
      ["mine"],
    );
    assert.equal(slices[0]!.metadata.generation, 1);
    assert.equal(await cluster.client.get(endpoints, "demo/derived"), undefined);
  });
});

describe("hand-made Endpoints", () => {
  test("of a Service without a selector are mirrored into a slice, and no others", async () => {
    await using cluster = await testCluster();
    await cluster.namespace("demo");
    await cluster.client.create(services, {
      metadata: { name: "outside", namespace: "demo" },
      spec: { ports: [{ port: 80 }] },
    });
    await cluster.client.create(endpoints, {
      metadata: { name: "outside", namespace: "demo" },
      subsets: [
        {
          addresses: [{ ip: "192.0.2.1" }],
          notReadyAddresses: [{ ip: "192.0.2.2" }],
          ports: [{ port: 8080 }],
        },
      ],
    });
    const mirrored = (count: number) =>
      cluster.until(`${count} mirrored`, async () => {
        const [slice] = await cluster.list(endpointSlices, "demo");
        return (slice?.endpoints ?? []).length === count;
      });
    await mirrored(2);
    const [slice] = await cluster.list(endpointSlices, "demo");
    assert.deepEqual(
      slice!.endpoints!.map((one) => [one.addresses[0], one.conditions?.ready]),
      [
        ["192.0.2.1", true],
        ["192.0.2.2", false],
      ],
    );
    await cluster.client.patch(endpoints, "demo/outside", {
      subsets: [{ addresses: [{ ip: "192.0.2.3" }], ports: [{ port: 8080 }] }],
    });
    await mirrored(1);
    await cluster.client.delete(endpoints, "demo/outside");
    await mirrored(0);
    assert.deepEqual(
      (await cluster.list(endpointSlices, "default")).map((one) => one.metadata.name),
      ["kubernetes"],
      "that of the API server has its own",
    );
  });
});

describe("a namespace", () => {
  test("comes with a ServiceAccount and the root certificate, which come back when deleted", async () => {
    await using cluster = await testCluster();
    await cluster.namespace("demo");
    const both = () =>
      cluster.until("account and certificate", async () => {
        const account = await cluster.client.get(serviceAccounts, "demo/default");
        const map = await cluster.client.get(configMaps, "demo/kube-root-ca.crt");
        return account && map?.data?.["ca.crt"] === "PEM";
      });
    await both();
    await cluster.client.delete(serviceAccounts, "demo/default");
    await cluster.client.delete(configMaps, "demo/kube-root-ca.crt");
    await both();
  });

  test("goes with everything in it, and waits for what has a finalizer", async () => {
    await using cluster = await testCluster();
    await cluster.namespace("demo");
    await deploy(cluster, 3);
    await complete(cluster, 3);
    await cluster.client.create(configMaps, {
      metadata: { name: "held", namespace: "demo", finalizers: ["example.com/hold"] },
    });
    await cluster.client.delete(namespaces, "demo");
    const said = await cluster.until("condition", async () => {
      const found = await cluster.client.get(namespaces, "demo");
      const one = found?.status?.conditions?.find((each) => each.type === "NamespaceFinalizersRemaining");
      return one?.status === "True" && one;
    });
    assert.match(said.message!, /example\.com\/hold in 1 resource instances/);
    await cluster.client.patch(configMaps, "demo/held", { metadata: { finalizers: [] } });
    await cluster.until("gone", async () => !(await cluster.client.get(namespaces, "demo")));
    assert.deepEqual(await cluster.list(pods), []);
  });
});

describe("the scheduler", () => {
  test("spreads pods over the nodes that they fit on, and says why when there is none", async () => {
    await using cluster = await testCluster({ nodes: [] });
    await cluster.namespace("demo");
    await deploy(cluster, 4);
    const failed = async () =>
      (await cluster.list(events, "demo")).filter((one) => one.reason === "FailedScheduling");
    await cluster.until("no nodes", async () => (await failed()).length === 4);
    assert.equal((await failed())[0]!.message, "no nodes available to schedule pods");
    await cluster.addNode("a");
    await cluster.addNode("b");
    await cluster.addNode("tainted", {
      spec: { taints: [{ key: "dedicated", value: "x", effect: "NoSchedule" }] },
    });
    await complete(cluster, 4);
    await cluster.client.patch(deployments, "demo/serve", { spec: { replicas: 8 } });
    await complete(cluster, 8);
    const on = Object.groupBy(await cluster.list(pods, "demo"), (pod) => pod.spec.nodeName ?? "");
    assert.equal(on.tainted, undefined);
    assert.equal((on.a?.length ?? 0) + (on.b?.length ?? 0), 8);
    assert.ok(on.b && on.b.length >= 4 - 1, `b has ${on.b?.length}`);
    await cluster.client.create(pods, {
      metadata: { name: "picky", namespace: "demo" },
      spec: { nodeSelector: { disk: "ssd" }, containers: [{ name: "x", image: "x" }] },
    });
    const picky = await cluster.until("condition", async () => {
      const pod = await cluster.client.get(pods, "demo/picky");
      return pod?.status?.conditions?.find((one) => one.type === "PodScheduled" && one.status === "False");
    });
    assert.equal(
      picky.message,
      "0/3 nodes are available: 1 node(s) had untolerated taint {dedicated: x}, 2 node(s) didn't match Pod's node affinity/selector.",
    );
    await cluster.client.patch(nodes, "b", { metadata: { labels: { disk: "ssd" } } });
    await cluster.until(
      "placed",
      async () => (await cluster.client.get(pods, "demo/picky"))?.spec.nodeName === "b",
    );
  });
});
