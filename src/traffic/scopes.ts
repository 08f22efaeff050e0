/**
 * Scopes: what kinds of proxies there are. Proxies of one namespace share what they do outbound, unless some object
 * makes a difference between workloads; replicas of one workload share what they do inbound.
 */
import type { Proxy as MeshProxy } from "./model.ts";

/** A kind of proxy. */
export interface Scope {
  /** `outbound/coolapp`, `outbound/coolapp/sidecar=own`, `inbound/coolapp/app=catalog,version=v1`, `gateway/istio-system/istio=ingressgateway`. */
  name: string;
  kind: "outbound" | "inbound" | "gateway";
  namespace: string;
  /** As what it calls others: `clientOf`. */
  client: string;
  /** Labels that make a difference: all of a workload's for inbound and gateways. */
  labels: Readonly<Record<string, string>>;
  /** The Sidecar that it goes by, `namespace/name`; not of gateways. */
  sidecar?: string;
  /** The pods' named ports. */
  ports: Readonly<Record<string, number>>;
}

/** Labels that tell replicas of one workload apart, or that injection adds: they make no scope. */
const ofReplicas =
  /^(?:pod-template-hash|controller-revision-hash|pod-template-generation|security\.istio\.io\/tlsMode|service\.istio\.io\/canonical-(?:name|revision)|sidecar\.istio\.io\/inject|topology\.istio\.io\/.*|istio\.io\/rev)$/;

/** The labels of a workload, the same for all its replicas, sorted. */
export function workloadLabels(labels: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(labels)
      .filter(([name]) => !ofReplicas.test(name))
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );
}

/** `app=catalog,version=v1`. */
export function labelText(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels)
    .map(([name, value]) => `${name}=${value}`)
    .join(",");
}

/** The name of a proxy's pod. Source: node id `type~ip~pod.namespace~domain`. */
export function podOf({ id, namespace }: Pick<MeshProxy, "id" | "namespace">): string {
  const name = id.split("~")[2] ?? "";
  return name.endsWith(`.${namespace}`) ? name.slice(0, -namespace.length - 1) : name;
}
