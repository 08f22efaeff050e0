/** The authority on a simulated cluster, its certificates read with Node's and openssl's eyes. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createPrivateKey, generateKeyPairSync, X509Certificate } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { secrets } from "../api/index.ts";
import { testCluster } from "../kube/testing/cluster.ts";
import { plugInSecret, stateSecret } from "./authority.ts";
import { makeRequest, openAuthority, workloadOf } from "./index.ts";
import { certificatesIn } from "./pem.ts";
import { opensslCa } from "./testing/openssl.ts";

const hour = 3600_000;
const namespace = "istio-system";
const catalog = { namespace: "coolapp", serviceAccount: "catalog" };
const work = mkdtempSync(join(tmpdir(), "weft-identity-"));
after(() => rmSync(work, { recursive: true }));

async function mesh(seed = 1) {
  const cluster = await testCluster(seed);
  await cluster.person.create(
    { group: "", version: "v1", kind: "Namespace", plural: "namespaces", namespaced: false },
    { metadata: { name: namespace } },
  );
  const lines: string[] = [];
  const log = (line: string, error?: unknown) =>
    void lines.push(error instanceof Error ? `${line}: ${error.message}` : line);
  const options = {
    client: cluster.client,
    world: cluster.world,
    namespace,
    trustDomain: "cluster.local",
    log,
  };
  const plugIn = (ca: Record<string, string>) =>
    cluster.person.apply(secrets, {
      metadata: { namespace, name: plugInSecret },
      data: Object.fromEntries(Object.entries(ca).map(([k, v]) => [k, Buffer.from(v).toString("base64")])),
    });
  return { ...cluster, options, lines, plugIn };
}

/** What `openssl verify` says of a chain with these roots. */
function verified(chain: string, roots: string, at: number): string {
  const [leaf, ...above] = certificatesIn(chain);
  writeFileSync(join(work, "leaf.pem"), leaf!);
  writeFileSync(join(work, "above.pem"), above.join("") || leaf!);
  writeFileSync(join(work, "roots.pem"), roots);
  const time = ["-attime", String(Math.floor(at / 1000)), "-purpose", "sslserver", "-x509_strict"];
  const files = ["-CAfile", "roots.pem", "-untrusted", "above.pem", "leaf.pem"];
  return execFileSync("openssl", ["verify", ...time, ...files], { cwd: work })
    .toString()
    .trim();
}

test("a mesh without an authority gets a root of its own, and every replica and every restart the same", async () => {
  const { options, client, world } = await mesh();
  const [one, two] = await Promise.all([openAuthority(options), openAuthority(options)]);
  assert.equal(one.roots, two.roots);
  one.stop();
  two.stop();
  const again = await openAuthority(options);
  assert.equal(again.roots, one.roots);
  const root = new X509Certificate(again.roots);
  assert.ok(root.ca);
  assert.equal(root.publicKey.asymmetricKeyDetails?.namedCurve, "prime256v1");
  const years = (root.validToDate.getTime() - world.now()) / (365 * 24 * hour);
  assert.ok(years > 9.9 && years < 10.1, `${years} years`);
  const secret = await client.get(secrets, { namespace, name: stateSecret });
  assert.ok(secret?.data?.["ca-key.pem"]);
  again.stop();
});

test("a workload's certificate names it and nothing else, for a day, and openssl agrees to it", async () => {
  const { options, world } = await mesh();
  const authority = await openAuthority(options);
  const { csrPem, keyPem } = makeRequest();
  const signed = await authority.sign(csrPem, catalog);
  assert.equal(signed.id, "spiffe://cluster.local/ns/coolapp/sa/catalog");
  const leaf = new X509Certificate(signed.certificateChain);
  assert.equal(leaf.subjectAltName, `URI:${signed.id}`);
  assert.deepEqual(workloadOf(leaf), { trustDomain: "cluster.local", ...catalog });
  assert.equal(leaf.ca, false);
  assert.deepEqual(leaf.keyUsage, ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]);
  assert.equal(leaf.validFromDate.getTime(), world.now() - 2 * 60_000);
  assert.equal(leaf.validToDate.getTime(), world.now() + 24 * hour);
  assert.equal(signed.notAfter, world.now() + 24 * hour);
  assert.ok(leaf.checkPrivateKey(createPrivateKey(keyPem)));
  assert.match(verified(signed.certificateChain, authority.roots, world.now()), /OK$/);
  authority.stop();
});

