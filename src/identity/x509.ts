/**
 * Certificates made: roots, workloads' (X509-SVID), servers'. This module loads an X.509 library (80 ms), so
 * only the authority imports it, when it is opened.
 */
import "reflect-metadata"; // the X.509 library's dependency injection wants it first
import { createPrivateKey, createPublicKey, type KeyObject, type webcrypto } from "node:crypto";
import * as x509 from "@peculiar/x509";
import type { World } from "../world/index.ts";
import { RequestRefused } from "./refused.ts";

const ecdsa = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const day = 24 * 3600_000;
export const rootLifetime = 3650 * day;
/** Certificates are valid a little before now, for clocks that are behind (Istio: `ClockSkewGracePeriod`). */
export const skew = 2 * 60_000;

/** A key that signs, with the certificate that says so. */
export interface Signer {
  certificate: x509.X509Certificate;
  key: webcrypto.CryptoKey;
  algorithm: SigningAlgorithm;
}

type SigningAlgorithm = { name: string; hash: string; namedCurve?: string };

/** A self-signed root, ECDSA P-256; PEM. */
export async function makeRoot(
  world: World,
  organization: string,
): Promise<{ certificate: string; key: string }> {
  const keys = await crypto.subtle.generateKey(ecdsa, true, ["sign", "verify"]);
  const now = world.now();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serial(world),
    // Two roots of one name would be mistaken for each other by whoever looks an issuer up by its name.
    name: new x509.Name([
      { O: [organization] },
      { CN: [`${organization} root ${serial(world).slice(0, 8)}`] },
    ]),
    notBefore: new Date(now - skew),
    notAfter: new Date(now + rootLifetime),
    keys,
    signingAlgorithm: ecdsa,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  const key = x509.PemConverter.encode(
    await crypto.subtle.exportKey("pkcs8", keys.privateKey),
    "PRIVATE KEY",
  );
  return { certificate: certificate.toString("pem"), key };
}

/** Takes the authority's key (PKCS #1, SEC 1 or PKCS #8; ECDSA or RSA) for signing. */
export async function openSigner(certificatePem: string, keyPem: string): Promise<Signer> {
  const key = createPrivateKey(keyPem);
  const algorithm = signingAlgorithm(key);
  const der = key.export({ type: "pkcs8", format: "der" });
  return {
    certificate: new x509.X509Certificate(certificatePem),
    key: await crypto.subtle.importKey("pkcs8", Uint8Array.from(der), algorithm, false, ["sign"]),
    algorithm,
  };
}

const curves: Record<string, { namedCurve: string; hash: string }> = {
  prime256v1: { namedCurve: "P-256", hash: "SHA-256" },
  secp384r1: { namedCurve: "P-384", hash: "SHA-384" },
};

/** What an authority signs with; throws, in words for people, for keys that it cannot use. */
function signingAlgorithm(key: KeyObject): SigningAlgorithm {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key;
  if (type === "rsa") return { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" };
  const curve = type === "ec" ? curves[details?.namedCurve ?? ""] : undefined;
  if (!curve) throw new Error(`its key is ${kindOf(key)}; it can be ECDSA (P-256, P-384) or RSA`);
  return { name: "ECDSA", ...curve };
}

function kindOf({ asymmetricKeyType, asymmetricKeyDetails }: KeyObject): string {
  const { modulusLength, namedCurve } = asymmetricKeyDetails ?? {};
  return [asymmetricKeyType, namedCurve ?? modulusLength].filter((word) => word !== undefined).join(" ");
}

/**
 * The public key of a signing request (SPKI, DER), when the sender has proved to have its private half and it is
 * strong enough. What else the request says of names or usages counts for nothing.
 */
export async function readRequest(csrPem: string): Promise<Buffer> {
  let request: x509.Pkcs10CertificateRequest;
  let key: KeyObject;
  try {
    if (!/^\s*-----BEGIN (NEW )?CERTIFICATE REQUEST-----/.test(csrPem)) throw new Error("no PEM of one");
    request = new x509.Pkcs10CertificateRequest(csrPem.trim());
    key = createPublicKey({ key: Buffer.from(request.publicKey.rawData), type: "spki", format: "der" });
  } catch (error) {
    throw new RequestRefused("it is not a certificate signing request (PKCS #10, PEM)", { cause: error });
  }
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key;
  const strong =
    (type === "ec" && (details?.namedCurve ?? "") in curves) ||
    (type === "rsa" && (details?.modulusLength ?? 0) >= 2048 && (details?.modulusLength ?? 0) <= 4096);
  if (!strong) {
    const allowed = "ECDSA P-256 or P-384, or RSA with 2048 to 4096 bits";
    throw new RequestRefused(`its key is ${kindOf(key)}; it can be ${allowed}`);
  }
  // Verification throws where the signature's algorithm does not go with the key.
  const proved = await request.verify().catch(() => false);
  if (!proved) throw new RequestRefused("its signature is not by the key that it holds");
  return key.export({ type: "spki", format: "der" });
}

export interface Leaf {
  /** SPKI, DER. */
  publicKey: Uint8Array;
  /** Exactly one URI for a workload; names for a server. */
  names: readonly { type: "url" | "dns" | "ip"; value: string }[];
  usages: readonly ("server" | "client")[];
  /** Milliseconds since the epoch. */
  notBefore: number;
  notAfter: number;
}

/** Signs a certificate that cannot sign others; PEM. */
export async function issue(world: World, signer: Signer, leaf: Leaf): Promise<string> {
  const key = createPublicKey({ key: Buffer.from(leaf.publicKey), type: "spki", format: "der" });
  const usage = { server: x509.ExtendedKeyUsage.serverAuth, client: x509.ExtendedKeyUsage.clientAuth };
  const flags =
    key.asymmetricKeyType === "rsa"
      ? x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyEncipherment
      : x509.KeyUsageFlags.digitalSignature;
  const publicKey = new x509.PublicKey(Uint8Array.from(leaf.publicKey));
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serial(world),
    issuer: signer.certificate.subjectName,
    notBefore: new Date(leaf.notBefore),
    notAfter: new Date(leaf.notAfter),
    signingKey: signer.key,
    publicKey,
    signingAlgorithm: signer.algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(flags, true),
      new x509.ExtendedKeyUsageExtension(leaf.usages.map((each) => usage[each])),
      await x509.AuthorityKeyIdentifierExtension.create(signer.certificate.publicKey),
      // The subject is empty, so the names are critical (RFC 5280, 4.2.1.6).
      new x509.SubjectAlternativeNameExtension([...leaf.names], true),
    ],
  });
  return certificate.toString("pem");
}

/** A positive serial number of 128 bits (RFC 5280, 4.1.2.2: at most 20 octets, not negative). */
function serial(world: World): string {
  const bytes = world.bytes(16);
  bytes[0] = (bytes[0]! & 0x7f) | 0x01;
  return Buffer.from(bytes).toString("hex");
}
