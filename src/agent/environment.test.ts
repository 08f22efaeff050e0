import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { discoveryOf, downward, files, readSettings } from "./environment.ts";
import { nodeOf } from "./node.ts";

const environment = {
  POD_NAME: "catalog-v1-6d6b478456-9vsm2",
  POD_NAMESPACE: "coolapp",
  INSTANCE_IP: "10.10.0.7",
  SERVICE_ACCOUNT: "default",
  DISCOVERY_ADDRESS: "istiod-basic.istio-system.svc:15012",
  TRUST_DOMAIN: "c1.example",
  ISTIO_META_CLUSTER_ID: "c1",
  ISTIO_META_MESH_ID: "istio-system/basic",
  ISTIO_META_WORKLOAD_NAME: "catalog-v1",
  ISTIO_KUBE_APP_PROBERS: '{"/app-health/catalog/readyz":{"httpGet":{"path":"/health","port":8080}}}',
};

function mounted(redirection?: object): typeof files {
  const dir = mkdtempSync(join(tmpdir(), "weft-agent-"));
  after(() => rmSync(dir, { recursive: true, force: true }));
  writeFileSync(join(dir, "labels"), 'app="catalog"\nversion="v1"\ntopology.kubernetes.io/zone="a"\n');
  writeFileSync(join(dir, "annotations"), 'note="two\\nlines \\"quoted\\""\n');
  if (redirection) writeFileSync(join(dir, "redirection.json"), JSON.stringify(redirection));
  const at = (name: string) => join(dir, name);
  return {
    ...files,
    labels: at("labels"),
    annotations: at("annotations"),
    redirection: at("redirection.json"),
  };
}

test("a proxy introduces itself as Istio's do", async () => {
  const settings = await readSettings(
    "sidecar",
    environment,
    mounted({ mode: "address", bindAddress: "169.254.77.1" }),
  );
  const node = nodeOf(settings);
  assert.equal(node.id, "sidecar~10.10.0.7~catalog-v1-6d6b478456-9vsm2.coolapp~coolapp.svc.cluster.local");
  assert.equal(node.cluster, "catalog.coolapp");
  const { LABELS, ANNOTATIONS, NAME, NAMESPACE, SERVICE_ACCOUNT, CLUSTER_ID, WORKLOAD_NAME } = node.metadata;
  assert.deepEqual(
    { LABELS, ANNOTATIONS, NAME, NAMESPACE, SERVICE_ACCOUNT, CLUSTER_ID, WORKLOAD_NAME },
    {
      LABELS: { app: "catalog", version: "v1", "topology.kubernetes.io/zone": "a" },
      ANNOTATIONS: { note: 'two\nlines "quoted"' },
      NAME: "catalog-v1-6d6b478456-9vsm2",
      NAMESPACE: "coolapp",
      SERVICE_ACCOUNT: "default",
      CLUSTER_ID: "c1",
      WORKLOAD_NAME: "catalog-v1",
    },
  );
  assert.equal(node.locality.zone, "a");
  assert.equal(settings.bindAddress, "169.254.77.1");
  assert.deepEqual(discoveryOf(settings), {
    ads: { host: "istiod-basic.istio-system.svc", port: 15012 },
    certificates: "https://istiod-basic.istio-system.svc:15017/certificates",
  });
});

test("a gateway is a router, and nothing is redirected to it", async () => {
  const settings = await readSettings("gateway", environment, mounted());
  assert.match(nodeOf(settings).id, /^router~10\.10\.0\.7~/);
  assert.equal(settings.bindAddress, undefined);
});

test("what is missing or cannot be read is named", async () => {
  for (const [name, value, problem] of [
    ["POD_NAME", undefined, /POD_NAME is not set/],
    ["DISCOVERY_ADDRESS", "", /DISCOVERY_ADDRESS is not set/],
    ["PROXY_IMPLEMENTATION", "nginx", /embedded or envoy, not 'nginx'/],
    ["ISTIO_KUBE_APP_PROBERS", "{", /ISTIO_KUBE_APP_PROBERS is not JSON/],
    ["TERMINATION_DRAIN_DURATION_SECONDS", "soon", /number of seconds/],
    ["SECRET_TTL", "day", /SECRET_TTL is a duration as 24h or 90s, not 'day'/],
  ] as const) {
    await assert.rejects(readSettings("sidecar", { ...environment, [name]: value }, mounted()), problem);
  }
});

test("how long certificates are valid may be said as Istio says it", async () => {
  const lifetime = async (env: Record<string, string>) =>
    (await readSettings("sidecar", { ...environment, ...env }, mounted())).certificateLifetime;
  assert.equal(await lifetime({}), undefined);
  assert.equal(await lifetime({ SECRET_TTL: "1h30m" }), 5400);
});

test("it drains at least as long as others need to hear of it, and at most as long as it is told", async () => {
  const read = async (env: Record<string, string>) => {
    const { minimumDrain, maximumDrain } = await readSettings(
      "sidecar",
      { ...environment, ...env },
      mounted(),
    );
    return [minimumDrain, maximumDrain];
  };
  assert.deepEqual(await read({}), [5000, 25_000]);
  assert.deepEqual(await read({ MINIMUM_DRAIN_DURATION: "0s" }), [0, 25_000]);
  assert.deepEqual(await read({ TERMINATION_DRAIN_DURATION_SECONDS: "2" }), [5000, 5000]);
  assert.deepEqual(await read({ TERMINATION_DRAIN_DURATION_SECONDS: "27" }), [5000, 27_000]);
});

test("files of the downward API are read as Go quotes them", () => {
  assert.deepEqual(downward('a="1"\nb.c/d="x=\\"y\\" \\\\ \\t \\u00e4"\n'), {
    a: "1",
    "b.c/d": 'x="y" \\ \t ä',
  });
  assert.deepEqual(downward(""), {});
});
