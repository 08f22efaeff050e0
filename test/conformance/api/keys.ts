import { generateKeyPairSync } from "node:crypto";

/** A key pair for ServiceAccount tokens. PEM. */
export function newKeys(): { privateKey: string; publicKey: string } {
  return generateKeyPairSync("ec", {
    namedCurve: "P-256",
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
    publicKeyEncoding: { type: "spki", format: "pem" },
  });
}
