/**
 * AuthorizationPolicies that apply to a workload. Sources: Istio `security/v1/authorization_policy.proto`,
 * `pilot/pkg/security/authz/{builder,model,trustdomain}`.
 */
import type {
  AuthorizationOperation,
  AuthorizationPolicy,
  AuthorizationPolicyRule,
  AuthorizationSource,
  MeshSettings,
} from "../api/index.ts";
import type {
  Authorization,
  AuthorizationRule,
  ConditionMatch,
  OperationMatch,
  Origin,
  SourceMatch,
} from "./model.ts";
import { isAddress } from "./registry.ts";
import { selects } from "./workloads.ts";

/** An AuthorizationPolicy, resolved. */
export interface AccessPolicy {
  namespace: string;
  name: string;
  action: "deny" | "allow" | "audit";
  selector: Readonly<Record<string, string>> | undefined;
  rules: readonly AuthorizationPolicyRule[];
}

/** None for what is not served (CUSTOM, targetRefs): analysis says so. */
export function accessPolicyOf({ metadata, spec }: AuthorizationPolicy): AccessPolicy | undefined {
  if (metadata.deletionTimestamp) return undefined;
  const action = spec?.action ?? "ALLOW";
  if (action === "CUSTOM" || spec?.targetRefs?.length || spec?.targetRef) return undefined;
  const labels = spec?.selector?.matchLabels;
  return {
    namespace: metadata.namespace ?? "",
    name: metadata.name,
    action: action === "DENY" ? "deny" : action === "AUDIT" ? "audit" : "allow",
    selector: labels && Object.keys(labels).length > 0 ? labels : undefined,
    rules: spec?.rules ?? [],
  };
}

/**
 * The policies for one workload, by action; DENY comes first.
 * `tcp`: what only HTTP has (methods, paths, headers) cannot be seen; a rule with it never allows and always denies, as
 * Istio builds it.
 */
export function authorizationOf(
  workload: { namespace: string; labels: Readonly<Record<string, string>> },
  own: readonly AccessPolicy[],
  root: readonly AccessPolicy[],
  mesh: MeshSettings,
  tcp: boolean,
): Authorization[] {
  const all = workload.namespace === mesh.namespace ? own : [...root, ...own];
  const mine = all.filter(({ selector }) => selects(selector, workload.labels));
  return (["audit", "deny", "allow"] as const).flatMap((action): Authorization[] => {
    const policies = mine.filter((policy) => policy.action === action);
    if (policies.length === 0) return [];
    return [
      {
        action,
        policies: policies.map((policy) => ({
          name: `ns[${policy.namespace}]-policy[${policy.name}]`,
          rules: policy.rules.flatMap((rule) => ruleFor(rule, policy, mesh, tcp) ?? []),
          origins: [origin(policy)],
        })),
      },
    ];
  });
}

function origin({ namespace, name }: AccessPolicy): Origin {
  return { kind: "AuthorizationPolicy", namespace, name, field: "spec.rules" };
}

