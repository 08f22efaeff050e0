/** Secrets of Kubernetes as the credentials that gateways and DestinationRules name (`credentialName`). */
import type { Secret } from "../api/index.ts";
import { credentialTexts } from "../traffic/index.ts";
import { caSecretName, type TlsSecret } from "./encode/index.ts";

/**
 * Rows under the names by which proxies ask: `kubernetes://<namespace>/<name>`, and with `-cacert` behind it for the CA
 * beside it. Other Secrets make none.
 */
export function credentialsOf({ metadata, data = {} }: Secret): TlsSecret[] {
  const name = `kubernetes://${metadata.namespace}/${metadata.name}`;
  const { certificate, key, ca, crl } = credentialTexts({ data });
  const rows: TlsSecret[] = [];
  if (certificate && key) rows.push({ name, certificate, key });
  if (ca) {
    // A Secret of its own for the CA is called so already.
    const caName = name.endsWith(caSecretName("")) ? name : caSecretName(name);
    rows.push({ name: caName, ca, ...(crl && { crl }) });
  }
  return rows;
}
