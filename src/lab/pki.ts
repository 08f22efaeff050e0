/**
 * The keys and certificates of a lab cluster, as kubeadm lays them out for a real one: one CA, and under it who
 * may say what it is. All keys are ECDSA P-256.
 *
 * This module loads an X.509 library (50 to 80 ms), so whoever only reads PEM files imports `state.ts` instead.
 */
import "reflect-metadata"; // the X.509 library's dependency injection wants it first
import type { webcrypto } from "node:crypto";
import * as x509 from "@peculiar/x509";
import type { World } from "../world/index.ts";
import { apiServiceAddress, type ClusterSpec } from "./spec.ts";
import type { ClusterPki, KeyPair, NodePki } from "./state.ts";

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const day = 24 * 3600 * 1000;
const caLifetime = 3650 * day;
const lifetime = 365 * day;
/** Certificates are valid a little before now, for clocks that are behind. */
const skew = 3600 * 1000;

interface Authority {
  certificate: x509.X509Certificate;
  key: webcrypto.CryptoKey;
}

interface Subject {
  name: string;
  organization?: string;
  usage: "server" | "client";
  addresses?: string[];
  names?: string[];
}

/** Makes every key and certificate of a cluster and its nodes. */
export async function makeClusterPki(
  world: World,
  cluster: ClusterSpec,
): Promise<{ cluster: ClusterPki; nodes: Record<string, NodePki> }> {
  const keys = await generateKeys();
  const now = world.now();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serial(world),
    name: new x509.Name([{ CN: [`weft-${cluster.name}-ca`] }]),
    notBefore: new Date(now - skew),
    notAfter: new Date(now + caLifetime),
    keys,
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(
        x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign | x509.KeyUsageFlags.digitalSignature,
        true,
      ),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  const authority = { certificate, key: keys.privateKey };
  const issue = (subject: Subject) => issueCertificate(world, authority, subject);

  const kubernetes = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"];
  const [serving, admin, kubeletClient, serviceAccount, ...nodes] = await Promise.all([
    issue({
      name: "kube-apiserver",
      usage: "server",
      names: ["localhost", ...kubernetes, `kubernetes.default.svc.${cluster.clusterDomain}`],
      addresses: ["127.0.0.1", cluster.apiAddress, apiServiceAddress(cluster)],
    }),
    issue({ name: "kubernetes-admin", organization: "system:masters", usage: "client" }),
    issue({ name: "kube-apiserver-kubelet-client", organization: "system:masters", usage: "client" }),
    generateKeys(),
    ...cluster.nodes.map(async (node): Promise<[string, NodePki]> => {
      const [client, kubelet] = await Promise.all([
        issue({ name: `system:node:${node.name}`, organization: "system:nodes", usage: "client" }),
        issue({
          name: `system:node:${node.name}`,
          organization: "system:nodes",
          usage: "server",
          names: [node.name],
          addresses: [node.address],
        }),
      ]);
      return [node.name, { ca: certificate.toString("pem"), client, serving: kubelet }];
    }),
  ]);
  return {
    cluster: {
      ca: { cert: certificate.toString("pem"), key: await privatePem(keys.privateKey) },
      serving,
      admin,
      kubeletClient,
      serviceAccount: {
        privateKey: await privatePem(serviceAccount.privateKey),
        publicKey: x509.PemConverter.encode(
          await crypto.subtle.exportKey("spki", serviceAccount.publicKey),
          "PUBLIC KEY",
        ),
      },
    },
    nodes: Object.fromEntries(nodes),
  };
}

async function issueCertificate(world: World, authority: Authority, subject: Subject): Promise<KeyPair> {
  const keys = await generateKeys();
  const now = world.now();
  const usage =
    subject.usage === "server" ? x509.ExtendedKeyUsage.serverAuth : x509.ExtendedKeyUsage.clientAuth;
  const alternatives: x509.JsonGeneralName[] = [
    ...(subject.names ?? []).map((value) => ({ type: "dns" as const, value })),
    ...(subject.addresses ?? []).map((value) => ({ type: "ip" as const, value })),
  ];
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serial(world),
    subject: new x509.Name([
      ...(subject.organization ? [{ O: [subject.organization] }] : []),
      { CN: [subject.name] },
    ]),
    issuer: authority.certificate.subjectName,
    notBefore: new Date(now - skew),
    notAfter: new Date(now + lifetime),
    signingKey: authority.key,
    publicKey: keys.publicKey,
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([usage]),
      await x509.AuthorityKeyIdentifierExtension.create(authority.certificate.publicKey),
      ...(alternatives.length > 0 ? [new x509.SubjectAlternativeNameExtension(alternatives)] : []),
    ],
  });
  return { cert: certificate.toString("pem"), key: await privatePem(keys.privateKey) };
}

function generateKeys(): Promise<webcrypto.CryptoKeyPair> {
  return crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
}

async function privatePem(key: webcrypto.CryptoKey): Promise<string> {
  return x509.PemConverter.encode(await crypto.subtle.exportKey("pkcs8", key), "PRIVATE KEY");
}

/** A positive serial number of 128 bits (RFC 5280, 4.1.2.2: at most 20 octets, not negative). */
function serial(world: World): string {
  const bytes = world.bytes(16);
  bytes[0] = (bytes[0]! & 0x7f) | 0x01;
  return Buffer.from(bytes).toString("hex");
}