/** Keys of conditions that are served. Source: Istio, "Authorization Policy Conditions". */
export const conditionKeys =
  /^(?:request\.headers\[[!#$%&'*+\-.^_`|~0-9A-Za-z]+\]|source\.(?:ip|namespace|principal)|remote\.ip|destination\.(?:ip|port)|connection\.sni)$/;

/** Whether a value can be one of the key. */
export function fits(key: string, value: string): boolean {
  if (key === "source.ip" || key === "remote.ip" || key === "destination.ip") return isAddress(value);
  return key !== "destination.port" || isPort(value);
}

/** Keys of conditions that only requests have. */
const httpKey = /^request\./;

function ruleFor(
  rule: AuthorizationPolicyRule,
  policy: AccessPolicy,
  mesh: MeshSettings,
  tcp: boolean,
): AuthorizationRule | undefined {
  const from = (rule.from ?? []).map(({ source }) => sourceOf(source ?? {}, policy.namespace, mesh));
  let to = (rule.to ?? []).map(({ operation }) => operationOf(operation ?? {}));
  let when = (rule.when ?? [])
    .filter(({ key = "" }) => conditionKeys.test(key))
    .map(({ key = "", values, notValues }): ConditionMatch => {
      const usable = (list: readonly string[] | undefined) =>
        key === "source.principal" && list
          ? withAliases(list, mesh)
          : list?.filter((value) => fits(key, value));
      return kept({ values: usable(values), notValues: usable(notValues) }, { key });
    });
  // What is not served, or is no address, is taken as what denies: a rule that allows is left out, one that denies is
  // taken without it.
  if (
    policy.action === "allow" &&
    (rule.from?.some(({ source }) => !isUsable(source)) ||
      rule.to?.some(({ operation }) => !hasPorts(operation)) ||
      rule.when?.some(
        ({ key = "", values = [], notValues = [] }) =>
          !conditionKeys.test(key) || ![...values, ...notValues].every((value) => fits(key, value)),
      ))
  )
    return undefined;
  if (tcp) {
    const needsHttp =
      to.some(({ methods, notMethods, paths, notPaths, hosts, notHosts }) =>
        [methods, notMethods, paths, notPaths, hosts, notHosts].some((list) => list?.length),
      ) || when.some(({ key }) => httpKey.test(key));
    if (needsHttp) {
      if (policy.action === "allow") return undefined;
      to = to.map(({ ports, notPorts }) => ({ ...(ports && { ports }), ...(notPorts && { notPorts }) }));
      when = when.filter(({ key }) => !httpKey.test(key));
    }
  }
  return { from, to, when };
}

function sourceOf(source: AuthorizationSource, namespace: string, mesh: MeshSettings): SourceMatch {
  const accounts = (list: readonly string[]) =>
    list.map((each) => (each.includes("/") ? each : `${namespace}/${each}`));
  return kept({
    principals: source.principals && withAliases(source.principals, mesh),
    notPrincipals: source.notPrincipals && withAliases(source.notPrincipals, mesh),
    namespaces: source.namespaces,
    notNamespaces: source.notNamespaces,
    serviceAccounts: source.serviceAccounts && accounts(source.serviceAccounts),
    notServiceAccounts: source.notServiceAccounts && accounts(source.notServiceAccounts),
    ipBlocks: source.ipBlocks?.filter(isAddress),
    notIpBlocks: source.notIpBlocks?.filter(isAddress),
    remoteIpBlocks: source.remoteIpBlocks?.filter(isAddress),
    notRemoteIpBlocks: source.notRemoteIpBlocks?.filter(isAddress),
  });
}

function operationOf(operation: AuthorizationOperation): OperationMatch {
  return kept({
    hosts: operation.hosts,
    notHosts: operation.notHosts,
    ports: operation.ports?.filter(isPort),
    notPorts: operation.notPorts?.filter(isPort),
    methods: operation.methods,
    notMethods: operation.notMethods,
    paths: operation.paths,
    notPaths: operation.notPaths,
  });
}

function isUsable(source: AuthorizationSource | undefined): boolean {
  const { requestPrincipals, notRequestPrincipals, trustDomains, notTrustDomains } = source ?? {};
  if ([requestPrincipals, notRequestPrincipals, trustDomains, notTrustDomains].some((list) => list?.length))
    return false;
  return (["ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks"] as const).every((list) =>
    (source?.[list] ?? []).every(isAddress),
  );
}

function hasPorts(operation: AuthorizationOperation | undefined): boolean {
  return [...(operation?.ports ?? []), ...(operation?.notPorts ?? [])].every(isPort);
}

function isPort(text: string): boolean {
  return /^\d+$/.test(text) && Number(text) <= 65_535;
}

/** Without the lists that are empty or not there. */
function kept<T extends object = object>(
  lists: Record<string, readonly string[] | undefined>,
  more = {} as T,
): T & Record<string, readonly string[]> {
  const entries = Object.entries(lists).filter((entry): entry is [string, readonly string[]] =>
    Boolean(entry[1]?.length),
  );
  return { ...more, ...Object.fromEntries(entries) };
}

/**
 * A principal of our trust domain, or of an alias, counts in all of them; `cluster.local` always means our own. Source:
 * Istio `trustdomain.Bundle.ReplaceTrustDomainAliases`.
 */
export function withAliases(principals: readonly string[], mesh: MeshSettings): string[] {
  const domains = [mesh.trustDomain, ...mesh.trustDomainAliases];
  return principals.flatMap((principal) => {
    const slash = principal.indexOf("/");
    if (slash < 0) return [principal];
    const domain = principal.slice(0, slash);
    const rest = principal.slice(slash);
    if (domain === "*" || !(domains.includes(domain) || domain === "cluster.local")) return [principal];
    return [...new Set(domains)].map((each) => `${each}${rest}`);
  });
}
