/**
 * AuthorizationPolicies that apply to a workload. Sources: Istio `security/v1/authorization_policy.proto`,
 * `pilot/pkg/security/authz/{builder,model,trustdomain}`.
 */
import { isRange } from "../addresses/index.ts";
import type {
  AuthorizationCondition,
  AuthorizationOperation,
  AuthorizationPolicy,
  AuthorizationPolicyRule,
  AuthorizationPolicySpec,
  AuthorizationSource,
  MeshSettings,
  PolicyTargetReference,
} from "../api/index.ts";
import type {
  Authorization,
  AuthorizationRule,
  ConditionMatch,
  OperationMatch,
  Origin,
  SourceMatch,
} from "./model.ts";
import { selects } from "./workloads.ts";

/** An AuthorizationPolicy, resolved. */
export interface AccessPolicy {
  namespace: string;
  name: string;
  action: "deny" | "allow" | "audit";
  selector: Readonly<Record<string, string>> | undefined;
  /** What it is for in its own namespace, instead of a selector; empty where none of it is served. */
  targets: readonly PolicyTarget[] | undefined;
  rules: readonly AuthorizationPolicyRule[];
}

/** What a policy names as its target. */
export interface PolicyTarget {
  kind: "Service" | "Gateway" | "KubeGateway";
  name: string;
}

/**
 * CUSTOM asks an authorizer that is not there: what it would be asked about is refused. (Istio, where the provider is not
 * known, refuses everything: `pilot/pkg/security/authz/builder/extauthz.go`, rbacDefaultDenyAll.)
 */
export function accessPolicyOf({ metadata, spec }: AuthorizationPolicy): AccessPolicy | undefined {
  if (metadata.deletionTimestamp) return undefined;
  const labels = spec?.selector?.matchLabels;
  return {
    namespace: metadata.namespace ?? "",
    name: metadata.name,
    action: actions[spec?.action ?? "ALLOW"],
    selector: labels && Object.keys(labels).length > 0 ? labels : undefined,
    targets: targetRefsOf(spec)?.flatMap((ref) => targetOf(ref) ?? []),
    rules: spec?.rules ?? [],
  };
}

const actions = { ALLOW: "allow", DENY: "deny", CUSTOM: "deny", AUDIT: "audit" } as const;

/** `targetRefs`, or the older `targetRef`; undefined where a policy has neither. */
export function targetRefsOf(
  spec: Pick<AuthorizationPolicySpec, "targetRef" | "targetRefs"> | undefined,
): readonly PolicyTargetReference[] | undefined {
  if (spec?.targetRefs?.length) return spec.targetRefs;
  return spec?.targetRef ? [spec.targetRef] : undefined;
}

/** Undefined for what is not served: waypoints (GatewayClass), ServiceEntries, objects of other namespaces. */
export function targetOf({
  group = "",
  kind,
  name = "",
  namespace,
}: PolicyTargetReference): PolicyTarget | undefined {
  if (namespace || !name) return undefined;
  if (kind === "Service" && (group === "" || group === "core")) return { kind: "Service", name };
  if (kind !== "Gateway") return undefined;
  if (group === "networking.istio.io") return { kind: "Gateway", name };
  return group === "gateway.networking.k8s.io" ? { kind: "KubeGateway", name } : undefined;
}

/** The pod that the policies are asked for. */
export interface Guarded {
  namespace: string;
  labels: Readonly<Record<string, string>>;
  /** Names of the Services whose pod it is: policies that target one hold for it. */
  services: readonly string[];
}

/** The policies of a namespace that name this as their target. */
export function targetedPolicies(policies: readonly AccessPolicy[], target: PolicyTarget): AccessPolicy[] {
  return policies.filter(({ targets }) =>
    targets?.some(({ kind, name }) => kind === target.kind && name === target.name),
  );
}

/** A policy, and for which of the requests that pass by. */
export interface AppliedPolicy {
  policy: AccessPolicy;
  /** Where several gateways share a listener: the hosts of the policy's own. */
  within?: OperationMatch;
}

