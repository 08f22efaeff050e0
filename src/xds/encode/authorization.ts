/**
 * AuthorizationPolicies as Envoy's role based access control, before HTTP requests and before TCP connections.
 * The translation is Istio's (`pilot/pkg/security/authz/model`): what a field of HTTP says about a TCP connection is
 * unknown, so an ALLOW rule with one never holds there, and a DENY rule holds without it.
 */
import type { Permission, Principal } from "#protocols/envoy/config/rbac/v3/rbac.ts";
import { RBAC as HttpRbac } from "#protocols/envoy/extensions/filters/http/rbac/v3/rbac.ts";
import { RBAC as NetworkRbac } from "#protocols/envoy/extensions/filters/network/rbac/v3/rbac.ts";
import type {
  Authorization,
  AuthorizationRule,
  ConditionMatch,
  OperationMatch,
  SourceMatch,
  StringMatch,
} from "../../traffic/index.ts";
import { cidr, escapeRegex, headerMatcher, stringMatcher } from "./match.ts";
import { pack } from "./pack.ts";

/** HTTP filters, in the order in which they are asked. */
export function httpAuthorization(authorizations: readonly Authorization[]) {
  return enforced(authorizations).map((authorization) => ({
    name: "envoy.filters.http.rbac",
    configType: {
      $case: "typedConfig" as const,
      value: pack("envoy.extensions.filters.http.rbac.v3.RBAC", HttpRbac, {
        rules: rulesOf(authorization, "http"),
      }),
    },
  }));
}

/** Network filters, in the order in which they are asked. */
export function networkAuthorization(authorizations: readonly Authorization[], statPrefix: string) {
  return enforced(authorizations).map((authorization) => ({
    name: "envoy.filters.network.rbac",
    configType: {
      $case: "typedConfig" as const,
      value: pack("envoy.extensions.filters.network.rbac.v3.RBAC", NetworkRbac, {
        rules: rulesOf(authorization, "tcp"),
        statPrefix: `${statPrefix}.`,
      }),
    },
  }));
}

/** AUDIT asks a plugin that is not there: it changes nothing about a request. */
function enforced(authorizations: readonly Authorization[]) {
  return authorizations.filter(({ action }) => action !== "audit");
}

type Layer = "http" | "tcp";

function rulesOf({ action, policies }: Authorization, layer: Layer) {
  const deny = action === "deny";
  const named = policies.flatMap(({ name, rules }) =>
    rules.flatMap((rule, i) => {
      const policy = policyOf(rule, layer, deny);
      return policy ? [[`${name}-rule[${i}]`, policy] as const] : [];
    }),
  );
  return { action: deny ? (1 as const) : (0 as const), policies: Object.fromEntries(named) };
}

/** Thrown inside a rule of ALLOW that asks a TCP connection for something of HTTP: the rule never holds. */
const never = Symbol("never");

function policyOf(rule: AuthorizationRule, layer: Layer, deny: boolean) {
  const onlyHttp = <T>(made: () => T): T[] => {
    if (layer === "http") return [made()];
    if (deny) return [];
    throw never;
  };
  try {
    const conditions = rule.when.map((condition) => conditionOf(condition, onlyHttp));
    const permissions = [
      ...(rule.to.length > 0 ? [anyPermission(rule.to.map((to) => operationOf(to, onlyHttp)))] : []),
      ...conditions.flatMap(({ permission }) => permission ?? []),
      ...(rule.within ? [operationOf(rule.within, onlyHttp)] : []),
    ];
    const principals = [
      ...(rule.from.length > 0 ? [anyPrincipal(rule.from.map((from) => sourceOf(from)))] : []),
      ...conditions.flatMap(({ principal }) => principal ?? []),
    ];
    return { permissions: [allPermissions(permissions)], principals: [allPrincipals(principals)] };
  } catch (reason) {
    if (reason === never) return undefined;
    throw reason;
  }
}

type HttpOnly = <T>(made: () => T) => T[];

