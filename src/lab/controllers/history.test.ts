import assert from "node:assert/strict";
import { test } from "node:test";
import {
  deployments,
  endpointSlices,
  endpoints,
  nameOf,
  pods,
  replicaSets,
  serviceNameLabel,
  services,
} from "../../api/index.ts";
import { isNotFound } from "../../kube/index.ts";
import { SimulatedWorld } from "../../world/index.ts";
import { testCluster } from "./harness.ts";
import { startControllers } from "./index.ts";
import { isReady } from "./pods.ts";

const seeds = process.env.WEFT_SEED ? [Number(process.env.WEFT_SEED)] : [1, 2, 3, 4, 5, 6];
const apps = ["a", "b"];

for (const seed of seeds) {
  test(`whatever is done, and however often the controllers die, the end is right (WEFT_SEED=${seed})`, async () => {
    const world = new SimulatedWorld(seed);
    await using cluster = await testCluster({ simulated: world, nodes: ["n1", "n2"] });
    const { client } = cluster;
    const pick = <T>(list: readonly T[]): T => list[Math.floor(world.random() * list.length)]!;
    const quietly = (write: Promise<unknown>) =>
      write.catch((error) => {
        if (!isNotFound(error) && error?.code !== 409) throw error;
      });
    let controllers = cluster.controllers;
    const template = (app: string, version: number) => ({
      metadata: { labels: { app } },
      spec: { containers: [{ name: "c", image: `image:${version}` }] },
    });
    const steps: ((app: string) => Promise<unknown>)[] = [
      (app) =>
        client.create(deployments, {
          metadata: { name: app, namespace: "default" },
          spec: { replicas: 2, selector: { matchLabels: { app } }, template: template(app, 1) },
        }),
      (app) =>
        client.create(services, {
          metadata: { name: app, namespace: "default" },
          spec: { selector: { app }, ports: [{ port: 80 }] },
        }),
      (app) => client.patch(deployments, `default/${app}`, { spec: { replicas: pick([0, 1, 2, 5]) } }),
      (app) =>
        client.patch(deployments, `default/${app}`, { spec: { template: template(app, pick([1, 2, 3])) } }),
      (app) =>
        client.delete(deployments, `default/${app}`, {
          propagationPolicy: pick(["Background", "Foreground"] as const),
        }),
      (app) => client.delete(services, `default/${app}`),
      async () => {
        const all = await cluster.list(pods);
        if (all.length > 0) await client.delete(pods, nameOf(pick(all)));
      },
      async () => {
        const all = await cluster.list(endpointSlices, "default");
        const made = all.filter((slice) => slice.metadata.name !== "kubernetes");
        if (made.length > 0) await client.delete(endpointSlices, nameOf(pick(made)));
      },
      async () => {
        controllers.stop();
        await world.advance(pick([0, 5, 200]));
        controllers = startControllers({
          world,
          client,
          rootCertificates: "PEM",
          log: (line) => cluster.log.push(line),
        });
      },
    ];
    for (let n = 0; n < 40; n++) {
      await quietly(pick(steps)(pick(apps)));
      await world.advance(pick([0, 0, 1, 20, 500]));
    }
    await world.advance(20_000);
    try {
      await check();
    } finally {
      controllers.stop();
    }

    async function check(): Promise<void> {
      const all = await cluster.list(pods, "default");
      const sets = await cluster.list(replicaSets, "default");
      const slices = await cluster.list(endpointSlices, "default");
      let owned = 0;
      for (const app of apps) {
        const deployment = await client.get(deployments, `default/${app}`);
        const mine = all.filter((pod) => pod.metadata.labels?.app === app);
        owned += mine.length;
        assert.equal(mine.length, deployment?.spec?.replicas ?? 0, `pods of ${app}`);
        for (const pod of mine) {
          assert.ok(isReady(pod));
          assert.equal(pod.spec.containers[0]!.image, deployment!.spec!.template.spec!.containers[0]!.image);
        }
        if (!deployment)
          assert.deepEqual(
            sets.filter((set) => set.metadata.labels?.app === app),
            [],
          );
        assert.equal(deployment?.status?.availableReplicas ?? 0, mine.length);

        const service = await client.get(services, `default/${app}`);
        const found = slices.filter((slice) => slice.metadata.labels?.[serviceNameLabel] === app);
        const addresses = found.flatMap((slice) => slice.endpoints ?? []).flatMap((one) => one.addresses);
        const expected = service ? mine.map((pod) => pod.status!.podIP!) : [];
        assert.deepEqual(addresses.sort(), expected.sort(), `slices of ${app}`);
        assert.equal(found.length, service ? 1 : 0);
        const legacy = await client.get(endpoints, `default/${app}`);
        const old = (legacy?.subsets ?? []).flatMap((one) => one.addresses ?? []).map((one) => one.ip);
        assert.deepEqual(
          [old.sort(), legacy !== undefined],
          [expected, service !== undefined],
          `Endpoints of ${app}`,
        );
      }
      assert.equal(all.length, owned, "pods of nobody");
    }
  });
}
