/** security.istio.io: who may talk to whom, and how, as istio/api v1.31 has it. Served as v1 and v1beta1. */
import type { IstioStatus, PolicySelector } from "./istio.ts";
import { type KubeObject, resource } from "./meta.ts";

export type MutualTlsMode = "UNSET" | "DISABLE" | "PERMISSIVE" | "STRICT";

export interface PeerAuthentication extends KubeObject {
  /** May be left out altogether: then it says nothing. */
  spec?: {
    /** None: the whole namespace; in the mesh's own namespace: the whole mesh. */
    selector?: PolicySelector;
    mtls?: { mode?: MutualTlsMode };
    /** By the workload's port, as text. Only with a selector. */
    portLevelMtls?: Record<string, { mode?: MutualTlsMode }>;
  };
  status?: IstioStatus;
}

export interface AuthorizationPolicy extends KubeObject {
  /** Left out or empty it allows nothing: the idiom of deny by default. */
  spec?: AuthorizationPolicySpec;
  status?: IstioStatus;
}

export interface AuthorizationPolicySpec {
  selector?: PolicySelector;
  /** Deprecated for `targetRefs`. */
  targetRef?: PolicyTargetReference;
  targetRefs?: PolicyTargetReference[];
  /** None: matches nothing. A rule without fields matches everything. */
  rules?: AuthorizationPolicyRule[];
  /** ALLOW unless given. */
  action?: "ALLOW" | "DENY" | "AUDIT" | "CUSTOM";
  /** With CUSTOM. */
  provider?: { name?: string };
}

export interface PolicyTargetReference {
  group?: string;
  kind?: string;
  name?: string;
  namespace?: string;
}

export interface AuthorizationPolicyRule {
  from?: { source?: AuthorizationSource }[];
  to?: { operation?: AuthorizationOperation }[];
  when?: AuthorizationCondition[];
}

/** Entries are exact, `prefix*`, `*suffix` or `*`; addresses are addresses or CIDRs. */
export interface AuthorizationSource {
  principals?: string[];
  notPrincipals?: string[];
  requestPrincipals?: string[];
  notRequestPrincipals?: string[];
  namespaces?: string[];
  notNamespaces?: string[];
  /** `namespace/name`, or `name` in the policy's own namespace. */
  serviceAccounts?: string[];
  notServiceAccounts?: string[];
  ipBlocks?: string[];
  notIpBlocks?: string[];
  remoteIpBlocks?: string[];
  notRemoteIpBlocks?: string[];
  trustDomains?: string[];
  notTrustDomains?: string[];
}

export interface AuthorizationOperation {
  hosts?: string[];
  notHosts?: string[];
  ports?: string[];
  notPorts?: string[];
  methods?: string[];
  notMethods?: string[];
  paths?: string[];
  notPaths?: string[];
}

export interface AuthorizationCondition {
  key?: string;
  values?: string[];
  notValues?: string[];
}

const security = "security.istio.io";

export const peerAuthentications = resource<PeerAuthentication>(
  security,
  "v1",
  "PeerAuthentication",
  "peerauthentications",
);
export const authorizationPolicies = resource<AuthorizationPolicy>(
  security,
  "v1",
  "AuthorizationPolicy",
  "authorizationpolicies",
);
