/**
 * The one table of errors that people meet: a stable code, what happened, and what to do.
 * `{name}` in a text is replaced by the value of that name. `docs/errors.md` lists the same codes; a test
 * holds the two together.
 */
export const errorTable = {
  LAB_RUNNING: {
    says: "the lab is already running ({clusters})",
    fix: "'weft status' shows it, 'weft down' ends it",
  },
  LAB_NOT_RUNNING: { says: "no lab is running", fix: "'weft up' starts one" },
  LAB_STARTING: { says: "a lab is being started already", fix: "wait for it, or stop its 'weft up'" },
  LAB_FAILED: { says: "the lab did not start: {reason}", fix: "the log is in {log}" },
  TOOL_MISSING: { says: "the program '{tool}' is not installed", fix: "install it with: {command}" },
  NAMESPACES_DENIED: {
    says: "this machine does not let this user make namespaces: {reason}",
    fix: "{command}",
  },
  CLUSTER_NAME_INVALID: {
    says: "'{name}' cannot be a cluster's name",
    fix: "use lower-case letters, digits and '-', each name once: --clusters c1,c2",
  },
  PORT_IN_USE: {
    says: "port {port} on {address} is in use",
    fix: "free it, or choose another with {option}",
  },
  PORT_DENIED: {
    says: "this user may not listen on port {port} of {address}",
    fix: "choose one above 1023 with {option}, or none: any free port will do",
  },
  RANGE_IN_USE: {
    says: "the address range {range} overlaps {other}",
    fix: "choose another range for {cluster}",
  },
  LAB_FILE_INVALID: {
    says: "{at}: {reason}",
    fix: "docs/lab.md lists the fields of a lab file",
  },
  LAB_KEPT: {
    says: "a lab is kept here ({clusters}), and {reason}",
    fix: "'weft up' alone brings it back; 'weft down --purge' takes it away for good",
  },
  LATENCY_UNAVAILABLE: {
    says: "this machine cannot delay packets: {reason}",
    fix: "{fix}",
  },
  ENVOY_MISSING: {
    says: "Envoy is not to be had: {reason}",
    fix: "install 'envoy' where PATH finds it, or put its program (version {version}) at {file}",
  },
  CLUSTER_UNKNOWN: { says: "the lab has no cluster '{name}'", fix: "it has: {known}" },
  NODE_UNKNOWN: { says: "the lab has no node '{name}'", fix: "it has: {known}" },
  LATENCY_INVALID: { says: "'{value}' is no latency", fix: "write it as 50ms, 1.5s or 200us; 0ms is none" },
  IMAGE_NAME_INVALID: {
    says: "'{name}' is not an image name",
    fix: "write it as in a pod: [REGISTRY/]NAME[:TAG]",
  },
  KUBECONFIG_INVALID: {
    says: "{file} is not a valid kubeconfig: {reason}",
    fix: "mend the file, or name another with --kubeconfig",
  },
  CONTEXT_UNKNOWN: { says: "the kubeconfig has no context '{context}'", fix: "it has: {known}" },
  API_UNREACHABLE: {
    says: "the API server of {cluster} at {server} cannot be reached: {reason}",
    fix: "check the address and that the cluster runs",
  },
  CLUSTER_ID_INVALID: {
    says: "'{name}' cannot be a cluster's name in its clusterset",
    fix: "take lower-case letters, digits and '-', with a dot between two parts at most, 63 characters in all: --name",
  },
  CLUSTER_NAMED: {
    says: "the cluster of {cluster} is called '{known}' already, not '{name}'",
    fix: "leave out --name; to give it another name, 'weft leave' first and delete its ClusterProperty",
  },
  CLUSTER_TWICE: {
    says: "two of the clusters are called '{cluster}'",
    fix: "every cluster of a clusterset has a name of its own: 'weft install --name'",
  },
  NOT_INSTALLED: {
    says: "Weft is not installed in the cluster of {cluster}",
    fix: "weft install --context {cluster}",
  },
  INSTALLED_BY_HELM: {
    says: "Weft in the cluster of {cluster} was installed by Helm, as release '{release}'",
    fix: "use Helm: helm upgrade or helm uninstall {release} -n weft-system; then 'weft uninstall' takes what is left",
  },
  INSTALL_STUCK: {
    says: "the control plane of {cluster} did not become ready: {reason}",
    fix: "kubectl --context {cluster} -n weft-system describe pods",
  },
  NO_PEER_ADDRESS: {
    says: "peers cannot reach the API server of {cluster} at {server}, which is this machine only",
    fix: "say how they reach it: --server {cluster}=https://ADDRESS:PORT",
  },
  CA_INVALID: {
    says: "the certificate authority in the Secret {secret} cannot be used: {reason}",
    fix: "put a signing certificate, its key, its chain and its root there (docs/errors.md)",
  },
  FILE_INVALID: { says: "{at}: {reason}", fix: "mend the file; objects are written as for kubectl apply" },
  NO_DISCOVERY: {
    says: "no mesh has a running discovery in the cluster of {context}",
    fix: "kubectl --context {context} get smcp -A shows the meshes; 'kubectl get pods -A -l app=istiod' their discoveries",
  },
  PROXY_NOT_CONNECTED: {
    says: "no discovery has a connected proxy '{proxy}'",
    fix: "'weft proxies' lists those that are connected; name it as POD.NAMESPACE",
  },
  API_REFUSED: { says: "the API server of {cluster} refused to {action}: {reason}", fix: "{fix}" },
} as const satisfies Record<string, { says: string; fix: string }>;

export type ErrorCode = keyof typeof errorTable;

/** An error for people: code, what happened to what, and what to do. The CLI prints it in two lines. */
export class WeftError extends Error {
  readonly code: ErrorCode;
  readonly fix: string;

  constructor(code: ErrorCode, values: Record<string, string | number> = {}, cause?: unknown) {
    const fill = (text: string) =>
      text.replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? ""));
    super(fill(errorTable[code].says), { cause });
    this.name = "WeftError";
    this.code = code;
    this.fix = fill(errorTable[code].fix);
  }
}
