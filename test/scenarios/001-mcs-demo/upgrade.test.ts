/** The control plane is upgraded, and killed, while its cluster's pods use what other clusters export. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { eventually } from "../../support/eventually.ts";
import { type Lab, labUnavailable, run, samples, startLab } from "../../support/lab.ts";
import { tool } from "../../support/tools.ts";

const demo = join(samples, "mcs-demo");
const reason = labUnavailable();
if (reason) console.log(`skipped: upgrades on the lab: ${reason}`);

/** What kube-dns or CoreDNS waits for an answer to what it forwards, and then asks anew: less is never noticed. */
const secondTry = 4_000;

/**
 * Asks by name, on a new connection each time, and asks DNS from one socket as a cluster's DNS does. Prints a line for
 * each failure, and a second's counts.
 */
const asking = (dns: string) => `
const http = require("http"), { Resolver } = require("dns").promises;
const name = "serve.demo.svc.clusterset.local", seen = { requests: 0, questions: 0, failed: 0, slowest: 0 };
const say = (what) => console.log(JSON.stringify({ at: new Date().toISOString(), ...what }));
const failed = (what, error) => { seen.failed++; say({ failed: what, message: error.message }); };
const get = () => new Promise((done, fail) => {
  const asked = http.get("http://" + name + "/", { agent: false, timeout: 9000 }, (answer) => {
    answer.resume().on("end", done).on("error", fail);
  });
  asked.on("timeout", () => asked.destroy(new Error("timeout"))).on("error", fail);
});
const pause = () => new Promise((done) => setTimeout(done, 20));
(async () => {
  for (;; await pause()) {
    const begun = performance.now();
    await get().catch((error) => failed("request", error));
    seen.requests++; seen.slowest = Math.max(seen.slowest, performance.now() - begun);
  }
})();
(async () => {
  const resolver = new Resolver({ timeout: 1500, tries: 1 });
  resolver.setServers(["${dns}"]);
  for (;; await pause()) { await resolver.resolve4(name).catch((error) => failed("question", error)); seen.questions++; }
})();
setInterval(() => say(seen), 1000);
`;

interface Seen {
  at: string;
  requests: number;
  questions: number;
  failed: number;
  /** Milliseconds. */
  slowest: number;
}

describe("seed 001: upgrades", { skip: reason, timeout: 300_000 }, () => {
  let lab: Lab;
  const inSystem = (...args: string[]) => lab.kubectl("c1", "-n", "weft-system", ...args);
  const rolledOut = () => inSystem("rollout", "status", "deployment/weft", "--timeout=90s");
  const logs = async () => (await lab.kubectl("c1", "-n", "demo", "logs", "client")).trim().split("\n");
  const seen = async (): Promise<Seen> =>
    (await logs())
      .map((line) => JSON.parse(line) as Seen)
      .filter(({ requests }) => requests > 0)
      .at(-1)!;
  /** Waits until `more` requests and questions were answered since; so long that what was lost has shown. */
  const goesOn = async (more: number) => {
    const { requests, questions } = await seen();
    await eventually("the client goes on", async () => {
      const now = await seen();
      return now.requests > requests + more && now.questions > questions + more;
    });
  };
  const leader = () => inSystem("get", "lease", "weft-leader", "-o", "jsonpath={.spec.holderIdentity}");

  before(async () => {
    lab = await startLab(["c1", "c2"]);
    // Only c2 serves: what c1's pods call is what its control plane made.
    for (const cluster of ["c1", "c2"]) await lab.kubectl(cluster, "create", "ns", "demo");
    await lab.kubectl(
      "c2",
      ...["dep2.yaml", "svc.yaml", "export.yaml"]
        .flatMap((file) => ["-f", join(demo, file)])
        .toSpliced(0, 0, "apply"),
    );
    const address = await inSystem("get", "service", "weft-dns", "-o", "jsonpath={.spec.clusterIP}");
    const containers = [{ name: "client", image: "node", command: ["node", "-e", asking(address)] }];
    const metadata = { name: "client", namespace: "demo" };
    const spec = { terminationGracePeriodSeconds: 0, containers };
    const pod = JSON.stringify({ apiVersion: "v1", kind: "Pod", metadata, spec });
    await eventually("the import", () => lab.kubectl("c1", "-n", "demo", "get", "serviceimport", "serve"));
    // A CoreDNS that was told of clusterset.local a moment ago reads its configuration again within 45 s.
    const { status, stderr } = await lab.tryKubectl("c1", ["apply", "-f", "-"], pod);
    assert.equal(status, 0, stderr);
    await eventually(
      "the client is answered",
      async () => {
        const before = await seen();
        return eventually(
          "no failures",
          async () => {
            const now = await seen();
            return now.failed === before.failed && now.requests > before.requests + 20;
          },
          3_000,
        );
      },
      60_000,
    );
  });
  after(async () => {
    await lab?.down();
  });

  async function nothingFailsDuring(what: () => Promise<unknown>): Promise<void> {
    const before = (await logs()).length;
    await what();
    await rolledOut();
    // Those that end answer a little longer.
    await eventually("the old pods are gone", async () => {
      const [pods, wanted] = await Promise.all([
        inSystem("get", "pods", "-l", "app=weft", "-o", "name"),
        inSystem("get", "deployment", "weft", "-o", "jsonpath={.spec.replicas}"),
      ]);
      return pods.trim().split("\n").length === Number(wanted);
    });
    await goesOn(50);
    const lines = (await logs()).slice(before);
    assert.deepEqual(
      lines.filter((line) => line.includes('"message"')),
      [],
    );
    const { slowest } = await seen();
    assert.ok(slowest < secondTry, `the slowest request took ${slowest} ms`);
  }

  test("one replica is upgraded, two are rolled: no request fails, no question is lost", async () => {
    await nothingFailsDuring(async () => {
      if (process.env.WEFT_REAL_NODES !== "1")
        return lab.weft("install", "--context", "weft-c1", "--replicas", "2");
      const args = ["upgrade", "weft", "deploy/helm/weft", "-n", "weft-system", "--kube-context", "weft-c1"];
      const { status, stderr } = await run(
        tool("helm").file,
        [...args, "--reuse-values", "--set", "replicas=2"],
        lab.env,
      );
      assert.equal(status, 0, stderr);
    });
    await nothingFailsDuring(() => inSystem("rollout", "restart", "deployment/weft"));
  });

  test("the leader is killed under changes: the other leads in seconds, and nothing is lost", async () => {
    const before = await leader();
    const killed = performance.now();
    const [took] = await Promise.all([
      inSystem("delete", "pod", before, "--grace-period=0", "--force", "--wait=false").then(() =>
        eventually("another leads", async () => {
          const now = await leader();
          return now !== before && now !== "" && performance.now() - killed;
        }),
      ),
      lab.kubectl("c2", "-n", "demo", "scale", "deployment/serve", "--replicas=3"),
    ]);
    // 5 s by its own clock (test/simulation/leader.test.ts); kubectl and a machine that is busy add to it.
    assert.ok(took < 8_000, `${took} ms`);
    await eventually("the new endpoints are in c1", async () => {
      const args = ["get", "endpointslices", "-l", "multicluster.kubernetes.io/service-name=serve", "-o"];
      const addresses = await lab.kubectl(
        "c1",
        "-n",
        "demo",
        ...args,
        "jsonpath={.items[*].endpoints[*].addresses[0]}",
      );
      return addresses.trim().split(" ").length === 3;
    });
  });
});
