/** How a person names a peer: a Secret in `weft-system` that holds a kubeconfig for it. */
import { istioPeerLabel, nameOf, peerLabel, type Secret } from "../api/index.ts";

export interface PeerSpec {
  /** The peer's cluster id. */
  cluster: string;
  /** Text of the kubeconfig; undefined when the Secret has none. */
  kubeconfig: string | undefined;
  /** `namespace/name` of the Secret. */
  secret: string;
}

export function isPeerSecret({ metadata }: Secret): boolean {
  return metadata.labels?.[peerLabel] !== undefined || metadata.labels?.[istioPeerLabel] === "true";
}

/**
 * The peers that a Secret names: by Weft's label, whose value is the peer and whose kubeconfig is in
 * `data.kubeconfig`; or by Istio's, where each key of `data` is a peer and its value the kubeconfig.
 */
export function peersIn(secret: Secret): PeerSpec[] {
  const named = secret.metadata.labels?.[peerLabel];
  const entries: [string, string | undefined][] = named
    ? [[named, secret.data?.kubeconfig]]
    : Object.entries(secret.data ?? {});
  return entries.map(([cluster, data]) => ({
    cluster,
    kubeconfig: data && Buffer.from(data, "base64").toString("utf8"),
    secret: nameOf(secret),
  }));
}
