import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import type { KubeObject, Secret } from "../api/index.ts";
import { serverCredentialFindings } from "./findings/credentials.ts";
import type { Look } from "./findings/look.ts";
import { credentialOf } from "./index.ts";
import { meshSettings, type TestMesh, testMesh, workload } from "./testing.ts";

const directory = mkdtempSync(join(tmpdir(), "weft-credentials-"));
after(() => rmSync(directory, { recursive: true }));

/** A certificate that signed itself, and its key. */
function pair(name: string): { "tls.crt": string; "tls.key": string } {
  const [certificate, key] = [join(directory, `${name}.crt`), join(directory, `${name}.key`)];
  const subject = ["-subj", `/CN=${name}`, "-days", "30", "-nodes"];
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
  execFileSync("openssl", ["req", "-x509", ...curve, ...subject, "-keyout", key, "-out", certificate], {
    stdio: "ignore",
  });
  return { "tls.crt": readFileSync(certificate, "utf8"), "tls.key": readFileSync(key, "utf8") };
}

const one = pair("one");
const two = pair("two");
const ca = one["tls.crt"];

const secret = (name: string, data: Record<string, string>): Secret =>
  ({
    apiVersion: "v1",
    kind: "Secret",
    metadata: { namespace: "istio-system", name },
    data: Object.fromEntries(
      Object.entries(data).map(([key, value]) => [key, Buffer.from(value).toString("base64")]),
    ),
  }) as unknown as Secret;

const gateway = (tls: string) => `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: front }
spec:
  selector: { app: istio-ingressgateway }
  servers:
  - { port: { number: 443, name: https, protocol: HTTPS }, hosts: ["*"], tls: ${tls} }`;

const said = (mesh: TestMesh, object = "Gateway/coolapp/front") =>
  (mesh.findings.get(object) ?? []).map(
    ({ code, origin, message }) => `${code} ${origin.field.replace(/.*tls\./, "")} ${message}`,
  );

function meshWith(yaml: string, ...objects: KubeObject[]): TestMesh {
  const mesh = testMesh();
  const ports = "[{ name: https, port: 443, targetPort: 8443 }]";
  mesh.apply(workload("istio-ingressgateway", { namespace: "istio-system", ports }));
  mesh.put(...objects);
  mesh.apply(yaml);
  return mesh;
}

describe("Secrets that Gateways name", () => {
  test("one that is not there is named, until it comes", () => {
    const mesh = meshWith(gateway("{ mode: SIMPLE, credentialName: cert }"));
    const [first = "", ...others] = said(mesh);
    assert.match(first, /^WEFT0101 credentialName Referenced Secret not found: "istio-system\/cert"/);
    assert.deepEqual(others, []);
    mesh.put(secret("cert", one));
    assert.deepEqual(said(mesh), []);
  });

  test("what is no certificate, no key, or the key of another is told", () => {
    const problem = (data: Record<string, string>) => credentialOf(secret("x", data)).certificateProblem;
    assert.equal(problem(one), undefined);
    assert.equal(problem({ cert: one["tls.crt"], key: one["tls.key"] }), undefined);
    assert.match(problem({}) ?? "", /no tls.crt and tls.key/);
    assert.match(problem({ ...one, "tls.crt": "nonsense" }) ?? "", /tls.crt is no certificate/);
    assert.match(problem({ ...one, "tls.key": "nonsense" }) ?? "", /tls.key is no private key/);
    assert.match(problem({ ...one, "tls.key": two["tls.key"] }) ?? "", /not the key of tls.crt/);
    const mesh = meshWith(
      gateway("{ mode: SIMPLE, credentialName: cert }"),
      secret("cert", { "tls.crt": "a", "tls.key": "b" }),
    );
    assert.deepEqual(said(mesh), [
      'WEFT0161 credentialName The credential "istio-system/cert" cannot be used: its tls.crt is no certificate',
    ]);
  });

  test("who checks clients needs a CA: in the Secret, beside it, or in one that is named", () => {
    const mutual = gateway("{ mode: MUTUAL, credentialName: cert }");
    assert.deepEqual(said(meshWith(mutual, secret("cert", { ...one, "ca.crt": ca }))), []);
    assert.deepEqual(said(meshWith(mutual, secret("cert", one), secret("cert-cacert", { cacert: ca }))), []);
    assert.match(
      said(meshWith(mutual, secret("cert", one))).join(),
      /^WEFT0161 .*it has no ca.crt, and there is no Secret istio-system\/cert-cacert$/,
    );
    assert.match(
      said(meshWith(mutual, secret("cert", one), secret("cert-cacert", { "ca.crt": "?" }))).join(),
      /^WEFT0161 .*"istio-system\/cert-cacert" cannot be used: its ca.crt is no certificate$/,
    );
    const named = gateway("{ mode: MUTUAL, credentialName: cert, caCertCredentialName: roots }");
    assert.match(said(meshWith(named, secret("cert", one))).join(), /"istio-system\/roots"/);
    assert.deepEqual(said(meshWith(named, secret("cert", one), secret("roots", { "ca.crt": ca }))), []);
  });

  test("a certificate that has ended is told", () => {
    const facts = credentialOf(secret("cert", one));
    const found = (now: number) =>
      serverCredentialFindings(
        { port: { number: 443, protocol: "HTTPS" }, tls: { mode: "SIMPLE", credentialName: "cert" } },
        (field) => ({ kind: "Gateway", namespace: "coolapp", name: "front", field }),
        "spec.servers[0]",
        {
          mesh: meshSettings,
          credentials: { all: true, get: () => facts, reached: (time: number) => now >= time },
        } as unknown as Look,
      );
    assert.deepEqual(found(facts.ends! - 1), []);
    assert.match(found(facts.ends!)[0]?.message ?? "", /its certificate ended at 20/);
  });
});

describe("Secrets that DestinationRules name", () => {
  const rule = (tls: string) => `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: out }
spec: { hosts: [api.example.com], resolution: DNS, ports: [{ number: 443, name: https, protocol: HTTPS }] }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: out }
spec: { host: api.example.com, trafficPolicy: { portLevelSettings: [{ port: { number: 443 }, tls: ${tls} }] } }`;
  const of = "DestinationRule/coolapp/out";

  test("what is shown and what is checked by has to be there", () => {
    const mutual = rule("{ mode: MUTUAL, credentialName: client }");
    assert.match(said(meshWith(mutual), of).join(), /^WEFT0101 credentialName .*"istio-system\/client"/);
    assert.match(said(meshWith(mutual, secret("client", one)), of).join(), /^WEFT0161 .*no ca.crt/);
    assert.deepEqual(said(meshWith(mutual, secret("client", { ...one, "ca.crt": ca })), of), []);
    const simple = rule("{ mode: SIMPLE, credentialName: client }");
    assert.deepEqual(said(meshWith(simple, secret("client", { "ca.crt": ca })), of), []);
    assert.match(said(meshWith(simple), of).join(), /^WEFT0101/);
  });
});