test("a request made here is one that openssl reads and finds well signed", () => {
  writeFileSync(join(work, "request.pem"), makeRequest().csrPem);
  const text = execFileSync("openssl", ["req", "-in", "request.pem", "-verify", "-noout", "-text"], {
    cwd: work,
    stdio: ["ignore", "pipe", "pipe"],
  });
  assert.match(text.toString(), /Version: 1 \(0x0\).*NIST CURVE: P-256.*ecdsa-with-SHA256/s);
});

test("names in a request count for nothing", async () => {
  const { options } = await mesh();
  const authority = await openAuthority(options);
  const args = [
    "req",
    "-new",
    "-newkey",
    "rsa:2048",
    "-nodes",
    "-keyout",
    "k.pem",
    "-subj",
    "/CN=admin/O=system:masters",
  ];
  const csr = execFileSync(
    "openssl",
    [
      ...args,
      "-addext",
      "subjectAltName=URI:spiffe://cluster.local/ns/kube-system/sa/root,DNS:evil",
      "-addext",
      "basicConstraints=critical,CA:TRUE",
    ],
    { cwd: work, stdio: ["ignore", "pipe", "ignore"] },
  );
  const signed = await authority.sign(csr.toString(), catalog);
  const leaf = new X509Certificate(signed.certificateChain);
  assert.equal(leaf.subjectAltName, "URI:spiffe://cluster.local/ns/coolapp/sa/catalog");
  assert.equal(leaf.subject ?? "", "");
  assert.equal(leaf.ca, false);
  authority.stop();
});

test("requests that prove nothing or hold a weak or foreign key are refused in words", async () => {
  const { options } = await mesh();
  const authority = await openAuthority(options);
  const openssl = (...args: string[]) =>
    execFileSync("openssl", ["req", "-new", "-nodes", "-keyout", "k.pem", "-subj", "/", ...args], {
      cwd: work,
      stdio: ["ignore", "pipe", "ignore"],
    }).toString();
  const cases: [string, RegExp][] = [
    ["", /not a certificate signing request/],
    [
      "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
      /not a certificate signing/,
    ],
    [authority.roots, /not a certificate signing request/],
    [openssl("-newkey", "rsa:1024"), /its key is rsa 1024; it can be/],
    [openssl("-newkey", "ed25519"), /its key is ed25519; it can be/],
    [openssl("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"), /its key is ec secp256k1/],
    [withOtherKey(makeRequest().csrPem), /its signature is not by the key/],
  ];
  for (const [csr, says] of cases) await assert.rejects(authority.sign(csr, catalog), says);
  const { csrPem } = makeRequest();
  const first = await authority.sign(csrPem, catalog);
  assert.ok((await authority.sign(csrPem, catalog)).certificateChain !== first.certificateChain);
  await assert.rejects(
    authority.sign(csrPem, { namespace: "evil", serviceAccount: "thief" }),
    /its key belongs to coolapp\/catalog already/,
  );
  authority.stop();
});

/** The request with somebody else's key in it, signed by nobody who has that one. */
function withOtherKey(csrPem: string): string {
  const der = Buffer.from(csrPem.replace(/-----[^-]+-----/g, ""), "base64");
  const spki = generateKeyPairSync("ec", { namedCurve: "P-256" }).publicKey.export({
    type: "spki",
    format: "der",
  });
  const at = der.indexOf(spki.subarray(0, 27));
  spki.copy(der, at);
  return `-----BEGIN CERTIFICATE REQUEST-----\n${der.toString("base64")}\n-----END CERTIFICATE REQUEST-----\n`;
}

for (const kind of ["rsa", "ec"] as const) {
  test(`an authority plugged in as Istio's cacerts signs, with its chain (${kind})`, async () => {
    const { options, world, plugIn } = await mesh();
    const ca = opensslCa(work, kind, world.now());
    await plugIn(ca.entries);
    const authority = await openAuthority(options);
    const signed = await authority.sign(makeRequest().csrPem, catalog);
    assert.equal(certificatesIn(signed.certificateChain).length, 2);
    assert.equal(authority.roots, certificatesIn(ca.entries["root-cert.pem"]!).join(""));
    assert.match(verified(signed.certificateChain, ca.entries["root-cert.pem"]!, world.now()), /OK$/);
    authority.stop();
  });
}