/** The policies that hold for a workload by its labels and its Services. */
export function policiesFor(
  workload: Guarded,
  own: readonly AccessPolicy[],
  root: readonly AccessPolicy[],
  mesh: MeshSettings,
): AppliedPolicy[] {
  const all = workload.namespace === mesh.namespace ? own : [...root, ...own];
  return all
    .filter(({ namespace, selector, targets }) =>
      targets
        ? namespace === workload.namespace &&
          targets.some(({ kind, name }) => kind === "Service" && workload.services.includes(name))
        : selects(selector, workload.labels),
    )
    .map((policy) => ({ policy }));
}

/**
 * Policies by action; DENY comes first.
 * `tcp`: what only HTTP has (methods, paths, headers) cannot be seen; a rule with it never allows and always denies, as
 * Istio builds it.
 */
export function authorizationOf(
  applied: readonly AppliedPolicy[],
  mesh: MeshSettings,
  tcp: boolean,
): Authorization[] {
  return (["audit", "deny", "allow"] as const).flatMap((action): Authorization[] => {
    const mine = applied.filter(({ policy }) => policy.action === action);
    if (mine.length === 0) return [];
    const policies: Authorization["policies"][number][] = mine.map(({ policy, within }) => ({
      name: `ns[${policy.namespace}]-policy[${policy.name}]`,
      rules: policy.rules.flatMap((rule) => {
        const made = ruleFor(rule, policy, mesh, tcp);
        return made ? [{ ...made, ...(within && { within }) }] : [];
      }),
      origins: [origin(policy)],
    }));
    // A policy that allows for some hosts refuses there alone: the others are allowed, unless another refuses them.
    if (action === "allow" && mine.every(({ within }) => within))
      policies.push({
        name: "hosts of other gateways",
        rules: [{ from: [], to: mine.reduce(outside, [{}]), when: [] }],
        origins: [],
      });
    return [{ action, policies }];
  });
}

/** What is in none of the parts: of `a and not b` that is `not a`, or `b`; for all parts together. */
function outside(sofar: readonly OperationMatch[], { within }: AppliedPolicy): OperationMatch[] {
  const { hosts = [], notHosts = [] } = within ?? {};
  return sofar.flatMap((each) => [
    { ...each, notHosts: [...(each.notHosts ?? []), ...hosts] },
    ...(notHosts.length > 0 && !each.hosts ? [{ ...each, hosts: notHosts }] : []),
  ]);
}

function origin({ namespace, name }: AccessPolicy): Origin {
  return { kind: "AuthorizationPolicy", namespace, name, field: "spec.rules" };
}

