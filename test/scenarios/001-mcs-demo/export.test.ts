/** Services across clusters the way Weft means it: a ServiceExport in each cluster, and nothing by hand. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { eventually } from "../../support/eventually.ts";
import { type Lab, labUnavailable, samples, startLab } from "../../support/lab.ts";

const demo = join(samples, "mcs-demo");
const reason = labUnavailable();
if (reason) console.log(`skipped: exports on the lab: ${reason}`);

interface Listed {
  items: {
    metadata: { name: string; labels?: Record<string, string> };
    spec: { ips?: string[]; clusterIP?: string; type?: string };
    status?: {
      clusters?: { cluster: string }[];
      conditions?: { type: string; status: string; reason: string; message: string }[];
      endpointSliceObjects?: string;
    };
    endpoints?: { addresses: string[]; conditions?: { ready?: boolean } }[];
  }[];
}

describe("seed 001: exports", { skip: reason, timeout: 240_000 }, () => {
  let lab: Lab;
  const clusters = ["c1", "c2"];

  before(async () => {
    lab = await startLab(clusters);
    for (const [cluster, file] of [
      ["c1", "dep1.yaml"],
      ["c2", "dep2.yaml"],
    ] as const) {
      await lab.kubectl(cluster, "create", "ns", "demo");
      await lab.kubectl(cluster, "apply", "-f", join(demo, file), "-f", join(demo, "svc.yaml"));
    }
    for (const cluster of clusters) {
      await lab.kubectl(cluster, "-n", "demo", "rollout", "status", "deployment/serve", "--timeout=60s");
    }
  });
  after(async () => {
    await lab?.down();
  });

  const list = async (cluster: string, what: string, ...flags: string[]): Promise<Listed["items"]> =>
    (JSON.parse(await lab.kubectl(cluster, "get", what, "-n", "demo", "-o", "json", ...flags)) as Listed)
      .items;

  const condition = async (cluster: string, name: string, type: string) =>
    (await list(cluster, "serviceexports"))
      .find((item) => item.metadata.name === name)
      ?.status?.conditions?.find((found) => found.type === type);

  /** What comes back from `count` requests by pods' means, from inside c1. */
  const ask = (address: string, count: number) =>
    lab.kubectl(
      ...(["c1", "-n", "demo", "exec", "deploy/serve", "--", "sh", "-c"] as const),
      `for i in $(seq ${count}); do curl -s --max-time 5 http://${address}/; echo; done`,
    );

  test("an export in each cluster makes an import of both in each cluster", async () => {
    for (const cluster of clusters) await lab.kubectl(cluster, "apply", "-f", join(demo, "export.yaml"));
    for (const [i, cluster] of clusters.entries()) {
      const found = await eventually(`the import in ${cluster}`, async () => {
        const [found] = await list(cluster, "serviceimports");
        return found?.spec.ips?.length && found.status?.clusters?.length === 2 && found;
      });
      assert.equal(found.metadata.name, "serve");
      assert.equal(found.spec.type, "ClusterSetIP");
      assert.match(found.spec.ips![0]!, new RegExp(`^10\\.${11 + 2 * i}\\.`));
      assert.deepEqual(found.status!.clusters, [{ cluster: "c1" }, { cluster: "c2" }]);
      const derived = (await list(cluster, "services")).find((s) => s.metadata.name === "derived-ovtkn0laet");
      assert.equal(derived?.spec.clusterIP, found.spec.ips![0]);
    }
  });

  test("each cluster holds one slice from each cluster, labelled as KEP-1645 says", async () => {
    for (const cluster of clusters) {
      await eventually(`slices in ${cluster}`, async () => {
        const slices = await list(
          ...([cluster, "endpointslices", "-l"] as const),
          "multicluster.kubernetes.io/service-name=serve",
        );
        return (
          slices
            .map((slice) => slice.metadata.labels?.["multicluster.kubernetes.io/source-cluster"])
            .sort()
            .join() === "c1,c2" && slices.every((slice) => slice.endpoints?.length === 1)
        );
      });
    }
  });

  test("the exports' conditions say Valid, Ready and no Conflict", async () => {
    for (const cluster of clusters) {
      for (const [type, status] of [
        ["Valid", "True"],
        ["Ready", "True"],
        ["Conflict", "False"],
      ] as const) {
        await eventually(
          `${type}=${status} in ${cluster}`,
          async () => (await condition(cluster, "serve", type))?.status === status,
        );
      }
    }
  });

  test("the clusterset name is answered by pods of both clusters", async () => {
    await eventually("answers from both", async () => {
      const said = await ask("serve.demo.svc.clusterset.local", 10);
      return said.includes("hello from cluster 1") && said.includes("hello from cluster 2");
    });
  });

  test("scaling in c2 shows in c1", async () => {
    await lab.kubectl("c2", "-n", "demo", "scale", "deployment/serve", "--replicas=3");
    await eventually("three endpoints of c2 in c1", async () => {
      const slices = await list(
        ...(["c1", "endpointslices", "-l"] as const),
        "multicluster.kubernetes.io/source-cluster=c2",
      );
      return slices.flatMap((s) => s.endpoints ?? []).filter((e) => e.conditions?.ready).length === 3;
    });
  });

  test("a derived Service that is deleted comes back with its address", async () => {
    const [before] = await list("c1", "serviceimports");
    await lab.kubectl("c1", "-n", "demo", "delete", "service", "derived-ovtkn0laet");
    const again = await eventually("the derived Service", async () =>
      (await list("c1", "services")).find((s) => s.metadata.name === "derived-ovtkn0laet"),
    );
    assert.equal(again.spec.clusterIP, before!.spec.ips![0]);
  });

  test("a missing and an ExternalName Service are exported in vain, and the condition says why", async () => {
    const exports = ["absent", "elsewhere"].map((name) => ({
      apiVersion: "multicluster.x-k8s.io/v1alpha1",
      kind: "ServiceExport",
      metadata: { name, namespace: "demo" },
    }));
    const elsewhere = {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "elsewhere", namespace: "demo" },
      spec: { type: "ExternalName", externalName: "example.com" },
    };
    const manifest = JSON.stringify({ apiVersion: "v1", kind: "List", items: [...exports, elsewhere] });
    assert.equal((await lab.tryKubectl("c1", ["apply", "-f", "-"], manifest)).status, 0);
    for (const [name, why] of [
      ["absent", "NoService"],
      ["elsewhere", "InvalidServiceType"],
    ] as const) {
      const found = await eventually(`Valid of ${name}`, () => condition("c1", name, "Valid"));
      assert.deepEqual([found.status, found.reason], ["False", why]);
    }
    assert.equal((await list("c1", "serviceimports")).length, 1);
  });

  test("what a peer's credential may do is read offers, and nothing else", async () => {
    const as = "--as=system:serviceaccount:weft-system:weft-peer-c1";
    const can = async (verb: string, what: string, ...flags: string[]) =>
      (await lab.tryKubectl("c2", ["auth", "can-i", verb, what, as, ...flags])).stdout.trim();
    assert.equal(await can("list", "serviceoffers.offer.weft.dev", "-A"), "yes");
    assert.equal(await can("watch", "endpointoffers.offer.weft.dev", "-A"), "yes");
    for (const [verb, what] of [
      ["list", "services"],
      ["list", "pods"],
      ["get", "secrets"],
      ["create", "serviceoffers.offer.weft.dev"],
      ["list", "endpointslices.discovery.k8s.io"],
      ["list", "leases.coordination.k8s.io"],
    ] as const) {
      assert.equal(await can(verb, what, "-n", "demo"), "no", `${verb} ${what}`);
    }
  });

  test("a pod cannot write to the machine's files nor read the user's kubeconfig", async () => {
    const shell = (script: string) =>
      lab.tryKubectl("c1", ["-n", "demo", "exec", "deploy/serve", "--", "sh", "-c", script]);
    assert.notEqual((await shell("echo x > /usr/weft-was-here")).status, 0);
    assert.notEqual((await shell("mount -o remount,rw /usr && echo x > /usr/weft-was-here")).status, 0);
    assert.notEqual((await shell(`cat '${lab.kubeconfig}'`)).status, 0);
    assert.equal((await shell("ls -A /root /home")).stdout.includes(".kube"), false);
  });

  test("un-export in c2 takes its endpoints out; un-export in c1 takes the rest away", async () => {
    await lab.kubectl("c2", "-n", "demo", "delete", "serviceexport", "serve");
    for (const cluster of clusters) {
      await eventually(`only c1 behind the import in ${cluster}`, async () => {
        const [found] = await list(cluster, "serviceimports");
        const slices = await list(
          ...([cluster, "endpointslices", "-l"] as const),
          "multicluster.kubernetes.io/service-name=serve",
        );
        return found?.status?.clusters?.length === 1 && slices.length === 1;
      });
    }
    await lab.kubectl("c1", "-n", "demo", "delete", "serviceexport", "serve");
    for (const cluster of clusters) {
      await eventually(`no trace in ${cluster}`, async () => {
        const left = [
          ...(await list(cluster, "serviceimports")),
          ...(await list(cluster, "serviceoffers,endpointoffers")),
          ...(await list(cluster, "endpointslices", "-l", "multicluster.kubernetes.io/service-name")),
          ...(await list(cluster, "services")).filter((s) => s.metadata.name.startsWith("derived-")),
        ];
        return left.length === 0;
      });
    }
  });
});