/** `exact`, `prefix*`, `*suffix`, or `*` for anything that is not empty. */
function wild(value: string, head = ""): Exclude<StringMatch, { kind: "present" }> {
  if (value === "*") return { kind: "regex", value: ".+" };
  if (value.endsWith("*")) return { kind: "prefix", value: head + value.slice(0, -1) };
  if (!value.startsWith("*")) return { kind: "exact", value: head + value };
  if (head === "") return { kind: "suffix", value: value.slice(1) };
  return { kind: "regex", value: `${escapeRegex(head)}.*${escapeRegex(value.slice(1))}` };
}

// ---------------------------------------------------------------------------------------------- principals

type PrincipalOf<T> = (value: T) => Principal;

const authenticated: PrincipalOf<Exclude<StringMatch, { kind: "present" }>> = (match) => ({
  identifier: { $case: "authenticated", value: { principalName: stringMatcher(match) as never } },
});

const fromPrincipal: PrincipalOf<string> = (value) => authenticated(wild(value, "spiffe://"));
const fromNamespace: PrincipalOf<string> = (value) =>
  authenticated({ kind: "regex", value: `.*/ns/${wildRegex(value)}/.*` });
const fromServiceAccount: PrincipalOf<string> = (value) => {
  const [namespace = "", name = ""] = value.split("/");
  return authenticated({
    kind: "regex",
    value: `spiffe://.*/ns/${escapeRegex(namespace)}/sa/${escapeRegex(name)}`,
  });
};
const fromTrustDomain: PrincipalOf<string> = (value) =>
  authenticated({ kind: "regex", value: `spiffe://${wildRegex(value)}/.*` });
const fromAddress: PrincipalOf<string> = (value) => ({
  identifier: { $case: "directRemoteIp", value: cidr(value) },
});
const fromRemoteAddress: PrincipalOf<string> = (value) => ({
  identifier: { $case: "remoteIp", value: cidr(value) },
});

/** Inside of a path's part, `*` stands for what has no slash. */
function wildRegex(value: string): string {
  return value.split("*").map(escapeRegex).join("[^/]*");
}

function sourceOf(source: SourceMatch): Principal {
  return allPrincipals([
    ...oneOf(source.principals, source.notPrincipals, fromPrincipal),
    ...oneOf(source.namespaces, source.notNamespaces, fromNamespace),
    ...oneOf(source.serviceAccounts, source.notServiceAccounts, fromServiceAccount),
    ...oneOf(source.trustDomains, source.notTrustDomains, fromTrustDomain),
    ...oneOf(source.ipBlocks, source.notIpBlocks, fromAddress),
    ...oneOf(source.remoteIpBlocks, source.notRemoteIpBlocks, fromRemoteAddress),
  ]);
}

function oneOf(
  values: readonly string[] | undefined,
  notValues: readonly string[] | undefined,
  make: PrincipalOf<string>,
): Principal[] {
  return [
    ...(values?.length ? [anyPrincipal(values.map(make))] : []),
    ...(notValues?.length ? [notPrincipal(anyPrincipal(notValues.map(make)))] : []),
  ];
}

const notPrincipal = (value: Principal): Principal => ({ identifier: { $case: "notId", value } });
const anyPrincipal = (ids: Principal[]): Principal =>
  ids.length === 1 ? ids[0]! : { identifier: { $case: "orIds", value: { ids } } };
const allPrincipals = (ids: Principal[]): Principal =>
  ids.length === 0
    ? { identifier: { $case: "any", value: true } }
    : ids.length === 1
      ? ids[0]!
      : { identifier: { $case: "andIds", value: { ids } } };

// --------------------------------------------------------------------------------------------- permissions

type PermissionOf = (value: string) => Permission;

const header = (name: string, value: string, ignoreCase = false) =>
  headerMatcher({ name, match: { ...wild(value), ignoreCase }, invert: false }) as never;