/** Keys of conditions that are served. Source: Istio, "Authorization Policy Conditions". */
export const conditionKeys =
  /^(?:request\.headers\[[!#$%&'*+\-.^_`|~0-9A-Za-z]+\]|source\.(?:ip|namespace|principal)|remote\.ip|destination\.(?:ip|port)|connection\.sni)$/;

/** Whether a value can be one of the key. */
export function fits(key: string, value: string): boolean {
  if (key === "source.ip" || key === "remote.ip" || key === "destination.ip") return isRange(value);
  return key !== "destination.port" || isPort(value);
}

/** Keys of conditions that only requests have. */
const httpKey = /^request\./;

/**
 * What is not served, or says nothing, must not open anything. Of a rule that allows it narrows: a value is left out of a
 * list that names who may, an entry with it elsewhere never holds. Of a rule that denies it is as if it were not there.
 */
type Lists = Record<string, readonly string[] | undefined>;

/** The lists without what is not usable; undefined where they would let more through than the author wrote. */
function closed(
  lists: Lists,
  usable: (list: string, value: string) => boolean,
  allows: boolean,
): Lists | undefined {
  const made: Lists = {};
  for (const [name, values] of Object.entries(lists)) {
    if (!values?.length) continue;
    const good = values.filter((value) => usable(name, value));
    const whole = good.length === values.length;
    const excepts = name.startsWith("not");
    if (allows && (excepts ? !whole : good.length === 0)) return undefined;
    if (allows || whole || excepts) made[name] = good;
  }
  return made;
}

function ruleFor(
  rule: AuthorizationPolicyRule,
  policy: AccessPolicy,
  mesh: MeshSettings,
  tcp: boolean,
): AuthorizationRule | undefined {
  const allows = policy.action === "allow";
  const from = (rule.from ?? []).flatMap(
    ({ source }) => sourceOf(source ?? {}, policy.namespace, mesh, allows) ?? [],
  );
  let to = (rule.to ?? []).flatMap(({ operation }) => operationOf(operation ?? {}, allows) ?? []);
  const conditions = (rule.when ?? []).map((condition) => conditionOf(condition, mesh, allows));
  // Sources and operations are alternatives; conditions must all hold.
  if ((rule.from?.length && !from.length) || (rule.to?.length && !to.length)) return undefined;
  if (allows && conditions.includes(undefined)) return undefined;
  let when = conditions.filter((condition) => condition !== undefined);
  if (tcp) {
    const needsHttp =
      to.some(({ methods, notMethods, paths, notPaths, hosts, notHosts }) =>
        [methods, notMethods, paths, notPaths, hosts, notHosts].some((list) => list?.length),
      ) || when.some(({ key }) => httpKey.test(key));
    if (needsHttp) {
      if (allows) return undefined;
      to = to.map(({ ports, notPorts }) => ({ ...(ports && { ports }), ...(notPorts && { notPorts }) }));
      when = when.filter(({ key }) => !httpKey.test(key));
    }
  }
  return { from, to, when };
}

function sourceOf(
  source: AuthorizationSource,
  namespace: string,
  mesh: MeshSettings,
  allows: boolean,
): SourceMatch | undefined {
  const accounts = (list: readonly string[] | undefined) =>
    list?.map((each) => (each.includes("/") ? each : `${namespace}/${each}`));
  const lists = closed({ ...source } as Lists, (list, value) => usableSource(list, value), allows);
  return (
    lists &&
    kept({
      ...lists,
      principals: lists.principals && withAliases(lists.principals, mesh),
      notPrincipals: lists.notPrincipals && withAliases(lists.notPrincipals, mesh),
      serviceAccounts: accounts(lists.serviceAccounts),
      notServiceAccounts: accounts(lists.notServiceAccounts),
      trustDomains: lists.trustDomains && ownDomains(lists.trustDomains, mesh),
      notTrustDomains: lists.notTrustDomains && ownDomains(lists.notTrustDomains, mesh),
    })
  );
}

/** Nobody has a request principal: RequestAuthentication is not served. */
function usableSource(list: string, value: string): boolean {
  if (/^(?:ip|notIp|remoteIp|notRemoteIp)Blocks$/.test(list)) return isRange(value);
  return sourceLists.has(list);
}

const sourceLists: ReadonlySet<string> = new Set(
  ["Principals", "Namespaces", "ServiceAccounts", "TrustDomains"].flatMap((name) => [
    `not${name}`,
    name[0]!.toLowerCase() + name.slice(1),
  ]),
);

function operationOf(operation: AuthorizationOperation, allows: boolean): OperationMatch | undefined {
  const usable = (list: string, value: string) =>
    list === "ports" || list === "notPorts" ? isPort(value) : operationLists.has(list);
  const lists = closed({ ...operation } as Lists, usable, allows);
  return lists && kept(lists);
}

const operationLists: ReadonlySet<string> = new Set(
  ["hosts", "methods", "paths"].flatMap((name) => [name, `not${name[0]!.toUpperCase()}${name.slice(1)}`]),
);

/** Undefined: it cannot be judged. */
function conditionOf(
  { key = "", values, notValues }: AuthorizationCondition,
  mesh: MeshSettings,
  allows: boolean,
): ConditionMatch | undefined {
  if (!conditionKeys.test(key)) return undefined;
  const lists = closed({ values, notValues }, (_, value) => fits(key, value), allows);
  if (!lists) return undefined;
  const all = (list: readonly string[] | undefined) =>
    key === "source.principal" && list ? withAliases(list, mesh) : list;
  return kept({ values: all(lists.values), notValues: all(lists.notValues) }, { key });
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

/** Our own trust domain by any of its names means all of them, as in principals. */
function ownDomains(domains: readonly string[], mesh: MeshSettings): string[] {
  const own = [mesh.trustDomain, ...mesh.trustDomainAliases];
  const all = domains.flatMap((each) => (own.includes(each) || each === "cluster.local" ? own : [each]));
  return [...new Set(all)];
}

/**
 * A principal of our trust domain, or of an alias, counts in all of them; `cluster.local` always means our own. Source:
 * Istio `trustdomain.Bundle.ReplaceTrustDomainAliases`.
 */
function withAliases(principals: readonly string[], mesh: MeshSettings): string[] {
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
