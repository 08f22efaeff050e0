/** What a peer's Secret holds, and how long it is good for. */
import { X509Certificate } from "node:crypto";
import { nameOf, type Secret } from "../api/index.ts";
import { type Credentials, claimsOf, parseKubeconfig } from "../kube/index.ts";

/** Throws KUBECONFIG_INVALID. */
export function credentialsIn(secret: Secret): Credentials {
  const text = Buffer.from(secret.data?.kubeconfig ?? "", "base64").toString("utf8");
  return parseKubeconfig(text, `Secret ${nameOf(secret)}`).credentials();
}

/** Milliseconds since the epoch. */
export interface Life {
  from: number;
  to: number;
  /** Whether the control plane renews it: a token, not a certificate. */
  byItself: boolean;
}

/** From when to when the credentials are good; undefined when they do not say. */
export function expiryOf({ token, cert }: Credentials): Life | undefined {
  if (cert) {
    const { validFrom, validTo } = new X509Certificate(cert);
    return { from: Date.parse(validFrom), to: Date.parse(validTo), byItself: false };
  }
  const { iat, exp } = (typeof token === "string" && claimsOf(token)) || {};
  // What is no JWT says nothing of its life.
  if (typeof iat !== "number" || typeof exp !== "number") return undefined;
  return { from: iat * 1000, to: exp * 1000, byItself: true };
}
