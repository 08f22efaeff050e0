import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  daemonSets,
  deployments,
  endpointSlices,
  jobs,
  pods,
  services,
  statefulSets,
} from "../../api/index.ts";
import { KubeClient } from "../../kube/index.ts";
import { testCluster } from "./harness.ts";
import { startControllers } from "./index.ts";

const template = (app: string) => ({
  metadata: { labels: { app } },
  spec: { containers: [{ name: "serve", image: "serve" }] },
});
const workload = (app: string) => ({ selector: { matchLabels: { app } }, template: template(app) });

describe("the controllers", () => {
  test("started again on a cluster that is as it should be write nothing", async () => {
    await using cluster = await testCluster({ nodes: ["a", "b"] });
    const { client } = cluster;
    await cluster.namespace("demo");
    const metadata = (name: string) => ({ name, namespace: "demo" });
    await client.create(deployments, {
      metadata: metadata("web"),
      spec: { replicas: 3, ...workload("web") },
    });
    await client.create(statefulSets, {
      metadata: metadata("db"),
      spec: { serviceName: "db", replicas: 2, ...workload("db") },
    });
    await client.create(daemonSets, { metadata: metadata("agent"), spec: workload("agent") });
    await client.create(jobs, {
      metadata: metadata("work"),
      spec: { template: { spec: { ...template("work").spec, restartPolicy: "Never" } } },
    });
    await client.create(services, {
      metadata: { ...metadata("web"), labels: { team: "a" } },
      spec: { selector: { app: "web" }, ports: [{ port: 80 }] },
    });
    await client.create(services, {
      metadata: metadata("db"),
      spec: { clusterIP: "None", selector: { app: "db" }, ports: [{ port: 80 }] },
    });
    await cluster.until("everything", async () => {
      const slices = await cluster.list(endpointSlices, "demo");
      const count = (service: string) =>
        slices
          .filter((slice) => slice.metadata.labels!["kubernetes.io/service-name"] === service)
          .reduce((sum, slice) => sum + (slice.endpoints ?? []).length, 0);
      const running = (await cluster.list(pods, "demo")).filter((pod) => pod.status?.phase === "Running");
      return running.length === 8 && count("web") === 3 && count("db") === 2;
    });
    await cluster.until("rest", async () => {
      const before = (await client.list(pods)).resourceVersion;
      await new Promise((resolve) => setTimeout(resolve, 100));
      return cluster.controllers.idle && (await client.list(pods)).resourceVersion === before;
    });
    cluster.controllers.stop();

    const writes: string[] = [];
    const again = startControllers({
      world: cluster.world,
      client: new KubeClient({
        transport: (request) => {
          if (request.method !== "GET") writes.push(`${request.method} ${request.path} ${request.body}`);
          return client.transport(request);
        },
        world: cluster.world,
        cluster: "c1",
      }),
      rootCertificates: "PEM",
    });
    await again.ready;
    await cluster.until("idle", async () => again.idle);
    // What a deleted pod brings about shows that they are at work.
    const [gone] = (await cluster.list(pods, "demo")).filter((pod) => pod.metadata.labels?.app === "web");
    assert.deepEqual(writes, []);
    await client.delete(pods, gone!.metadata);
    await cluster.until("a new pod", async () => {
      const web = (await cluster.list(pods, "demo")).filter((pod) => pod.metadata.labels?.app === "web");
      return web.length === 3 && web.every((pod) => pod.status?.phase === "Running");
    });
    again.stop();
  });

  test("make nothing twice when the watch is late: they know what they wrote", async () => {
    await using cluster = await testCluster({ watchDelay: 100 });
    const { client } = cluster;
    await cluster.namespace("demo");
    const made = new Set<string>();
    const stop = cluster.observe(pods, (all) => {
      for (const pod of all) made.add(pod.metadata.uid!);
    });
    await client.create(deployments, {
      metadata: { name: "web", namespace: "demo" },
      spec: { replicas: 5, ...workload("web") },
    });
    await client.create(services, {
      metadata: { name: "web", namespace: "demo" },
      spec: { selector: { app: "web" }, ports: [{ port: 80 }] },
    });
    await cluster.until("five available", async () => {
      const found = await client.get(deployments, "demo/web");
      return found?.status?.availableReplicas === 5;
    });
    await cluster.until("five endpoints", async () => {
      const [slice] = await cluster.list(endpointSlices, "demo");
      return slice?.endpoints?.length === 5;
    });
    await client.patch(deployments, "demo/web", { spec: { replicas: 2 } });
    await cluster.until("two", async () => (await cluster.list(pods, "demo")).length === 2);
    await cluster.until("two available", async () => {
      const found = await client.get(deployments, "demo/web");
      return found?.status?.availableReplicas === 2 && found.status.replicas === 2;
    });
    stop();
    assert.equal(made.size, 5);
    assert.equal((await cluster.list(pods, "demo")).length, 2);
    assert.equal((await cluster.list(endpointSlices, "demo")).length, 1);
  });
});
