/**
 * Role-based access control. Source: Kubernetes `plugin/pkg/auth/authorizer/rbac/rbac.go`,
 * `pkg/registry/rbac/validation/rule.go`.
 */
import type { ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding } from "../../../api/index.ts";
import type { UserInfo } from "../core.ts";
import { labelSelectorTest } from "../selectors.ts";
import type { Bucket, Store } from "../store/store.ts";
import type { Attributes, ResourceAttributes } from "./attributes.ts";

const group = "rbac.authorization.k8s.io";

/** Rules by who has them: `u:NAME` or `g:NAME`. */
type RulesBySubject = Map<string, PolicyRule[]>;

interface Index {
  cluster: RulesBySubject;
  byNamespace: Map<string, RulesBySubject>;
}

interface Subject {
  kind: string;
  name: string;
  namespace?: string;
}

export class Rbac {
  readonly #roles: Bucket;
  readonly #clusterRoles: Bucket;
  readonly #bindings: Bucket;
  readonly #clusterBindings: Bucket;
  #index: Index | undefined;

  constructor(store: Store) {
    this.#roles = store.bucket(`${group}/roles`);
    this.#clusterRoles = store.bucket(`${group}/clusterroles`);
    this.#bindings = store.bucket(`${group}/rolebindings`);
    this.#clusterBindings = store.bucket(`${group}/clusterrolebindings`);
  }

  /** Roles or bindings have changed: what was derived from them is made again when next asked for. */
  changed(): void {
    this.#index = undefined;
  }

  allows(user: UserInfo, attributes: Attributes): boolean {
    if (user.groups.includes("system:masters")) return true;
    const namespace = "path" in attributes ? "" : attributes.namespace;
    for (const rule of this.rulesOf(user, namespace)) {
      if (
        "path" in attributes
          ? pathMatches(rule, attributes.verb, attributes.path)
          : ruleMatches(rule, attributes)
      ) {
        return true;
      }
    }
    return false;
  }

