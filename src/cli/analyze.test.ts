import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { KubeObject } from "../api/index.ts";
import { meshSettings } from "../traffic/testing.ts";
import { analyzeAll } from "./analyze.ts";

const main = fileURLToPath(new URL("main.ts", import.meta.url));
const samples = fileURLToPath(new URL("../../samples", import.meta.url));
const directory = mkdtempSync(join(tmpdir(), "weft-analyze-"));
after(() => rmSync(directory, { recursive: true, force: true }));

interface Result {
  code: number;
  stdout: string;
  stderr: string;
}

async function analyze(...args: string[]): Promise<Result> {
  try {
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [
      main,
      "analyze",
      "--use-kube=false",
      ...args,
    ]);
    return { code: 0, stdout, stderr };
  } catch (error) {
    return error as Result;
  }
}

function file(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

test("an object whose namespace is in no mesh has no effect, and is told", () => {
  const [mesh] = [{ ...meshSettings }];
  const rule = {
    apiVersion: "networking.istio.io/v1",
    kind: "DestinationRule",
    metadata: { namespace: "elsewhere", name: "a" },
    spec: { host: "nobody" },
  };
  const codes = (written: { object: KubeObject }[]) =>
    analyzeAll([mesh], [rule], written).map(({ code }) => code);
  assert.deepEqual(codes([]), ["WEFT0102"]);
  const roll = {
    apiVersion: "maistra.io/v1",
    kind: "ServiceMeshMemberRoll",
    metadata: { namespace: "istio-system", name: "default" },
    spec: { members: ["elsewhere"] },
  };
  assert.deepEqual(codes([{ object: roll }]), ["WEFT0101"]);
});

test("a member's pod that asks for a sidecar and has none is told; what is over, and who has one, is not", () => {
  const pod = (name: string, more: object = {}, phase = "Running") => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      namespace: "shop",
      name,
      annotations: { "sidecar.istio.io/inject": "true", "sidecar.istio.io/status": "{}" },
    },
    spec: { containers: [{ name: "app", image: "app" }], ...more },
    status: { phase },
  });
  const member = (namespace: string) => ({
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name: "shop", labels: { "maistra.io/member-of": namespace } },
  });
  const proxy = { initContainers: [{ name: "istio-proxy", image: "proxy" }] };
  const all = [pod("bare"), pod("whole", proxy), pod("over", {}, "Succeeded")];
  const told = (of: KubeObject) =>
    analyzeAll([meshSettings], [of, ...all], []).map(({ code, origin }) => `${code} ${origin.name}`);
  assert.deepEqual(told(member("istio-system")), ["WEFT0103 bare"]);
  assert.deepEqual(told(member("elsewhere")), []);
});

