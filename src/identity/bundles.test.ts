import "reflect-metadata";
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { test } from "node:test";
import * as x509 from "@peculiar/x509";
import fc from "fast-check";
import { rootCertificateKey } from "../api/index.ts";
import { SimulatedWorld } from "../world/index.ts";
import { acceptedBundles, rootsData, type TrustClaim } from "./bundles.ts";
import { makeRequest } from "./csr.ts";
import { bundlesFile } from "./index.ts";
import { keyIdOf } from "./key-id.ts";
import { bundle, certificatesIn } from "./pem.ts";
import { issue, makeRoot, openSigner, readRequest, rootLifetime } from "./x509.ts";

const world = new SimulatedWorld(1);
const now = world.now();
const root = async (name: string) => bundle((await makeRoot(world, name)).certificate);
const [ours, a, b, c] = await Promise.all(["ours", "a", "b", "c"].map(root));
const own = { trustDomain: "ours", roots: ours! };
const claim = (cluster: string, trustDomain: string, ...roots: string[]): TrustClaim => ({
  cluster,
  trustDomain,
  certificates: roots.join(""),
});

test("a peer is believed about its own trust domain, over all its roots", () => {
  const { bundles, refused } = acceptedBundles(
    own,
    [claim("c2", "two", a!, b!), claim("c3", "three", c!)],
    now,
  );
  assert.deepEqual(bundles, { ours, two: a! + b!, three: c });
  assert.deepEqual(refused, []);
});

test("nobody is believed about ours; a root that is shared is no news", () => {
  const { bundles, refused } = acceptedBundles(
    own,
    [claim("c2", "ours", ours!), claim("c3", "ours", ours!, a!)],
    now,
  );
  assert.deepEqual(bundles, { ours });
  assert.deepEqual(refused, [
    { cluster: "c3", trustDomain: "ours", reason: "it is our own trust domain, with other roots" },
  ]);
});

test("where two speak of one trust domain, what both name counts, and it is said", () => {
  const { bundles, refused } = acceptedBundles(
    own,
    [claim("c2", "t", a!, b!), claim("c3", "t", b!, c!)],
    now,
  );
  assert.deepEqual(bundles, { ours, t: b });
  assert.deepEqual(
    refused.map(({ cluster }) => cluster),
    ["c2", "c3"],
  );
  assert.match(refused[0]!.reason, /^c3 names other roots for it/);
});

test("what is no root is left out: garbage, leaves, what is over, floods, odd names", async () => {
  const signer = await openSigner(...(Object.values(await makeRoot(world, "x")) as [string, string]));
  const leaf = await issue(world, signer, {
    publicKey: await readRequest(makeRequest().csrPem),
    names: [{ type: "dns", value: "x" }],
    usages: ["server"],
    notBefore: now,
    notAfter: now + 1000,
  });
  const many = await Promise.all(Array.from({ length: 17 }, (_, i) => root(`many ${i}`)));
  const garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
  const cases: [TrustClaim, RegExp][] = [
    [claim("c2", "t", garbage), /cannot be read/],
    [claim("c2", "t", leaf), /may not sign/],
    [claim("c2", "t"), /no root that is valid/],
    [claim("c2", "t", ...many), /more than 16 roots/],
    [claim("c2", "t", "x".repeat(300_000)), /too long/],
    [claim("c2", "t/ns/x", a!), /no trust domain/],
    [claim("c2", "cluster.local", a!), /in policies it means a mesh's own trust domain/],
    [claim("c2", "__proto__ ", a!), /no trust domain/],
  ];
  for (const [each, says] of cases) {
    const { bundles, refused } = acceptedBundles(own, [each], now);
    assert.deepEqual(bundles, { ours }, String(says));
    assert.match(refused[0]!.reason, says);
  }
  const mixed = acceptedBundles(own, [claim("c2", "t", garbage, a!, leaf)], now);
  assert.equal(mixed.bundles.t, a);
  const later = acceptedBundles(own, [claim("c2", "t", a!)], now + rootLifetime + 1);
  assert.deepEqual(later.bundles, { ours });
});

/** A root with the subject (or one that OpenSSL takes for it) and the key id of another, and a key of its own. */
async function double(of: string, name = new x509.X509Certificate(of).subject): Promise<string> {
  const original = new x509.X509Certificate(of);
  const signingAlgorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
  const keys = await crypto.subtle.generateKey(signingAlgorithm, true, ["sign", "verify"]);
  const { notBefore, notAfter } = original;
  const copy = await x509.X509CertificateGenerator.createSelfSigned({
    ...{ serialNumber: "01", name, notBefore, notAfter, keys, signingAlgorithm },
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      original.getExtension(x509.SubjectKeyIdentifierExtension)!,
    ],
  });
  return bundle(copy.toString("pem"));
}

test("a root that looks like another's is left out, so nobody can make validators stumble over ours", async () => {
  const { subject } = new x509.X509Certificate(ours!);
  for (const copy of [await double(ours!), await double(ours!, subject.toUpperCase().replace(" ", "  "))]) {
    const { bundles, refused } = acceptedBundles(own, [claim("c2", "two", copy, a!)], now);
    assert.deepEqual(bundles, { ours, two: a });
    assert.match(refused[0]!.reason, /its root '.*' looks like one of our own/);
  }
  const among = acceptedBundles(
    own,
    [claim("c2", "two", a!), claim("c3", "three", await double(a!), b!)],
    now,
  );
  assert.deepEqual(among.bundles, { ours, three: b });
  const shared = acceptedBundles(own, [claim("c2", "two", a!), claim("c3", "three", a!)], now);
  assert.deepEqual(shared.bundles, { ours, two: a, three: a });
});

test("the key id is the one that is in the certificate", () => {
  for (const pem of [ours!, a!]) {
    const { raw } = new X509Certificate(pem);
    const known = new x509.X509Certificate(pem).getExtension(x509.SubjectKeyIdentifierExtension)?.keyId;
    assert.equal(keyIdOf(raw), known);
  }
});

test("liars gain nothing: whatever others say, a trust domain has no root that its own cluster does not name", () => {
  const roots = [ours!, a!, b!, c!];
  const claims = fc.array(
    fc.record({
      cluster: fc.constantFrom("c2", "c3", "c4"),
      trustDomain: fc.constantFrom("ours", "two", "three"),
      certificates: fc.subarray(roots).map((list) => list.join("")),
    }),
    { maxLength: 8 },
  );
  fc.assert(
    fc.property(claims, (lies) => {
      const all = [...lies, claim("c2", "two", a!, b!)];
      const { bundles } = acceptedBundles(own, all, now);
      assert.equal(bundles.ours, ours);
      for (const pem of certificatesIn(bundles.two ?? "")) assert.ok([a, b].includes(pem));
      assert.deepEqual(acceptedBundles(own, all.toReversed(), now), acceptedBundles(own, all, now));
    }),
  );
});

test("the ConfigMap has both files under the names that everybody reads", () => {
  const data = rootsData("ours", { ours: ours!, two: a! });
  assert.deepEqual(Object.keys(data), [rootCertificateKey, bundlesFile]);
  assert.equal(data[rootCertificateKey], ours);
  assert.deepEqual(JSON.parse(data[bundlesFile]!), { ours, two: a });
});