  /** By what a user may do something; empty where it may not, or by no rule. For reviews: looks at every binding. */
  reason(user: UserInfo, attributes: Attributes): string {
    const namespace = "path" in attributes ? "" : attributes.namespace;
    const matches = (rule: PolicyRule) =>
      "path" in attributes
        ? pathMatches(rule, attributes.verb, attributes.path)
        : ruleMatches(rule, attributes);
    const by = (kind: string, of: string, objects: Iterable<unknown>): string => {
      for (const object of objects) {
        const { metadata, roleRef, subjects } = object as RoleBinding;
        if (kind === "RoleBinding" && metadata.namespace !== namespace) continue;
        const subject = (subjects ?? []).find((one) => isSubject(one, user, metadata.namespace ?? ""));
        const rules = subject && this.rulesOfRole(roleRef.kind, metadata.namespace ?? "", roleRef.name);
        if (!rules?.some(matches)) continue;
        const who =
          subject!.kind === "ServiceAccount"
            ? `${subject!.name}/${subject!.namespace || metadata.namespace}`
            : subject!.name;
        return `RBAC: allowed by ${kind} "${metadata.name}${of}" of ${roleRef.kind} "${roleRef.name}" to ${subject!.kind} "${who}"`;
      }
      return "";
    };
    return (
      by("ClusterRoleBinding", "", this.#clusterBindings.objects.values()) ||
      (namespace && by("RoleBinding", `/${namespace}`, this.#bindings.objects.values()))
    );
  }

  /** Every rule that a user has in a namespace (empty: at the cluster's scope only). */
  *rulesOf(user: UserInfo, namespace: string): Iterable<PolicyRule> {
    this.#index ??= this.#build();
    const local = namespace === "" ? undefined : this.#index.byNamespace.get(namespace);
    for (const subject of [`u:${user.name}`, ...user.groups.map((name) => `g:${name}`)]) {
      yield* this.#index.cluster.get(subject) ?? [];
      yield* local?.get(subject) ?? [];
    }
  }

  /** The rules of a role by reference; undefined when it does not exist. */
  rulesOfRole(kind: string, namespace: string, name: string): PolicyRule[] | undefined {
    if (kind === "ClusterRole") {
      const role = this.#clusterRoles.objects.get(name) as unknown as ClusterRole | undefined;
      return role && (role.rules ?? []);
    }
    const role = this.#roles.objects.get(`${namespace}/${name}`) as unknown as Role | undefined;
    return role && (role.rules ?? []);
  }

  /** The union of the rules that an aggregated ClusterRole selects, in the order of names; undefined when it is none. */
  aggregated(role: ClusterRole): PolicyRule[] | undefined {
    const selectors = role.aggregationRule?.clusterRoleSelectors;
    if (!selectors) return undefined;
    const tests = selectors.map(labelSelectorTest);
    const rules = new Map<string, PolicyRule>();
    for (const name of this.#clusterRoles.keys()) {
      const other = this.#clusterRoles.objects.get(name) as unknown as ClusterRole;
      if (name === role.metadata.name || !tests.some((test) => test(other.metadata.labels))) continue;
      for (const rule of other.rules ?? []) rules.set(JSON.stringify(rule), rule);
    }
    return [...rules.values()];
  }

  #build(): Index {
    const index: Index = { cluster: new Map(), byNamespace: new Map() };
    for (const object of this.#clusterBindings.objects.values()) {
      const binding = object as unknown as ClusterRoleBinding;
      const rules = this.rulesOfRole("ClusterRole", "", binding.roleRef.name);
      if (rules) grant(index.cluster, binding.subjects ?? [], rules, "");
    }
    for (const object of this.#bindings.objects.values()) {
      const binding = object as unknown as RoleBinding;
      const namespace = binding.metadata.namespace!;
      const rules = this.rulesOfRole(binding.roleRef.kind, namespace, binding.roleRef.name);
      if (!rules) continue;
      const local: RulesBySubject = index.byNamespace.get(namespace) ?? new Map();
      index.byNamespace.set(namespace, local);
      grant(local, binding.subjects ?? [], rules, namespace);
    }
    return index;
  }
}

function isSubject(subject: Subject, user: UserInfo, namespace: string): boolean {
  if (subject.kind === "Group") return user.groups.includes(subject.name);
  if (subject.kind !== "ServiceAccount") return user.name === subject.name;
  return user.name === `system:serviceaccount:${subject.namespace || namespace}:${subject.name}`;
}

function grant(
  to: RulesBySubject,
  subjects: readonly Subject[],
  rules: PolicyRule[],
  namespace: string,
): void {
  for (const subject of subjects) {
    const key =
      subject.kind === "ServiceAccount"
        ? `u:system:serviceaccount:${subject.namespace || namespace}:${subject.name}`
        : subject.kind === "Group"
          ? `g:${subject.name}`
          : `u:${subject.name}`;
    const held = to.get(key);
    if (held) held.push(...rules);
    else to.set(key, [...rules]);
  }
}

const listed = (list: readonly string[] | undefined, item: string) =>
  list?.includes("*") === true || list?.includes(item) === true;

/** Whether a rule allows something with objects. */
export function ruleMatches(rule: PolicyRule, attributes: ResourceAttributes): boolean {
  const { verb, group, resource, subresource, name } = attributes;
  if (!listed(rule.verbs, verb) || !listed(rule.apiGroups, group)) return false;
  const combined = subresource === "" ? resource : `${resource}/${subresource}`;
  const known =
    listed(rule.resources, combined) || (subresource !== "" && rule.resources?.includes(`*/${subresource}`));
  if (!known) return false;
  return !rule.resourceNames?.length || rule.resourceNames.includes(name);
}

function pathMatches(rule: PolicyRule, verb: string, path: string): boolean {
  if (!listed(rule.verbs, verb)) return false;
  return (rule.nonResourceURLs ?? []).some(
    (url) => url === "*" || url === path || (url.endsWith("*") && path.startsWith(url.slice(0, -1))),
  );
}

/**
 * The parts of `wanted` that `held` does not cover: nobody may grant what they do not have.
 * Each wanted rule is broken into single verbs, groups, resources and names.
 */
export function uncovered(wanted: readonly PolicyRule[], held: readonly PolicyRule[]): PolicyRule[] {
  const missing: PolicyRule[] = [];
  for (const rule of wanted) {
    for (const verb of rule.verbs ?? []) {
      for (const url of rule.nonResourceURLs ?? []) {
        const covered = held.some(
          (own) =>
            listed(own.verbs, verb) &&
            (own.nonResourceURLs ?? []).some(
              (has) => has === "*" || has === url || (has.endsWith("*") && url.startsWith(has.slice(0, -1))),
            ),
        );
        if (!covered) missing.push({ verbs: [verb], nonResourceURLs: [url] });
      }
      for (const apiGroup of rule.apiGroups ?? []) {
        for (const resource of rule.resources ?? []) {
          for (const name of rule.resourceNames?.length ? rule.resourceNames : [undefined]) {
            if (!held.some((own) => covers(own, verb, apiGroup, resource, name))) {
              missing.push({
                verbs: [verb],
                apiGroups: [apiGroup],
                resources: [resource],
                ...(name !== undefined && { resourceNames: [name] }),
              });
            }
          }
        }
      }
    }
  }
  return missing;
}

function covers(
  own: PolicyRule,
  verb: string,
  apiGroup: string,
  resource: string,
  name: string | undefined,
): boolean {
  if (!listed(own.verbs, verb) || !listed(own.apiGroups, apiGroup)) return false;
  const [, subresource] = resource.split("/");
  const known =
    listed(own.resources, resource) || (subresource && own.resources?.includes(`*/${subresource}`));
  if (!known) return false;
  return !own.resourceNames?.length || (name !== undefined && own.resourceNames.includes(name));
}
