/**
 * One service of two meshes in two clusters: a sidecar of c1 calls it by its clusterset name, and is answered by pods of
 * both in mTLS, each by the identity that its own mesh gave it. Subsets, nearness and failover go across clusters too.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { eventually } from "../../support/eventually.ts";
import { type Lab, labUnavailable, startLab } from "../../support/lab.ts";
import { file, proxy } from "./coolapp.ts";

const reason = labUnavailable();
if (reason) console.log(`skipped: seed 002 across clusters: ${reason}`);

const clusters = ["c1", "c2"] as const;
const region = { c1: "eu", c2: "us" };
const host = "catalog.coolapp.svc.clusterset.local";

const rule = (policy: object) =>
  JSON.stringify({
    apiVersion: "networking.istio.io/v1",
    kind: "DestinationRule",
    metadata: { name: "catalog", namespace: "coolapp" },
    spec: { host, ...policy },
  });

describe(`seed 002: a mesh in each of two clusters, with the ${proxy} proxy`, {
  skip: reason,
  timeout: 300_000,
}, () => {
  let lab: Lab;

  const inCoolapp = (cluster: string, ...args: string[]) => lab.kubectl(cluster, "-n", "coolapp", ...args);
  const apply = async (cluster: string, object: string) => {
    const { status, stderr } = await lab.tryKubectl(cluster, ["apply", "-f", "-"], object);
    assert.equal(status, 0, stderr);
  };

  before(async () => {
    lab = await startLab([...clusters], ...(proxy === "embedded" ? [] : ["--proxy", proxy]));
    await Promise.all(
      clusters.map(async (cluster) => {
        const place = `topology.kubernetes.io/region=${region[cluster]}`;
        await lab.kubectl(cluster, "label", "node", "--all", "--overwrite", place);
        for (const name of ["istio-system", "coolapp"]) await lab.kubectl(cluster, "create", "ns", name);
        const mesh = ["apply", "-f", file("service-mesh.yaml"), "-f", file("service-mesh-roll.yaml")];
        await lab.kubectl(cluster, "-n", "istio-system", ...mesh);
        const ready = ["smcp/service-mesh-installation", "smmr/default"];
        await lab.kubectl(
          cluster,
          ...["-n", "istio-system", "wait", "--for=condition=Ready", "--timeout=90s", ...ready],
        );
        const template = file("catalog/kubernetes/catalog-service-template.yml");
        await inCoolapp(cluster, "create", "-f", template, "-f", file("catalog/kubernetes/Service.yml"));
        await inCoolapp(cluster, "apply", "-f", file("policies/strict-mtls.yml"));
        await apply(
          cluster,
          JSON.stringify({
            apiVersion: "multicluster.x-k8s.io/v1beta1",
            kind: "ServiceExport",
            metadata: { name: "catalog", namespace: "coolapp" },
          }),
        );
      }),
    );
    await inCoolapp("c2", "create", "-f", file("catalog-v2/kubernetes/catalog-service-template.yml"));
    await inCoolapp(
      "c1",
      ...["run", "client", "--image=curlimages/curl", "--annotations=sidecar.istio.io/inject=true"],
      ...["--command", "--", "sleep", "infinity"],
    );
    await inCoolapp("c1", "wait", "--for=condition=Ready", "pod/client", "--timeout=90s");
    for (const cluster of clusters)
      await inCoolapp(cluster, "wait", "--for=condition=Available", "deployment", "--all", "--timeout=90s");
  });
  after(async () => {
    await lab?.down();
  });

  /** Who answered each of `count` calls, as `c1 v1`; what is no answer as it is. */
  async function call(count: number): Promise<string[]> {
    const line = `for i in $(seq ${count}); do curl -s --max-time 5 http://${host}:8080/ || echo failed; echo; done`;
    const said = await inCoolapp("c1", "exec", "client", "-c", "client", "--", "sh", "-c", line);
    const lines = said.split("\n").filter((each) => each.trim());
    const pods = new Map<string, string>();
    for (const cluster of clusters)
      for (const name of (await inCoolapp(cluster, "get", "pods", "-o", "name")).split("\n"))
        pods.set(name.replace(/^pod\/catalog-v\d-/, ""), cluster);
    return lines.map((each) => {
      const [, version, pod] = /catalog (v\d) from '(.+?)'/.exec(each) ?? [];
      return version && pod ? `${pods.get(pod) ?? pod} ${version}` : each;
    });
  }
  const kinds = (answers: readonly string[]) => [...new Set(answers)].sort();
  const eventuallyFrom = (what: string, wanted: string[]) => {
    let last: string[] = [];
    return eventually(what, async () => {
      last = kinds(await call(12));
      return JSON.stringify(last) === JSON.stringify(wanted);
    }).catch((error: unknown) => {
      throw new Error(`${what}: ${last.join(", ")}`, { cause: error });
    });
  };

  test("pods of both clusters answer, though they take mTLS only", async () => {
    await eventuallyFrom("answers of both clusters", ["c1 v1", "c2 v1", "c2 v2"]);
  });

  test("c2's pods were called in mTLS by an identity of c1's trust domain", async () => {
    const pod = (await inCoolapp("c2", "get", "pods", "-l", "version=v1", "-o", "name")).trim();
    const metrics = await inCoolapp(
      "c2",
      ...["exec", pod, "-c", "istio-proxy", "--", "weft", "metrics"],
    ).catch(() =>
      inCoolapp(
        "c2",
        "exec",
        pod,
        "-c",
        "catalog",
        "--",
        "curl",
        "-s",
        "http://127.0.0.1:15090/stats/prometheus",
      ),
    );
    const caller = "spiffe://c1.clusterset.local/ns/coolapp/sa/default";
    if (proxy === "envoy") return assert.match(metrics, /envoy_listener_ssl_handshake\{[^}]*\} [1-9]/);
    const requests = metrics.split("\n").filter((line) => line.startsWith("istio_requests_total"));
    assert.ok(
      requests.some(
        (line) =>
          line.includes(`source_principal="${caller}"`) &&
          line.includes('connection_security_policy="mutual_tls"'),
      ),
      requests.join("\n"),
    );
  });

  test("a subset that only c2 has is answered from there", async () => {
    await apply("c1", rule({ subsets: [{ name: "v2", labels: { version: "v2" } }] }));
    await apply(
      "c1",
      JSON.stringify({
        apiVersion: "networking.istio.io/v1",
        kind: "VirtualService",
        metadata: { name: "catalog", namespace: "coolapp" },
        spec: { hosts: [host], http: [{ route: [{ destination: { host, subset: "v2" } }] }] },
      }),
    );
    await eventuallyFrom("v2 alone", ["c2 v2"]);
    await inCoolapp("c1", "delete", "virtualservice/catalog");
    await eventuallyFrom("all of them again", ["c1 v1", "c2 v1", "c2 v2"]);
  });

  test("who refuses mTLS in c2 is called in plain text from c1, by itself", async () => {
    await apply(
      "c2",
      JSON.stringify({
        apiVersion: "security.istio.io/v1",
        kind: "PeerAuthentication",
        metadata: { name: "plain", namespace: "coolapp" },
        spec: { selector: { matchLabels: { version: "v2" } }, mtls: { mode: "DISABLE" } },
      }),
    );
    await eventually("c2 says so", async () =>
      (await inCoolapp("c2", "get", "endpointoffers", "-o", "yaml")).includes("plainText: true"),
    );
    await eventuallyFrom("all of them, v2 in plain text", ["c1 v1", "c2 v1", "c2 v2"]);
    await inCoolapp("c2", "delete", "peerauthentication/plain");
    await eventuallyFrom("all of them, in mTLS again", ["c1 v1", "c2 v1", "c2 v2"]);
  });

  test("who looks for outliers is answered nearby, and from afar when nobody is near", async () => {
    await apply("c1", rule({ trafficPolicy: { outlierDetection: { consecutive5xxErrors: 2 } } }));
    await eventuallyFrom("the near ones", ["c1 v1"]);
    await inCoolapp("c1", "scale", "deployment/catalog-v1", "--replicas=0");
    await eventuallyFrom("the far ones", ["c2 v1", "c2 v2"]);
    await inCoolapp("c1", "scale", "deployment/catalog-v1", "--replicas=1");
    await eventuallyFrom("the near ones again", ["c1 v1"]);
  });
});
