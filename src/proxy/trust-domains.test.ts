/**
 * Whose identity a peer has is judged per trust domain: whoever signs for one domain cannot make itself another's, not
 * even with a root that has the name and the key id of that other's.
 */
import "reflect-metadata";
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { createServer } from "node:net";
import { test } from "node:test";
import { connect, createServer as createTlsServer, TLSSocket } from "node:tls";
import * as x509 from "@peculiar/x509";
import { issue, makeRoot, openSigner, type Signer } from "../identity/x509.ts";
import { realWorld } from "../world/index.ts";
import { judgePeer, TlsMaterial } from "./tls.ts";

const world = realWorld();
const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

async function authority(name: string) {
  const { certificate, key } = await makeRoot(world, name);
  return { certificate, signer: await openSigner(certificate, key) };
}

/** A root with the subject and the key id of another, and a key of its own. */
async function double(of: string): Promise<{ certificate: string; signer: Signer }> {
  const original = new x509.X509Certificate(of);
  const keys = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: original.serialNumber,
    name: original.subjectName,
    notBefore: original.notBefore,
    notAfter: original.notAfter,
    keys,
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      original.getExtension(x509.SubjectKeyIdentifierExtension)!,
    ],
  });
  return {
    certificate: certificate.toString("pem"),
    signer: { certificate, key: keys.privateKey, algorithm },
  };
}

async function workload(signer: Signer, trustDomain: string) {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const cert = await issue(world, signer, {
    publicKey: publicKey.export({ type: "spki", format: "der" }),
    names: [{ type: "url", value: `spiffe://${trustDomain}/ns/coolapp/sa/catalog` }],
    usages: ["server", "client"],
    notBefore: world.now() - 60_000,
    notAfter: world.now() + 3600_000,
  });
  return { cert, key: privateKey.export({ type: "pkcs8", format: "pem" }).toString() };
}

/** The same without a word on whose key signed it. */
async function anonymous(signer: Signer, trustDomain: string) {
  const keys = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: "0123",
    issuer: signer.certificate.subjectName,
    notBefore: new Date(world.now() - 60_000),
    notAfter: new Date(world.now() + 3600_000),
    signingKey: signer.key,
    publicKey: keys.publicKey,
    signingAlgorithm: signer.algorithm,
    extensions: [
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.SubjectAlternativeNameExtension(
        [{ type: "url", value: `spiffe://${trustDomain}/ns/coolapp/sa/catalog` }],
        true,
      ),
    ],
  });
  const key = await crypto.subtle.exportKey("pkcs8", keys.privateKey);
  return { cert: certificate.toString("pem"), key: x509.PemConverter.encode(key, "PRIVATE KEY") };
}

