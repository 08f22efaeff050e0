/**
 * Roles and bindings on their way in: nobody grants what they do not have, a binding's role is for ever, aggregated
 * roles follow what they select. Source: Kubernetes `pkg/registry/rbac`, `policybased``, `pkg/controller/clusterroleaggregation`.
 */
import type { ClusterRole, PolicyRule } from "../../../api/index.ts";
import { apiServerUser } from "../bootstrap.ts";
import type { Core, UserInfo } from "../core.ts";
import { type ApiObject, asRecord, clone, sameJson } from "../object.ts";
import { asStruct } from "../schema/index.ts";
import type { GroupName } from "../status.ts";
import { forbidden, invalid, notFound } from "../status.ts";
import type { Strategy, WriteFacts } from "../strategies.ts";
import { replace } from "../write.ts";
import { type Rbac, uncovered } from "./rbac.ts";

const group = "rbac.authorization.k8s.io";

export function rbacStrategies(rbac: Rbac): [string, Strategy][] {
  const stored = (core: Core) => {
    rbac.changed();
    aggregateSoon(core, rbac);
  };
  const role = (plural: string): Strategy => ({
    allocate(_, object, current, facts) {
      if (current && sameJson(current.rules, object.rules)) return;
      mayGrant(
        rbac,
        facts,
        { group, name: plural },
        object,
        (object.rules ?? []) as PolicyRule[],
        "escalate",
      );
    },
    stored,
  });
  const binding = (plural: string): Strategy => ({
    allocate(_, object, current, facts) {
      if (current && !sameJson(current.roleRef, object.roleRef)) {
        throw invalid({ group, name: object.kind }, object.metadata.name, [
          {
            field: "roleRef",
            type: "FieldValueInvalid",
            value: internalRef(asRecord(object.roleRef) ?? {}),
            detail: "cannot change roleRef",
          },
        ]);
      }
      if (current && sameJson(current.subjects, object.subjects)) return;
      const ref = asRecord(object.roleRef) ?? {};
      const rules = rbac.rulesOfRole(String(ref.kind), object.metadata.namespace ?? "", String(ref.name));
      mayBind(rbac, facts, { group, name: plural }, object, ref, rules);
    },
    stored,
  });
  return [
    [`${group}/roles`, role("roles")],
    [`${group}/clusterroles`, role("clusterroles")],
    [`${group}/rolebindings`, binding("rolebindings")],
    [`${group}/clusterrolebindings`, binding("clusterrolebindings")],
  ];
}

/** A reference as Kubernetes' internal type shows it. */
const internalRef = ({ apiGroup, kind, name }: Record<string, unknown>) =>
  asStruct({ APIGroup: apiGroup, Kind: kind, Name: name });

function mayGrant(
  rbac: Rbac,
  { user }: WriteFacts,
  of: GroupName,
  object: ApiObject,
  rules: readonly PolicyRule[],
  verb: "escalate" | "bind",
): void {
  const namespace = object.metadata.namespace ?? "";
  const resource = verb === "escalate" ? of.name : "";
  if (verb === "escalate" && allowed(rbac, user, verb, resource, namespace, object.metadata.name)) return;
  const missing = uncovered(rules, [...rbac.rulesOf(user, namespace)]);
  if (missing.length === 0) return;
  throw forbidden(
    of,
    object.metadata.name,
    `user ${JSON.stringify(user.name)} (groups=${JSON.stringify(user.groups)}) is attempting to grant RBAC permissions not currently held:\n${missing.map(ruleText).join("\n")}`,
  );
}

function mayBind(
  rbac: Rbac,
  facts: WriteFacts,
  of: GroupName,
  object: ApiObject,
  ref: Record<string, unknown>,
  rules: readonly PolicyRule[] | undefined,
): void {
  const { user } = facts;
  const namespace = object.metadata.namespace ?? "";
  const resource = ref.kind === "ClusterRole" ? "clusterroles" : "roles";
  if (allowed(rbac, user, "bind", resource, namespace, String(ref.name))) return;
  if (!rules) {
    throw notFound(of, String(ref.name));
  }
  mayGrant(rbac, facts, of, object, rules, "bind");
}

function allowed(
  rbac: Rbac,
  user: UserInfo,
  verb: string,
  resource: string,
  namespace: string,
  name: string,
): boolean {
  return rbac.allows(user, { verb, group, resource, subresource: "", namespace, name });
}

function ruleText(rule: PolicyRule): string {
  const lists: [string, string[] | undefined][] = [
    ["APIGroups", rule.apiGroups],
    ["Resources", rule.resources],
    ["ResourceNames", rule.resourceNames],
    ["NonResourceURLs", rule.nonResourceURLs],
    ["Verbs", rule.verbs],
  ];
  return `{${lists.flatMap(([name, list]) => (list ? [`${name}:${JSON.stringify(list)}`] : [])).join(", ")}}`;
}

const waiting = new WeakSet<Rbac>();

/** Brings the rules of aggregated ClusterRoles up to date, once for all changes of this turn. */
function aggregateSoon(core: Core, rbac: Rbac): void {
  if (waiting.has(rbac)) return;
  waiting.add(rbac);
  queueMicrotask(() => {
    waiting.delete(rbac);
    const type = core.registry.get(group, "v1", "clusterroles")!;
    const write = {
      user: apiServerUser,
      dryRun: false,
      warnings: [],
      manager: "clusterrole-aggregation-controller",
    };
    for (const object of [...core.store.bucket(type.bucket).objects.values()]) {
      const rules = rbac.aggregated(object as unknown as ClusterRole);
      if (!rules || sameJson(rules, object.rules ?? [])) continue;
      replace(core, type, object, { ...clone(object), rules }, undefined, write);
    }
  });
}
