/**
 * Who a workload is: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`, as Istio writes it.
 * Source: SPIFFE-ID standard, section 2; Istio `pkg/spiffe/spiffe.go`.
 */
import type { X509Certificate } from "node:crypto";

export interface WorkloadId {
  trustDomain: string;
  namespace: string;
  serviceAccount: string;
}

/** Names as the API server has them: nothing in them can be mistaken for a separator. */
const pattern =
  /^spiffe:\/\/([a-z0-9._-]{1,255})\/ns\/([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)\/sa\/([a-z0-9](?:[-.a-z0-9]{0,251}[a-z0-9])?)$/;

/** The id as a URI. Throws for names that no API server would have taken. */
export function spiffeId({ trustDomain, namespace, serviceAccount }: WorkloadId): string {
  const uri = `spiffe://${trustDomain}/ns/${namespace}/sa/${serviceAccount}`;
  if (!pattern.test(uri)) throw new Error(`'${uri}' cannot be the identity of a workload`);
  return uri;
}

/** Undefined for anything that is no workload's id. */
export function parseSpiffeId(uri: string): WorkloadId | undefined {
  const [, trustDomain, namespace, serviceAccount] = pattern.exec(uri) ?? [];
  return trustDomain && namespace && serviceAccount ? { trustDomain, namespace, serviceAccount } : undefined;
}

/**
 * Whose certificate this is. Undefined when it names nobody, or, which is as bad, more than one: an X.509-SVID
 * has exactly one URI (X509-SVID standard, section 2).
 */
export function workloadOf(certificate: X509Certificate): WorkloadId | undefined {
  const uris = uriNames(certificate.subjectAltName ?? "");
  return uris.length === 1 ? parseSpiffeId(uris[0]!) : undefined;
}

/** The URIs of a subjectAltName as Node prints it: `DNS:a, URI:"b,c", URI:d`; odd values are JSON strings. */
function uriNames(text: string): string[] {
  const names = text.matchAll(/(?:^|, )([A-Za-z ]+):("(?:[^"\\]|\\.)*"|[^,]*)/g);
  return [...names].flatMap(([, type, value]) => (type === "URI" ? [value!] : []));
}
