/** Annotations, labels, ports and paths of sidecars: Istio's, so that what people know and have scripted is true. */

/** On pods, as a label or an annotation: whether they get a sidecar. The label wins. */
export const injectKey = "sidecar.istio.io/inject";
/** On pods: what was injected. */
export const statusAnnotation = "sidecar.istio.io/status";
/** On pods: which proxy, `envoy` or `embedded`. Ours. */
export const implementationAnnotation = "proxy.weft.dev/implementation";
export const canonicalNameLabel = "service.istio.io/canonical-name";
export const canonicalRevisionLabel = "service.istio.io/canonical-revision";

export const proxyContainerName = "istio-proxy";
export const initContainerName = "istio-init";

/** The uid that redirection lets pass: the proxy's (Istio: `constants.DefaultProxyUID`). */
export const proxyUid = 1337;

export const ports = {
  /** The agent: probes of the application, merged metrics. */
  agent: 15020,
  /** Readiness of the proxy. */
  health: 15021,
  /** The proxy's metrics. */
  metrics: 15090,
} as const;

/** Ports that the proxy and its agent listen on in a pod with a sidecar. */
export const reservedPorts: readonly number[] = [15000, 15001, 15006, 15020, 15021, 15090];

/** Where things lie in the proxy's container. */
export const paths = {
  /** Writable, in memory: Envoy's bootstrap, SDS files, the note of `proxy-init`. */
  proxy: "/etc/istio/proxy",
  /** `istio-token`: for the audience `istio-ca`. */
  tokens: "/var/run/secrets/tokens",
  /** `root-cert.pem`, `trust-bundles.json`. */
  roots: "/var/run/secrets/istio",
  /** `labels`, `annotations` of the pod, by the downward API. */
  pod: "/etc/istio/pod",
} as const;