test("a plug-in that cannot sign is refused in words; one that works stays", async () => {
  const { options, world, plugIn, lines } = await mesh();
  const [good, other] = [opensslCa(work, "ec", world.now()), opensslCa(work, "ec", world.now())];
  const bad = { ...good.entries, "ca-key.pem": other.entries["ca-key.pem"]! };
  await plugIn(bad);
  await assert.rejects(
    openAuthority(options),
    /istio-system\/cacerts cannot be used: ca-key.pem is not the key/,
  );
  await plugIn({ ...good.entries, "root-cert.pem": other.entries["root-cert.pem"]!, "cert-chain.pem": "" });
  await assert.rejects(openAuthority(options), /ca-cert.pem does not lead to a root in root-cert.pem/);
  await plugIn(good.entries);
  const authority = await openAuthority(options);
  await world.advance(1000);
  await plugIn(bad);
  await world.advance(1000);
  await authority.idle;
  assert.match(lines.join("\n"), /ca-key.pem is not the key of ca-cert.pem/);
  assert.equal(authority.roots, certificatesIn(good.entries["root-cert.pem"]!).join(""));
  await authority.sign(makeRequest().csrPem, catalog);
  authority.stop();
});

test("the state that somebody deletes comes back as it was", async () => {
  const { options, world, person } = await mesh();
  const authority = await openAuthority(options);
  const { roots } = authority;
  await world.advance(1000);
  await person.delete(secrets, { namespace, name: stateSecret });
  await world.advance(1000);
  await authority.idle;
  authority.stop();
  const again = await openAuthority(options);
  assert.equal(again.roots, roots);
  again.stop();
});

test("another authority plugged in takes over in stages, in every replica, over a restart", async () => {
  const { options, world, plugIn } = await mesh();
  let [one, two] = [await openAuthority(options), await openAuthority(options)];
  const old = one.roots;
  const settle = async (time: number) => {
    await world.advance(time);
    await Promise.all([one.idle, two.idle]);
    await world.advance(1000);
  };
  await settle(1000);
  const ca = opensslCa(work, "ec", world.now());
  const fresh = certificatesIn(ca.entries["root-cert.pem"]!).join("");
  const before = await one.sign(makeRequest().csrPem, catalog);
  await plugIn(ca.entries);
  await settle(5000);
  for (const each of [one, two]) {
    assert.equal(each.roots, old + fresh, "both are trusted");
    const { certificateChain } = await each.sign(makeRequest().csrPem, catalog);
    assert.match(verified(certificateChain, old, world.now()), /OK$/, "the old one signs");
  }
  two.stop();
  two = await openAuthority(options);
  await settle(2 * hour);
  const signed = await one.sign(makeRequest().csrPem, catalog);
  for (const each of [one, two]) {
    assert.equal(each.roots, old + fresh, "both are trusted");
    const { certificateChain } = await each.sign(makeRequest().csrPem, catalog);
    assert.match(verified(certificateChain, fresh, world.now()), /OK$/, "the new one signs");
  }
  await settle(before.notAfter - world.now());
  assert.match(verified(signed.certificateChain, one.roots, world.now()), /OK$/);
  await settle(3 * hour);
  assert.equal(one.roots, fresh);
  assert.equal(two.roots, fresh);
  one.stop();
  two.stop();
});

test("a server's certificate is for its names and is renewed before it ends", async () => {
  const { options, world } = await mesh();
  const authority = await openAuthority(options);
  const server = await authority.serverIdentity(["istiod-basic.istio-system.svc"]);
  const first = new X509Certificate(server.current.cert);
  assert.equal(first.subjectAltName, "DNS:istiod-basic.istio-system.svc");
  assert.match(verified(server.current.cert, server.current.ca, world.now()), /OK$/);
  let renewed = 0;
  server.onChange(() => renewed++);
  await world.advance(25 * hour);
  await waitFor(() => renewed > 0);
  const second = new X509Certificate(server.current.cert);
  assert.ok(second.validToDate.getTime() > world.now() + 10 * hour);
  authority.stop();
});

async function waitFor(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}
