/**
 * Seed 001's own command list, from `create ns demo` to the last table of the page, with contexts instead of
 * kubeconfig files, on the lab. What it prints is held to what the seed prints.
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { eventually } from "../../support/eventually.ts";
import { type Lab, labUnavailable, run, samples, startLab, tableRows } from "../../support/lab.ts";

const demo = join(samples, "mcs-demo");
const reason = labUnavailable();
if (reason) console.log(`skipped: seed 001 on the lab: ${reason}`);

describe("seed 001: the manual way", { skip: reason, timeout: 240_000 }, () => {
  let lab: Lab;
  const slices: Record<string, string> = {};
  const importedFile = (n: number) => join(lab.home, `slice-${n}.tmp`);

  before(async () => {
    lab = await startLab(["c1", "c2"]);
  });
  after(async () => {
    await lab?.down();
  });

  test("create ns demo in both clusters", async () => {
    for (const cluster of ["c1", "c2"]) {
      assert.equal(await lab.kubectl(cluster, "create", "ns", "demo"), "namespace/demo created\n");
    }
  });

  test("apply the deployment and the service in both clusters", async () => {
    for (const [cluster, file] of [
      ["c1", "dep1.yaml"],
      ["c2", "dep2.yaml"],
    ] as const) {
      const said = await lab.kubectl(cluster, "apply", "-f", join(demo, file), "-f", join(demo, "svc.yaml"));
      assert.equal(said, "deployment.apps/serve created\nservice/serve created\n");
      await lab.kubectl(cluster, "-n", "demo", "rollout", "status", "deployment", "serve", "--timeout=60s");
    }
  });

  test("get endpointslice shows one slice with the pod's address", async () => {
    for (const [cluster, address] of [
      ["c1", /^10\.10\.\d+\.\d+$/],
      ["c2", /^10\.12\.\d+\.\d+$/],
    ] as const) {
      const row = await eventually(`a slice of serve in ${cluster}`, async () => {
        const rows = tableRows(await lab.kubectl(cluster, "get", "endpointslice", "-n", "demo"));
        return rows.length === 1 && address.test(rows[0]!.ENDPOINTS ?? "") && rows[0];
      });
      assert.deepEqual(Object.keys(row), ["NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"]);
      assert.match(row.NAME!, /^serve-[a-z0-9]{5}$/);
      assert.equal(row.ADDRESSTYPE, "IPv4");
      assert.equal(row.PORTS, "8080");
      slices[cluster] = row.NAME!;
    }
  });

  test("a request loop to serve.demo.svc.cluster.local in c1 is answered by cluster 1 alone", async () => {
    const said = await request("c1", "5s", "serve.demo.svc.cluster.local");
    const answers = answersIn(said);
    assert.ok(answers.length >= 3, said);
    for (const answer of answers) {
      assert.match(
        answer,
        /^\d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d 'hello from cluster 1 \(Node: c1-control-plane Pod: serve-[a-z0-9]+-[a-z0-9]{5} Address: 10\.10\.\d+\.\d+\)'$/,
      );
    }
    assert.match(said, /pod "request" deleted/);
  });

  test("slices copied with edit-meta and ServiceImports are created in both clusters", async () => {
    for (const [n, cluster] of [
      [1, "c1"],
      [2, "c2"],
    ] as const) {
      const yaml = await lab.kubectl(
        cluster,
        "get",
        "endpointslice",
        "-n",
        "demo",
        slices[cluster]!,
        "-o",
        "yaml",
      );
      const metadata = `{name: imported-${slices[cluster]}, namespace: demo, labels: {multicluster.kubernetes.io/service-name: serve}}`;
      const edited = await run(join(demo, "edit-meta"), ["--metadata", metadata], lab.env, yaml);
      assert.equal(edited.status, 0, edited.stderr);
      writeFileSync(importedFile(n), edited.stdout);
    }
    const files = ["-f", importedFile(1), "-f", importedFile(2)];
    for (const cluster of ["c1", "c2"]) {
      assert.equal(
        await lab.kubectl(cluster, "apply", "-f", join(demo, "serviceimport.yaml"), ...files),
        "serviceimport.multicluster.x-k8s.io/serve created\n" +
          `endpointslice.discovery.k8s.io/imported-${slices.c1} created\n` +
          `endpointslice.discovery.k8s.io/imported-${slices.c2} created\n`,
      );
    }
    for (const cluster of ["c1", "c2"]) {
      const said = await lab.kubectl(
        cluster,
        "apply",
        "-f",
        join(demo, "serviceimport-with-vip.yaml"),
        ...files,
      );
      assert.match(said, /^serviceimport\.multicluster\.x-k8s\.io\/serve-with-vip created\n/);
      for (const name of Object.values(slices)) {
        assert.match(
          said,
          new RegExp(`endpointslice\\.discovery\\.k8s\\.io/imported-${name} (configured|unchanged)`),
        );
      }
    }
  });

  let vip = "";
  test("serviceimports get the derived Service's address; a given address is left alone", async () => {
    const rows = await eventually("an address for serve", async () => {
      const rows = tableRows(await lab.kubectl("c1", "get", "-n", "demo", "serviceimports"));
      return /10\.11\./.test(rows[0]?.IP ?? "") && rows;
    });
    assert.deepEqual(Object.keys(rows[0]!), ["NAME", "TYPE", "IP", "AGE"]);
    assert.deepEqual(
      rows.map((row) => [row.NAME, row.TYPE, row.IP!.replace(/10\.11\.\d+\.\d+/, "10.11.x.y")]),
      [
        ["serve", "ClusterSetIP", '["10.11.x.y"]'],
        ["serve-with-vip", "ClusterSetIP", '["1.2.3.4"]'],
      ],
    );
  });

  test("get endpointslice shows the imported slices beside the own one", async () => {
    const rows = tableRows(await lab.kubectl("c1", "get", "-n", "demo", "endpointslice"));
    assert.deepEqual(
      rows.map((row) => row.NAME).sort(),
      [`imported-${slices.c1}`, `imported-${slices.c2}`, slices.c1].sort(),
    );
  });

  test("get service shows the derived Services with the upstream's names", async () => {
    const rows = tableRows(await lab.kubectl("c1", "get", "-n", "demo", "service"));
    assert.deepEqual(Object.keys(rows[0]!), ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]);
    assert.deepEqual(
      rows.map((row) => [row.NAME, row.TYPE, row["EXTERNAL-IP"], row["PORT(S)"]]),
      [
        ["derived-3jail2m1qh", "ClusterIP", "<none>", "80/TCP"],
        ["derived-ovtkn0laet", "ClusterIP", "<none>", "80/TCP"],
        ["serve", "ClusterIP", "<none>", "80/TCP"],
      ],
    );
    assert.ok(rows.every((row) => /^10\.11\.\d+\.\d+$/.test(row["CLUSTER-IP"]!)));
    const template = '{{index (index .items 0).spec.ips 0}}{{"\\n"}}';
    vip = (
      await lab.kubectl(
        "c1",
        "get",
        "serviceimport",
        "-n",
        "demo",
        "-o",
        "go-template",
        `--template=${template}`,
      )
    ).trim();
    assert.equal(vip, rows[1]!["CLUSTER-IP"]);
  });

  test("a request loop to the clusterset address is answered by both clusters", async () => {
    const said = await request("c1", "15s", vip);
    const answers = answersIn(said).join("\n");
    assert.match(
      answers,
      /hello from cluster 1 \(Node: c1-control-plane Pod: serve-.* Address: 10\.10\.\d+\.\d+\)/,
    );
    assert.match(
      answers,
      /hello from cluster 2 \(Node: c2-control-plane Pod: serve-.* Address: 10\.12\.\d+\.\d+\)/,
    );
  });

  test("the last table of the page", async () => {
    const said = await lab.kubectl(
      ...(["c1", "get", "po,svc,ep,endpointslices,serviceexport,serviceimport"] as const),
      ...["-n", "demo", "-o", "wide", "--show-labels"],
    );
    const [pods, services, endpoints, endpointSlices, imports] = said.trimEnd().split("\n\n").map(tableRows);
    assert.deepEqual(Object.keys(pods![0]!), [
      ...[
        "NAME",
        "READY",
        "STATUS",
        "RESTARTS",
        "AGE",
        "IP",
        "NODE",
        "NOMINATED NODE",
        "READINESS GATES",
        "LABELS",
      ],
    ]);
    const pod = pods![0]!;
    const hash = /^pod\/serve-([a-z0-9]{8,10})-[a-z0-9]{5}$/.exec(pod.NAME!)?.[1];
    assert.ok(hash, pod.NAME);
    assert.deepEqual(
      [
        pod.READY,
        pod.STATUS,
        pod.RESTARTS,
        pod.NODE,
        pod["NOMINATED NODE"],
        pod["READINESS GATES"],
        pod.LABELS,
      ],
      ["1/1", "Running", "0", "c1-control-plane", "<none>", "<none>", `app=serve,pod-template-hash=${hash}`],
    );
    assert.deepEqual(
      services!.map((row) => [row.NAME, row.SELECTOR, row.LABELS]),
      [
        ["service/derived-3jail2m1qh", "<none>", "<none>"],
        ["service/derived-ovtkn0laet", "<none>", "<none>"],
        ["service/serve", "app=serve", "<none>"],
      ],
    );
    assert.deepEqual(
      endpoints!.map((row) => [row.NAME, row.ENDPOINTS]),
      [["endpoints/serve", `${pod.IP}:8080`]],
    );
    // Controllers newer than the seed's put this label on.
    assert.match(
      endpoints![0]!.LABELS!,
      /^(<none>|endpoints\.kubernetes\.io\/managed-by=endpoint-controller)$/,
    );
    const labels = Object.fromEntries(
      endpointSlices!.map((row) => [row.NAME!.replace("endpointslice.discovery.k8s.io/", ""), row.LABELS]),
    );
    const imported =
      "kubernetes.io/service-name=derived-ovtkn0laet,multicluster.kubernetes.io/service-name=serve";
    assert.deepEqual(labels, {
      [`imported-${slices.c1}`]: imported,
      [`imported-${slices.c2}`]: imported,
      [slices.c1!]:
        "endpointslice.kubernetes.io/managed-by=endpointslice-controller.k8s.io,kubernetes.io/service-name=serve",
    });
    assert.deepEqual(
      imports!.map((row) => [row.NAME, row.TYPE, row.LABELS]),
      [
        ["serviceimport.multicluster.x-k8s.io/serve", "ClusterSetIP", "<none>"],
        ["serviceimport.multicluster.x-k8s.io/serve-with-vip", "ClusterSetIP", "<none>"],
      ],
    );
  });

  /** The seed's `kubectl run … request`. */
  async function request(cluster: string, duration: string, address: string): Promise<string> {
    const image = "--image=jeremyot/request:0a40de8";
    const flags = ["-n", "demo", "run", "-i", "--rm", "--restart=Never", image, "request"];
    const result = await lab.tryKubectl(cluster, [
      ...flags,
      "--",
      `--duration=${duration}`,
      `--address=${address}`,
    ]);
    assert.equal(result.status, 0, result.stderr);
    return result.stdout;
  }
});

function answersIn(said: string): string[] {
  return said.split("\n").filter((line) => line.includes("hello from cluster"));
}
