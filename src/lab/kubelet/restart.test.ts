/** Kubelets that are killed: pods live on, and the next one finds them. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { eventually } from "../../../test/support/eventually.ts";
import { type Pod, pods } from "../../api/index.ts";
import { SimulatedWorld } from "../../world/index.ts";
import { insideNamespaces } from "../network/testing.ts";
import type { Harness } from "./testing/harness.ts";
import { findProcess, idle, main, ready, running, shell } from "./testing/pods.ts";

if (insideNamespaces(import.meta.filename)) {
  const { startHarness } = await import("./testing/harness.ts");

  let h: Harness;
  before(async () => {
    h = await startHarness();
    await h.startKubelet();
  });
  after(() => h.close());

  describe("a kubelet that is killed", () => {
    test("finds its containers again, loses none, restarts none, and nothing that they said", async () => {
      const talker = shell("i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done");
      const stays = await h.create({ containers: [talker] });
      const ends = await h.create({
        restartPolicy: "Never",
        containers: [shell("sleep 1; echo last words; exit 5")],
      });
      const goes = await h.create({ terminationGracePeriodSeconds: 1000, containers: [shell(idle)] });
      for (const { metadata } of [stays, ends, goes]) await h.until(metadata.name, running);
      const before = (await h.until(stays.metadata.name, ready))!;
      const { pid } = await findProcess(h, goes.metadata.uid!);

      await killKubelet();
      await h.client.delete(pods, `default/${goes.metadata.name}`, { gracePeriodSeconds: 0 });
      await new Promise((resolve) => setTimeout(resolve, 1500));
      assert.ok(existsSync(`/proc/${pid}`), "pods run on without a kubelet");
      await h.startKubelet();

      const ended = await h.until(ends.metadata.name, (pod) => pod?.status?.phase === "Failed");
      assert.equal(main(ended)!.state!.terminated!.exitCode, 5);
      assert.equal((await h.get(`/containerLogs/default/${ends.metadata.name}/main`)).text, "last words\n");
      await eventually("its process is gone", () => !existsSync(`/proc/${pid}`));

      const after = (await h.until(stays.metadata.name, ready))!;
      assert.equal(main(after)!.containerID, main(before)!.containerID);
      assert.equal(main(after)!.restartCount, 0);
      assert.equal(after.status!.podIP, before.status!.podIP);
      const numbers = await eventually("its log goes on", async () => {
        const { text } = await h.get(`/containerLogs/default/${stays.metadata.name}/main`);
        const lines = text.trim().split("\n").map(Number);
        return lines.length > 30 && lines;
      });
      assert.deepEqual(
        numbers,
        numbers.map((_, n) => n + 1),
      );
      const next = await h.create({ containers: [shell(idle)] });
      const other = await h.until(next.metadata.name, running);
      assert.notEqual(other!.status!.podIP, after.status!.podIP);
    });
  });

  describe("a kubelet that is killed again and again", () => {
    test("at any moment of many pods' starts and ends leaves them right", async (t) => {
      const seed = Date.now() % 100_000;
      t.diagnostic(`seed ${seed}`);
      const world = new SimulatedWorld(seed);
      const names: string[] = [];
      const gone: Pod[] = [];
      for (let round = 0; round < 4; round++) {
        for (let n = 0; n < 4; n++) {
          const pod = await h.create({ terminationGracePeriodSeconds: 1, containers: [shell(idle)] });
          if (n === 0) gone.push(pod);
          else names.push(pod.metadata.name);
        }
        await new Promise((resolve) => setTimeout(resolve, world.random() * 300));
        await h.client.delete(pods, `default/${gone.at(-1)!.metadata.name}`);
        await new Promise((resolve) => setTimeout(resolve, world.random() * 200));
        await killKubelet();
        await h.startKubelet();
      }
      const addresses = new Set<string>();
      for (const name of names) {
        const pod = await h.until(name, ready);
        assert.equal(main(pod)!.restartCount, 0, name);
        addresses.add(pod!.status!.podIP!);
        assert.equal((await h.sh(name, "echo here")).output, "here\n");
      }
      assert.equal(addresses.size, names.length);
      for (const { metadata } of gone) {
        await h.until(metadata.name, (pod) => pod === undefined);
        assert.ok(!existsSync(`/run/netns/pod_${metadata.uid}`), metadata.name);
      }
    });
  });

  async function killKubelet(): Promise<void> {
    const kubelet = h.kubelet();
    kubelet.removeAllListeners("exit");
    const gone = once(kubelet, "exit");
    kubelet.kill("SIGKILL");
    await gone;
  }
}
