/** Secrets as credentials of gateways (`credentialName`): what is in them, and whether it can be used. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import type { Secret } from "../api/index.ts";

/** PEM texts of a Secret. Keys are those of `kubernetes.io/tls`, or Istio's `cert`, `key`, `cacert`, `crl`. */
export interface CredentialTexts {
  certificate?: string;
  key?: string;
  ca?: string;
  crl?: string;
}

export function credentialTexts({ data = {} }: Pick<Secret, "data">): CredentialTexts {
  const text = (...keys: string[]): string | undefined => {
    const found = keys.map((key) => data[key]).find((value) => value);
    return found === undefined ? undefined : Buffer.from(found, "base64").toString("utf8");
  };
  const texts = {
    certificate: text("tls.crt", "cert"),
    key: text("tls.key", "key"),
    ca: text("ca.crt", "cacert"),
    crl: text("ca.crl", "crl"),
  };
  return Object.fromEntries(Object.entries(texts).filter(([, value]) => value !== undefined));
}

/** What a Secret is good for, and nothing of what it says. */
export interface Credential {
  /** Why its certificate and key cannot be used; absent: they can. */
  certificateProblem?: string;
  /** When the certificate ends, ms since the epoch. */
  ends?: number;
  /** Why nobody can be checked by its CA; absent: one can. */
  caProblem?: string;
}

export function credentialOf(secret: Pick<Secret, "data">): Credential {
  const { certificate, key, ca } = credentialTexts(secret);
  const problem = certificateProblem(certificate, key);
  const caProblem =
    ca === undefined ? "it has no ca.crt" : parsed(ca) ? undefined : "its ca.crt is no certificate";
  const ends = certificate === undefined ? Number.NaN : Date.parse(parsed(certificate)?.validTo ?? "");
  return {
    ...(problem !== undefined && { certificateProblem: problem }),
    ...(caProblem !== undefined && { caProblem }),
    ...(!Number.isNaN(ends) && { ends }),
  };
}

function certificateProblem(certificate: string | undefined, key: string | undefined): string | undefined {
  if (certificate === undefined || key === undefined) return "it has no tls.crt and tls.key";
  const first = parsed(certificate);
  if (!first) return "its tls.crt is no certificate";
  try {
    const own = createPrivateKey(key);
    return first.checkPrivateKey(own) ? undefined : "its tls.key is not the key of tls.crt";
  } catch {
    return "its tls.key is no private key";
  }
}

/** The first certificate of a text. */
function parsed(text: string): X509Certificate | undefined {
  try {
    return new X509Certificate(text);
  } catch {
    return undefined;
  }
}