describe("weft analyze, of files", () => {
  test("the sample of seed 002 has nothing wrong with it, but that its control plane asks for more than is served", async () => {
    const { code, stdout, stderr } = await analyze("-R", join(samples, "coolapp"));
    const lines = stdout.trimEnd().split("\n");
    for (const field of ["global.disablePolicyChecks", "kiali", "mixer.telemetry", "tracing"])
      assert.match(
        lines.shift()!,
        new RegExp(`^Warning \\[WEFT0901\\] .*spec\\.istio\\.${field}: it has no effect`),
      );
    assert.deepEqual(lines, []);
    assert.equal(stderr, "");
    assert.equal(code, 0);
  });

  test("a control plane: what is not served of it, and what cannot be read", async () => {
    const path = file(
      "smcp.yaml",
      `
apiVersion: maistra.io/v2
kind: ServiceMeshControlPlane
metadata: { name: basic, namespace: istio-system }
spec:
  tracing: { type: Jaeger }
  proxy:
    accessLogging: { file: { name: /dev/stdout, format: "%WHAT%" } }
    networking: { trafficControl: { outbound: { policy: NOTHING } } }
  addons: { kiali: { enabled: true }, grafana: { enabled: false }, prometheus: { enabled: true } }
`,
    );
    const { code, stdout } = await analyze("-o", "json", path);
    const messages = JSON.parse(stdout) as { code: string; field: string }[];
    assert.deepEqual(messages.map((each) => `${each.code} ${each.field}`).sort(), [
      "WEFT0106 spec.proxy.accessLogging.file.format",
      "WEFT0106 spec.proxy.networking.trafficControl.outbound.policy",
      "WEFT0901 spec.addons.kiali",
      "WEFT0901 spec.addons.prometheus",
      "WEFT0901 spec.tracing.type",
    ]);
    assert.equal(code, 79);
  });

  test("an authority of one's own that cannot sign", async () => {
    const path = file(
      "cacerts.yaml",
      `
apiVersion: v1
kind: Secret
metadata: { name: cacerts, namespace: istio-system }
stringData: { ca-cert.pem: none, ca-key.pem: none, root-cert.pem: none, cert-chain.pem: "" }
`,
    );
    const { code, stdout } = await analyze(path);
    assert.equal(
      stdout,
      `Error [WEFT0912] (Secret istio-system/cacerts ${path}:2) data: ` +
        "The mesh's authority cannot be made of it: ca-key.pem holds no private key\n",
    );
    assert.equal(code, 79);
  });

  test("a broken certificate beside the Gateway that names it; one that is not there may be in the cluster", async () => {
    const path = file(
      "certificate.yaml",
      `
apiVersion: v1
kind: Secret
metadata: { name: broken, namespace: istio-system }
type: kubernetes.io/tls
stringData: { tls.crt: no certificate, tls.key: no key }
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: front }
spec:
  selector: { istio: ingressgateway }
  servers:
  - { port: { number: 443, name: a, protocol: HTTPS }, hosts: [a.example], tls: { mode: SIMPLE, credentialName: broken } }
  - { port: { number: 443, name: b, protocol: HTTPS }, hosts: [b.example], tls: { mode: SIMPLE, credentialName: elsewhere } }
`,
    );
    const { code, stdout } = await analyze(path);
    assert.match(
      stdout,
      /^Error \[WEFT0161\] \(Gateway default\/front .*\) spec\.servers\[0\]\.tls\.credentialName: .*its tls\.crt is no certificate\n$/,
    );
    assert.equal(code, 79);
  });

  test("a subset that nobody defines is an error with its field; the exit code is 79", async () => {
    const path = file(
      "vs.yaml",
      `# routes to a subset
apiVersion: v1
kind: Service
metadata: { name: catalog }
spec: { clusterIP: 10.0.0.1, ports: [{ name: http, port: 8080 }] }
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: { name: catalog }
spec: { hosts: [catalog], http: [{ route: [{ destination: { host: catalog, subset: version-v2 } }] }] }
`,
    );
    const { code, stdout, stderr } = await analyze("-n", "coolapp", "-f", path);
    assert.equal(
      stdout,
      `Error [WEFT0101] (VirtualService coolapp/catalog ${path}:7) spec.http[0].route[0].destination.subset: ` +
        'Referenced subset not found: "version-v2": no DestinationRule for the host ' +
        '"catalog.coolapp.svc.cluster.local" defines it, so requests get 503\n',
    );
    assert.match(stderr, /^Error: Analyzers found issues when analyzing /);
    assert.equal(code, 79);
    const json = JSON.parse((await analyze("-n", "coolapp", "-f", path, "-o", "json")).stdout) as unknown[];
    assert.deepEqual(json, [
      {
        code: "WEFT0101",
        name: "ReferencedResourceNotFound",
        level: "Error",
        resource: "VirtualService coolapp/catalog",
        field: "spec.http[0].route[0].destination.subset",
        message: (json[0] as { message: string }).message,
        reference: `${path}:7`,
      },
    ]);
  });

  test("a file that is not there, is no YAML, or holds no object says so in two lines", async () => {
    for (const [path, says] of [
      [join(directory, "none.yaml"), /^error: .*none\.yaml: there is no such file\n {2}fix: /],
      [file("bad.yaml", "a: [1\nb: 2\n"), /^error: .*bad\.yaml:\d+: /],
      [file("text.yaml", "just a text\n"), /^error: .*text\.yaml:1: an object has apiVersion, kind/],
    ] as const) {
      const { code, stderr } = await analyze(path);
      assert.match(stderr, says);
      assert.equal(code, 1);
    }
  });
});

test("files are told what an API server would refuse: kinds that are not served, words and types that cannot be", async () => {
  const written = file(
    "refused.yaml",
    `
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: { name: filter }
spec: { configPatches: [] }
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: words }
spec: { mtls: { mode: STRICTT } }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: types }
spec: { action: ALOW, rules: [{ to: [{ operation: { ports: [8080] } }] }] }
---
apiVersion: networking.istio.io/v2
kind: Sidecar
metadata: { name: version }
spec: {}
---
apiVersion: v1
kind: ConfigMap
metadata: { name: nobodys-business }
`,
  );
  const { code, stdout } = await analyze("-o", "json", written);
  assert.equal(code, 79);
  const messages = JSON.parse(stdout) as { code: string; resource: string; field: string; message: string }[];
  assert.deepEqual(messages.map((each) => [each.code, each.resource.split(" ")[0], each.field]).sort(), [
    ["WEFT0106", "AuthorizationPolicy", "spec.action"],
    ["WEFT0106", "AuthorizationPolicy", "spec.rules[0].to[0].operation.ports[0]"],
    ["WEFT0106", "PeerAuthentication", "spec.mtls.mode"],
    ["WEFT0106", "Sidecar", "apiVersion"],
    ["WEFT0910", "EnvoyFilter", ""],
  ]);
  assert.ok(messages.some(({ message }) => message === '"ALOW" is none of ALLOW, DENY, AUDIT, CUSTOM'));
});