const toHost: PermissionOf = (value) => ({
  rule: { $case: "header", value: header(":authority", value, true) },
});
const toMethod: PermissionOf = (value) => ({ rule: { $case: "header", value: header(":method", value) } });
const toPath: PermissionOf = (value) => ({
  rule: {
    $case: "urlPath",
    value: { rule: { $case: "path", value: stringMatcher(pathMatch(value)) as never } },
  },
});
const toPort: PermissionOf = (value) => ({ rule: { $case: "destinationPort", value: Number(value) } });

/** Besides the usual, `{*}` for one part of a path and `{**}` for any number of them. */
function pathMatch(value: string): Exclude<StringMatch, { kind: "present" }> {
  if (!/\{\*\*?\}/.test(value)) return wild(value);
  const parts = value
    .split(/(\{\*\*?\})/)
    .map((part) => (part === "{*}" ? "[^/]+" : part === "{**}" ? ".*" : escapeRegex(part)));
  return { kind: "regex", value: parts.join("") };
}

function operationOf(to: OperationMatch, onlyHttp: HttpOnly): Permission {
  const values = (
    list: readonly string[] | undefined,
    not: readonly string[] | undefined,
    make: PermissionOf,
  ) => [
    ...(list?.length ? [anyPermission(list.map(make))] : []),
    ...(not?.length ? [notPermission(anyPermission(not.map(make)))] : []),
  ];
  const http = (
    list: readonly string[] | undefined,
    not: readonly string[] | undefined,
    make: PermissionOf,
  ) => (list?.length || not?.length ? onlyHttp(() => values(list, not, make)).flat() : []);
  return allPermissions([
    ...http(to.hosts, to.notHosts, toHost),
    ...values(to.ports, to.notPorts, toPort),
    ...http(to.methods, to.notMethods, toMethod),
    ...http(to.paths, to.notPaths, toPath),
  ]);
}

const notPermission = (value: Permission): Permission => ({ rule: { $case: "notRule", value } });
const anyPermission = (rules: Permission[]): Permission =>
  rules.length === 1 ? rules[0]! : { rule: { $case: "orRules", value: { rules } } };
const allPermissions = (rules: Permission[]): Permission =>
  rules.length === 0
    ? { rule: { $case: "any", value: true } }
    : rules.length === 1
      ? rules[0]!
      : { rule: { $case: "andRules", value: { rules } } };

// ---------------------------------------------------------------------------------------------- conditions

interface Condition {
  principal?: Principal[];
  permission?: Permission[];
}

function conditionOf({ key, values, notValues }: ConditionMatch, onlyHttp: HttpOnly): Condition {
  const principals = (make: PrincipalOf<string>): Condition => ({
    principal: oneOf(values, notValues, make),
  });
  const permissions = (make: PermissionOf): Condition => ({
    permission: [
      ...(values?.length ? [anyPermission(values.map(make))] : []),
      ...(notValues?.length ? [notPermission(anyPermission(notValues.map(make)))] : []),
    ],
  });
  const name = /^request\.headers\[(.+)\]$/.exec(key)?.[1];
  if (name !== undefined) {
    return (
      onlyHttp(() =>
        principals((value) => ({ identifier: { $case: "header", value: header(name, value) } })),
      )[0] ?? {}
    );
  }
  switch (key) {
    case "source.ip":
      return principals(fromAddress);
    case "remote.ip":
      return principals(fromRemoteAddress);
    case "source.namespace":
      return principals(fromNamespace);
    case "source.principal":
      return principals(fromPrincipal);
    case "source.serviceAccount":
      return principals(fromServiceAccount);
    case "destination.ip":
      return permissions((value) => ({ rule: { $case: "destinationIp", value: cidr(value) } }));
    case "destination.port":
      return permissions(toPort);
    case "connection.sni":
      return permissions((value) => ({
        rule: { $case: "requestedServerName", value: stringMatcher(wild(value)) as never },
      }));
    default:
      // Unknown: `traffic/` says so to the author. An ALLOW rule never holds, a DENY rule holds without it.
      return (
        onlyHttp(() => ({ permission: [notPermission({ rule: { $case: "any", value: true } })] }))[0] ?? {}
      );
  }
}
