/**
 * Peers that go: a control plane, a cluster, the link between two clusters, a member of the clusterset. What stands
 * in one cluster when another goes, when its endpoints are withdrawn, and how it comes back.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { endpointSlices } from "../../../src/api/index.ts";
import { eventually } from "../../support/eventually.ts";
import { type Lab, labUnavailable, samples, startLab } from "../../support/lab.ts";

const demo = join(samples, "mcs-demo");
const reason = labUnavailable("lab");
if (reason) console.log(`skipped: peers that go: ${reason}`);

/** Seconds; 30 unless told, which would make this a slow test. */
const lease = 9;

interface Row {
  name: string;
  reachable: string;
  reason?: string;
  since?: string;
  leaseAge?: number;
  exports: number;
}

interface Listed {
  items: { metadata: { name: string; labels?: Record<string, string> } }[];
}

describe("seed 001: peers that go", { skip: reason, timeout: 300_000 }, () => {
  let lab: Lab;

  before(async () => {
    lab = await startLab(["c1", "c2"]);
    await Promise.all(
      [1, 2].map(async (i) => {
        const cluster = `c${i}`;
        await lab.weft("install", "--context", `weft-${cluster}`, "--lease-duration", String(lease));
        await lab.kubectl(cluster, "create", "ns", "demo");
        const files = [`dep${i}.yaml`, "svc.yaml", "export.yaml"];
        await lab.kubectl(cluster, "apply", ...files.flatMap((file) => ["-f", join(demo, file)]));
        await lab.kubectl(cluster, "-n", "demo", "rollout", "status", "deployment/serve", "--timeout=60s");
      }),
    );
    await whole();
  });
  after(async () => {
    await lab?.down();
  });

  /** What `weft clusters` says in one cluster of the other. */
  async function peer(asked: string, name: string): Promise<Row | undefined> {
    const rows = JSON.parse(await lab.weft("clusters", "--context", `weft-${asked}`, "-o", "json")) as Row[];
    assert.equal(rows[0]?.name, asked);
    assert.equal(rows[0].reachable, "self");
    return rows.find((row) => row.name === name);
  }

  const list = async (cluster: string, ...what: string[]): Promise<Listed["items"]> =>
    (JSON.parse(await lab.kubectl(cluster, "get", ...what, "-o", "json")) as Listed).items;

  /**
   * How many addresses stand in a cluster behind the import, by the cluster that they are from; without those of pods
   * that end, which may take half a minute: SIGTERM counts for nothing until a program is ready for it.
   */
  async function imported(cluster: string): Promise<Record<string, number>> {
    const { items: slices } = await lab.client(cluster).list(endpointSlices, {
      namespace: "demo",
      labelSelector: "multicluster.kubernetes.io/service-name=serve",
    });
    return Object.fromEntries(
      slices
        .map(({ metadata, endpoints }): [string, number] => [
          metadata.labels!["multicluster.kubernetes.io/source-cluster"]!,
          endpoints.filter(({ conditions }) => !conditions?.terminating).length,
        ])
        .sort(),
    );
  }

  /** Both clusters know each other, and stand behind the import in both. */
  async function whole(counts: Record<string, number> = { c1: 1, c2: 1 }): Promise<void> {
    const sees = (asked: string, other: string) =>
      eventually(`${asked} sees ${other}`, async () => {
        assert.deepEqual(await imported(asked), counts);
        const row = await peer(asked, other);
        assert.deepEqual([row?.reachable, row?.reason, row?.exports], ["True", "Live", 1]);
        return true;
      });
    await Promise.all([sees("c1", "c2"), sees("c2", "c1")]);
  }

  /** Who answers requests from c1 to the clusterset's name, and how many fail. */
  async function ask(count: number): Promise<Record<string, number>> {
    const script = `for i in $(seq ${count}); do curl -s --max-time 3 http://serve.demo.svc.clusterset.local/ || echo failed; echo; done`;
    const said = await lab.kubectl("c1", "-n", "demo", "exec", "deploy/serve", "--", "sh", "-c", script);
    return Object.fromEntries(
      Object.entries(Object.groupBy(said.match(/cluster \d|failed/g) ?? [], (who) => who)).map(
        ([who, answers]) => [who, answers!.length],
      ),
    );
  }

  /** Of 30 fair draws between two clusters one goes without any once in 500 million times. */
  async function bothAnswer(): Promise<void> {
    const answers = await ask(30);
    assert.deepEqual(Object.keys(answers).sort(), ["cluster 1", "cluster 2"]);
  }

  async function onlyC1Answers(): Promise<void> {
    // The rules of the node follow the slices within a moment.
    await eventually("only cluster 1 answers", async () => {
      assert.deepEqual(await ask(10), { "cluster 1": 10 });
      return true;
    });
  }

  /**
   * Waits for the peer to be withdrawn in c1, and checks that it was not before its lease was out. Gives the age of
   * the lease, for a control plane that has ever seen it.
   */
  async function withdrawn(gone: number): Promise<number | undefined> {
    await eventually("c2 is withdrawn in c1", async () => {
      assert.deepEqual(await imported("c1"), { c1: 1 });
      return true;
    });
    const took = (performance.now() - gone) / 1000;
    // Its last sign of life may be as old as its heartbeats are apart.
    assert.ok(took >= lease * 0.6, `withdrawn after ${took} s`);
    const row = await peer("c1", "c2");
    assert.deepEqual([row?.reachable, row?.reason, row?.exports], ["False", "Lost", 0]);
    await onlyC1Answers();
    return row!.leaseAge;
  }

  test("a control plane that is stopped changes nothing for anyone's requests", async () => {
    await bothAnswer();
    await lab.kubectl("c2", "-n", "weft-system", "scale", "deployment/weft", "--replicas=0");
    const row = await eventually("the lease of c2 is long out", async () => {
      const row = await peer("c1", "c2");
      return (row?.leaseAge ?? 0) > 1.3 * lease && row?.reachable !== "True" && row;
    });
    assert.deepEqual([row.reachable, row.reason, row.exports], ["Unknown", "Stale", 1]);
    assert.deepEqual(await imported("c1"), { c1: 1, c2: 1 });
    assert.deepEqual(await imported("c2"), { c1: 1, c2: 1 });
    await bothAnswer();
    await lab.kubectl("c2", "-n", "weft-system", "scale", "deployment/weft", "--replicas=1");
    await whole();
  });

  test("a cut link: each goes on alone; healed, what changed meanwhile is there at once", async () => {
    const cut = performance.now();
    await lab.weft("link", "cut", "c1", "c2");
    assert.match(await lab.weft("status"), /c1 - c2 +cut/);
    await lab.kubectl("c2", "-n", "demo", "scale", "deployment/serve", "--replicas=2");
    await withdrawn(cut);
    await eventually("c1 is withdrawn in c2", async () => {
      assert.deepEqual(await imported("c2"), { c2: 2 });
      return true;
    });
    const healed = performance.now();
    await lab.weft("link", "heal", "c1", "c2");
    assert.equal((await lab.weft("status")).includes("c1 - c2"), false);
    await whole({ c1: 1, c2: 2 });
    const took = (performance.now() - healed) / 1000;
    assert.ok(took < 20, `it took ${took} s`);
    await bothAnswer();
    await lab.kubectl("c2", "-n", "demo", "scale", "deployment/serve", "--replicas=1");
    await whole();
  });

  test("a cluster that is stopped is withdrawn when its lease is out, and comes back by itself", async () => {
    const stopped = performance.now();
    await lab.weft("cluster", "stop", "c2");
    assert.match(await lab.weft("status"), /^c2 +stopped/m);
    const age = await withdrawn(stopped);
    assert.ok(age! >= lease - 1, `the lease is ${age} s old`);
    await lab.weft("cluster", "start", "c2");
    await whole();
    await bothAnswer();
  });

  test("a control plane that restarts beside a dead cluster serves what it had, then withdraws", async () => {
    await lab.weft("cluster", "stop", "c2");
    // Soon enough that the lease of c2 is not out: no time for answering last questions of DNS.
    const now = ["--wait=true", "--grace-period=1"];
    await lab.kubectl("c1", "-n", "weft-system", "delete", "pod", "-l", "app=weft", ...now);
    await lab.kubectl("c1", "-n", "weft-system", "rollout", "status", "deployment/weft", "--timeout=60s");
    const restarted = performance.now();
    assert.deepEqual(await imported("c1"), { c1: 1, c2: 1 }, "nothing is withdrawn on ignorance");
    // What is its own it goes on with.
    await lab.kubectl("c1", "-n", "demo", "scale", "deployment/serve", "--replicas=2");
    await eventually("c1's own new endpoint stands", async () => (await imported("c1")).c1 === 2);
    assert.deepEqual(await imported("c1"), { c1: 2, c2: 1 });
    await lab.kubectl("c1", "-n", "demo", "scale", "deployment/serve", "--replicas=1");
    await withdrawn(restarted);
    await lab.weft("cluster", "start", "c2");
    await whole();
    await bothAnswer();
  });

  /** Names of the objects of a cluster that are there because of another one. */
  async function traces(cluster: string, other: string): Promise<string[]> {
    const kinds = "secrets,serviceaccounts,roles,rolebindings,peerreports,clusterroles,clusterrolebindings";
    const all = [
      ...(await list(cluster, kinds, "-n", "weft-system")),
      ...(await list(cluster, "serviceimports,endpointslices,services,configmaps", "-n", "demo")),
    ];
    const ends = [`-${other}`, `-${other}-lease`, `.${other}`];
    return all
      .filter(
        ({ metadata: { name, labels = {} } }) =>
          name === other ||
          ends.some((end) => name.endsWith(end)) ||
          Object.values(labels).some((value) => value === other),
      )
      .map(({ metadata }) => metadata.name)
      .sort();
  }

  test("a cluster that leaves takes its traces along; joining again is enough for all to be back", async () => {
    const before = await traces("c1", "c2");
    for (const name of [/^c2$/, /^imported-serve-.*c2$/, /^weft-peer-c2$/, /^weft-peer-c2-lease$/]) {
      assert.ok(
        before.some((trace) => name.test(trace)),
        `${name} in ${before}`,
      );
    }
    assert.equal(await lab.weft("leave", "weft-c2"), "c2 has left; c1 forgot it\n");
    for (const [cluster, other] of [
      ["c1", "c2"],
      ["c2", "c1"],
    ] as const) {
      await eventually(`${cluster} stands alone`, async () => {
        assert.deepEqual(await imported(cluster), { [cluster]: 1 });
        assert.equal(await peer(cluster, other), undefined);
        assert.deepEqual(await traces(cluster, other), []);
        return true;
      });
    }
    await onlyC1Answers();
    await lab.weft("join", "weft-c1", "weft-c2");
    await whole();
    await bothAnswer();
  });
});