/** What a server with these bundles makes of a client. */
async function judged(
  bundles: Record<string, string>,
  own: { cert: string; key: string },
  client: { cert: string; key: string },
): Promise<string> {
  const handle = (name: string, current: object) => ({ name, current, subscribe: () => () => undefined });
  const secrets = {
    get: (name: string) =>
      name === "default"
        ? handle(name, { kind: "certificate", certificatePem: own.cert, keyPem: own.key })
        : handle(name, { kind: "bundles", bundles }),
  };
  const common = {
    tlsCertificates: [],
    tlsCertificateSdsSecretConfigs: [{ name: "default" }],
    validationContextType: { $case: "validationContextSdsSecretConfig", value: { name: "ROOTCA" } },
    alpnProtocols: [],
  };
  const material = new TlsMaterial(common as never, secrets as never, "server");
  const { context, trust } = material.current!;
  const verdict = Promise.withResolvers<string>();
  const server = createServer((raw) => {
    const options = { isServer: true, secureContext: context, requestCert: true, rejectUnauthorized: false };
    const socket = new TLSSocket(raw, options);
    socket.on("error", (error) => verdict.resolve(`refused: ${error.message}`));
    socket.on("secure", () => {
      const result = judgePeer(socket, trust, true);
      verdict.resolve("problem" in result ? result.problem : `in: ${result.peer?.uris.join()}`);
      socket.end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  const socket = connect({ port, host: "127.0.0.1", ...client, rejectUnauthorized: false });
  socket.on("error", () => undefined);
  try {
    return await verdict.promise;
  } finally {
    socket.destroy();
    server.close();
    material.dispose();
  }
}

/** What a client with these bundles makes of a server. */
async function judgedServer(bundles: Record<string, string>, server: { cert: string; key: string }) {
  const secrets = {
    get: (name: string) => ({
      name,
      current: { kind: "bundles", bundles },
      subscribe: () => () => undefined,
    }),
  };
  const common = {
    tlsCertificates: [],
    tlsCertificateSdsSecretConfigs: [],
    validationContextType: { $case: "validationContextSdsSecretConfig", value: { name: "ROOTCA" } },
    alpnProtocols: [],
  };
  const material = new TlsMaterial(common as never, secrets as never, "client");
  const { context, trust } = material.current!;
  const listening = createTlsServer(server);
  await new Promise<void>((resolve) => listening.listen(0, "127.0.0.1", resolve));
  const { port } = listening.address() as { port: number };
  const verdict = Promise.withResolvers<string>();
  const socket = connect({ port, host: "127.0.0.1", secureContext: context, rejectUnauthorized: false });
  socket.on("error", (error) => verdict.resolve(`refused: ${error.message}`));
  socket.on("secureConnect", () => {
    const result = judgePeer(socket, trust, true);
    verdict.resolve("problem" in result ? result.problem : `in: ${result.peer?.uris.join()}`);
  });
  try {
    return await verdict.promise;
  } finally {
    socket.destroy();
    listening.close();
    material.dispose();
  }
}

const [ours, theirs] = await Promise.all([authority("ours"), authority("theirs")]);
const evil = await double(ours.certificate);
const own = await workload(ours.signer, "ours");

test("each domain's workloads are let in", async () => {
  const bundles = { ours: ours.certificate, theirs: theirs.certificate };
  assert.match(await judged(bundles, own, await workload(ours.signer, "ours")), /^in: spiffe:\/\/ours/);
  assert.match(await judged(bundles, own, await workload(theirs.signer, "theirs")), /^in: spiffe:\/\/theirs/);
});

test("a client too believes each domain's servers, and nobody who signs for another domain", async () => {
  const bundles = { ours: ours.certificate, theirs: theirs.certificate };
  assert.match(await judgedServer(bundles, await workload(ours.signer, "ours")), /^in: spiffe:\/\/ours/);
  assert.match(
    await judgedServer(bundles, await workload(theirs.signer, "theirs")),
    /^in: spiffe:\/\/theirs/,
  );
  const not = /not signed for trust domain/;
  assert.match(await judgedServer(bundles, await workload(theirs.signer, "ours")), not);
});

test("nobody signs for another domain", async () => {
  const bundles = { ours: ours.certificate, theirs: theirs.certificate };
  const not = /not signed for trust domain/;
  assert.match(await judged(bundles, own, await workload(theirs.signer, "ours")), not);
  assert.match(await judged(bundles, own, await workload(ours.signer, "theirs")), not);
  assert.match(await judged(bundles, own, await workload(ours.signer, "elsewhere")), /no trust domain/);
});

test("a root that looks like ours signs for its own domain only, whatever chain its workloads show", async () => {
  // In either order: which of two roots of one name OpenSSL finds first is its own affair.
  for (const bundles of [
    { ours: ours.certificate, theirs: evil.certificate },
    { theirs: evil.certificate, ours: ours.certificate },
  ]) {
    const { cert, key } = await anonymous(evil.signer, "ours");
    for (const chain of [
      cert,
      `${cert}\n${ours.certificate}`,
      `${cert}\n${evil.certificate}\n${ours.certificate}`,
    ]) {
      assert.doesNotMatch(await judged(bundles, own, { cert: chain, key }), /^in:/);
    }
  }
});
