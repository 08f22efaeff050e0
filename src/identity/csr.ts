/**
 * A certificate signing request (PKCS #10, RFC 2986) for a key made here. Node has no function for it, and the
 * library that the authority uses takes 80 ms and 10 MB to load, which every sidecar would pay: so these few bytes
 * of DER are written by hand. A test reads them with openssl.
 */
import { generateKeyPairSync, sign } from "node:crypto";

export interface KeyAndRequest {
  /** PKCS #8, PEM: ECDSA P-256. */
  keyPem: string;
  /** `-----BEGIN CERTIFICATE REQUEST-----`. */
  csrPem: string;
}

/** A new key and the request for its certificate. It says nothing of who asks: the token does (see `sign`). */
export function makeRequest(): KeyAndRequest {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const spki = publicKey.export({ type: "spki", format: "der" });
  // CertificationRequestInfo: version 0, an empty subject, the key, no attributes ([0]).
  const info = sequence(Buffer.from([0x02, 0x01, 0x00]), sequence(), spki, Buffer.from([0xa0, 0x00]));
  const signature = sign("sha256", info, { key: privateKey, dsaEncoding: "der" });
  const request = sequence(info, sequence(ecdsaWithSha256), tagged(0x03, Buffer.from([0]), signature));
  const lines = request
    .toString("base64")
    .match(/.{1,64}/g)!
    .join("\n");
  return {
    keyPem: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
    csrPem: `-----BEGIN CERTIFICATE REQUEST-----\n${lines}\n-----END CERTIFICATE REQUEST-----\n`,
  };
}

/** OID 1.2.840.10045.4.3.2. */
const ecdsaWithSha256 = Buffer.from("06082a8648ce3d040302", "hex");

function sequence(...parts: Uint8Array[]): Buffer {
  return tagged(0x30, ...parts);
}

/** Tag, length, contents (X.690, 8.1.3). */
function tagged(tag: number, ...parts: Uint8Array[]): Buffer {
  const contents = Buffer.concat(parts);
  const { length } = contents;
  const head =
    length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...head]), contents]);
}
