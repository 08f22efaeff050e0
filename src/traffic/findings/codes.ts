/**
 * The messages of analysis. Numbers below 0900 mean what Istio's mean (IST0101 → WEFT0101), so that what people know is
 * true; from 0900 on they are our own. `{name}` is replaced. docs/mesh.md lists the same.
 */
import type { Finding, Origin } from "../model.ts";

/** The table. */
export const codes = {
  WEFT0101: {
    name: "ReferencedResourceNotFound",
    level: "error",
    says: 'Referenced {what} not found: "{name}"{more}',
    fix: "Mend the name, or make what is missing. A host without a dot is a Service of the object's own namespace",
  },
  WEFT0102: {
    name: "NamespaceNotMember",
    level: "info",
    says: "its namespace is no member of a mesh: it has no effect",
    fix: "Add the namespace to a ServiceMeshMemberRoll",
  },
  WEFT0103: {
    name: "PodMissingProxy",
    level: "warning",
    says: "it asks for a sidecar and has none: it was made before its namespace was a member, or while nobody injected",
    fix: "Make it anew (kubectl rollout restart)",
  },
  WEFT0104: {
    name: "GatewayPortNotOnWorkload",
    level: "warning",
    says: "The gateway's workload has no port {port}: no Service of its pods sends there",
    fix: "Name a port of the gateway's Service (80 and 443 unless the control plane says more)",
  },
  WEFT0106: {
    name: "InvalidField",
    level: "error",
    says: "{reason}",
    fix: "Mend the field. Until then a match with it never matches, a route with it answers 503, a server with it is not there, a policy with it lets nobody more in",
  },
  WEFT0109: {
    name: "ConflictingMeshGatewayVirtualServiceHosts",
    level: "error",
    says: 'The host "{host}" is also that of {winner}, which counts: this object\'s routes for it are not used by sidecars',
    fix: "Put the routes into one object, or give the objects hosts of their own",
  },
  WEFT0127: {
    name: "NoMatchingWorkloadsFound",
    level: "warning",
    says: "No pod of the namespace has the labels {labels}: it applies to nothing",
    fix: "Mend the labels, or ignore it while the workload is not there yet",
  },
  WEFT0130: {
    name: "VirtualServiceUnreachableRule",
    level: "warning",
    says: "never used: {reason}",
    fix: "Move the route in front of the one that takes everything, or delete it",
  },
  WEFT0132: {
    name: "VirtualServiceHostNotFoundInGateway",
    level: "warning",
    says: 'The host "{host}" is none of those that the gateway {gateway} takes for this namespace',
    fix: "Add the host to a server of the Gateway, or mend it; a server's host may be for one namespace only (namespace/host)",
  },
  WEFT0134: {
    name: "ServiceEntryAddressesRequired",
    level: "warning",
    says: "it speaks {protocol} and has no address to be told by: it takes all connections to port {port}",
    fix: "Give the ServiceEntry an address of its own (spec.addresses)",
  },
  WEFT0145: {
    name: "ConflictingGateways",
    level: "error",
    says: "it shares port {port} with {winner}, which is older and speaks {protocol}: this server is not used",
    fix: "Take another port, or make both speak the same",
  },
  WEFT0161: {
    name: "InvalidGatewayCredential",
    level: "error",
    says: 'The credential "{name}" cannot be used: {reason}',
    fix: "Put a certificate with its key (and a CA, where peers are checked) into the Secret. Until then connections that need it are refused",
  },
  WEFT0901: {
    name: "FieldNotServed",
    level: "warning",
    says: "it has no effect: {reason}",
    fix: "Do without the field; the rest of the object works",
  },
  WEFT0902: {
    name: "UnknownField",
    level: "error",
    says: "{kind} has no such field",
    fix: "Mend the spelling. An API server drops such fields",
  },
  WEFT0903: {
    name: "WeightsNotOneHundred",
    level: "warning",
    says: "the weights sum up to {sum}, not 100: they are taken as shares of {sum}",
    fix: "Write shares of 100, or leave it so",
  },
  WEFT0905: {
    name: "AmbiguousPort",
    level: "warning",
    says: 'the service "{host}" has several ports and none is named: it takes the one that the client called',
    fix: "Name the port (destination.port.number)",
  },
  WEFT0906: {
    name: "FailoverNeedsOutlierDetection",
    level: "warning",
    says: "it acts only where outlierDetection says when an endpoint counts as failed",
    fix: "Add outlierDetection to the trafficPolicy",
  },
  WEFT0907: {
    name: "HostNotFull",
    level: "warning",
    says: 'The host "{host}" has a dot, so it is taken as it is; the service here is "{full}"',
    fix: "Write the whole name, or a name without a dot",
  },
  WEFT0908: {
    name: "DuplicateSubset",
    level: "warning",
    says: 'The subset "{subset}" of the host "{host}" is also defined by {winner}, which is older and counts',
    fix: "Give it another name, or delete one of them",
  },
  WEFT0909: {
    name: "PolicyNotUsed",
    level: "warning",
    says: 'The trafficPolicy for the host "{host}" is not used: {winner} is older and has one',
    fix: "Put the policies into one object",
  },
  WEFT0910: {
    name: "KindNotServed",
    level: "warning",
    says: "{kind} of {group} is not served: Weft brings no definition of it, and in a cluster that has one it has no effect",
    fix: "Do without it. What is served is listed in docs/mesh.md",
  },
  WEFT0911: {
    name: "GatewayClassOfOthers",
    level: "info",
    says: 'The class "{class}" is not that of the mesh\'s gateways: it is left to the controller of that class, if there is one',
    fix: "Name the class weft, for the mesh's gateways to serve it",
  },
  WEFT0912: {
    name: "InvalidAuthority",
    level: "error",
    says: "The mesh's authority cannot be made of it: {reason}",
    fix: "Mend the Secret, as docs/sidecars.md has it. Until then the authority that signs goes on, and a mesh that has none yet waits",
  },
} as const satisfies Record<string, { name: string; level: Finding["level"]; says: string; fix: string }>;

/** One of its codes. */
export type Code = keyof typeof codes;

/** One finding; `values` fill the message, which is read after the field's name. */
export function finding(
  code: Code,
  origin: Origin,
  values: Readonly<Record<string, string | number>> = {},
): Finding {
  const { level, says } = codes[code];
  const message = says.replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? ""));
  return { code, level, origin, message };
}
