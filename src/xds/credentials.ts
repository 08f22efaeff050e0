/** Secrets of Kubernetes as the credentials that gateways and DestinationRules name (`credentialName`). */
import type { Secret } from "../api/index.ts";
import { caSecretName, type TlsSecret } from "./encode/index.ts";

/**
 * Rows under the names by which proxies ask: `kubernetes://<namespace>/<name>`, and with `-cacert` behind it for the CA
 * beside it. Keys are those of `kubernetes.io/tls`, or Istio's `cert`, `key`, `cacert`, `crl`. Other Secrets make none.
 */
export function credentialsOf({ metadata, data = {} }: Secret): TlsSecret[] {
  const name = `kubernetes://${metadata.namespace}/${metadata.name}`;
  const text = (...keys: string[]): string | undefined => {
    for (const key of keys) {
      const value = data[key];
      if (value) return Buffer.from(value, "base64").toString("utf8");
    }
    return undefined;
  };
  const certificate = text("tls.crt", "cert");
  const key = text("tls.key", "key");
  const ca = text("ca.crt", "cacert");
  const crl = text("ca.crl", "crl");
  const rows: TlsSecret[] = [];
  if (certificate && key) rows.push({ name, certificate, key });
  if (ca) {
    // A Secret of its own for the CA is called so already.
    const caName = name.endsWith(caSecretName("")) ? name : caSecretName(name);
    rows.push({ name: caName, ca, ...(crl && { crl }) });
  }
  return rows;
}
