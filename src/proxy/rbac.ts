/** The rules of Envoy's rbac filters (config.rbac.v3), compiled once; of connections and of HTTP requests. */
import {
  type Permission,
  type Principal,
  type RBAC,
  RBAC_Action,
} from "#protocols/envoy/config/rbac/v3/rbac.ts";
import type { HeaderMatcher } from "#protocols/envoy/config/route/v3/route_components.ts";
import type { MetadataMatcher } from "#protocols/envoy/type/matcher/v3/metadata.ts";
import type { ValueMatcher } from "#protocols/envoy/type/matcher/v3/value.ts";
import { contains } from "../addresses/index.ts";
import { type Downstream, Unservable } from "./contract.ts";
import { compileRegex, compileStringMatcher } from "./strings.ts";
import { ipRange } from "./values.ts";

/** What is judged. For a connection without HTTP there are no headers: their matchers do not match. */
export interface RbacSubject {
  connection: Downstream;
  /** All values joined with commas; `:method`, `:authority`, `:path` among them. */
  header?(name: string): string | undefined;
  /** Without query and fragment. */
  path?: string;
  /** What x-forwarded-for says, where it is trusted; the peer's otherwise. */
  remoteIp?: string;
  metadata?: Record<string, Record<string, unknown>>;
}

export interface RbacVerdict {
  allowed: boolean;
  /** The policy that matched (the first in the order of names), if one did. */
  policy: string | undefined;
}

type Test = (subject: RbacSubject) => boolean;

/**
 * Envoy's engine: ALLOW allows what a policy matches, DENY what none matches, LOG everything. Throws Unservable, also
 * for rules on headers and paths where only connections are judged (`of`).
 */
export function compileRbac(
  rules: RBAC,
  of: "requests" | "connections" = "requests",
): (subject: RbacSubject) => RbacVerdict {
  if (of === "connections") refuseHeaders(rules);
  const policies = Object.keys(rules.policies)
    .sort()
    .map((name) => {
      const policy = rules.policies[name]!;
      if (policy.condition || policy.checkedCondition) {
        throw new Unservable(`rbac policy '${name}': CEL conditions are not served`);
      }
      const permissions = policy.permissions.map(permission);
      const principals = policy.principals.map(principal);
      return { name, matches: and([or(permissions), or(principals)]) };
    });
  const { action } = rules;
  return (subject) => {
    for (const policy of policies) {
      if (policy.matches(subject)) return { allowed: action !== RBAC_Action.DENY, policy: policy.name };
    }
    return { allowed: action !== RBAC_Action.ALLOW, policy: undefined };
  };
}

/** Walks the rules as they are written. */
function refuseHeaders(rules: unknown): void {
  if (typeof rules !== "object" || rules === null) return;
  const { $case } = rules as { $case?: string };
  if ($case === "header" || $case === "urlPath") {
    throw new Unservable(
      `Found ${$case === "header" ? "header" : "url_path"} rule, not supported by RBAC network filter`,
    );
  }
  for (const inner of Object.values(rules)) refuseHeaders(inner);
}

const or =
  (tests: readonly Test[]): Test =>
  (subject) => {
    for (const test of tests) if (test(subject)) return true;
    return false;
  };
const and =
  (tests: readonly Test[]): Test =>
  (subject) => {
    for (const test of tests) if (!test(subject)) return false;
    return true;
  };
const not =
  (test: Test): Test =>
  (subject) =>
    !test(subject);

function permission(message: Permission): Test {
  const rule = message.rule;
  switch (rule?.$case) {
    case "andRules":
      return and(rule.value.rules.map(permission));
    case "orRules":
      return or(rule.value.rules.map(permission));
    case "any":
      return () => rule.value;
    case "header":
      return headerTest(rule.value);
    case "urlPath":
      return pathTest(rule.value.rule?.value);
    case "destinationIp": {
      const range = ipRange(rule.value);
      return ({ connection }) => contains(range, connection.local.ip);
    }
    case "destinationPort":
      return ({ connection }) => connection.local.port === rule.value;
    case "destinationPortRange":
      return ({ connection }) =>
        connection.local.port >= rule.value.start && connection.local.port < rule.value.end;
    case "metadata":
      return metadataTest(rule.value);
    case "notRule":
      return not(permission(rule.value));
    case "requestedServerName": {
      const test = compileStringMatcher(rule.value);
      return ({ connection }) => test(connection.serverName ?? "");
    }
    default:
      throw new Unservable(`rbac permission '${rule?.$case ?? "none"}' is not served`);
  }
}

function principal(message: Principal): Test {
  const id = message.identifier;
  switch (id?.$case) {
    case "andIds":
      return and(id.value.ids.map(principal));
    case "orIds":
      return or(id.value.ids.map(principal));
    case "any":
      return () => id.value;
    case "authenticated":
      return authenticated(id.value.principalName && compileStringMatcher(id.value.principalName));
    case "sourceIp":
    case "directRemoteIp": {
      const range = ipRange(id.value);
      return ({ connection }) => contains(range, connection.remote.ip);
    }
    case "remoteIp": {
      const range = ipRange(id.value);
      return ({ connection, remoteIp }) => contains(range, remoteIp ?? connection.remote.ip);
    }
    case "header":
      return headerTest(id.value);
    case "urlPath":
      return pathTest(id.value.rule?.value);
    case "metadata":
      return metadataTest(id.value);
    case "filterState":
      // What Istio keeps there is the peer's principal (`io.istio.peer_principal`), from the certificate.
      if (id.value.key === "io.istio.peer_principal" && id.value.matcher?.$case === "stringMatch") {
        return authenticated(compileStringMatcher(id.value.matcher.value));
      }
      throw new Unservable(`rbac principal of filter state '${id.value.key}' is not served`);
    case "notId":
      return not(principal(id.value));
    default:
      throw new Unservable(
        `rbac principal '${(id as { $case: string } | undefined)?.$case ?? "none"}' is not served`,
      );
  }
}

/** URI SANs, else DNS SANs, else the subject: the first kind that the certificate has (Envoy's matcher). */
function authenticated(test: ((text: string) => boolean) | undefined): Test {
  return ({ connection }) => {
    const peer = connection.tls?.peer;
    if (!connection.tls) return false;
    if (!test) return peer !== undefined;
    if (!peer) return test("");
    if (peer.uris.length > 0 && peer.uris.some(test)) return true;
    if (peer.dns.length > 0 && peer.dns.some(test)) return true;
    return peer.uris.length === 0 && peer.dns.length === 0 && test(peer.subject);
  };
}

function pathTest(matcher: Parameters<typeof compileStringMatcher>[0]): Test {
  const test = compileStringMatcher(matcher);
  return ({ path }) => path !== undefined && test(path);
}

/** Envoy's HeaderMatcher, over a header's values joined with commas; undefined: there is none. */
export function compileHeaderMatcher(matcher: HeaderMatcher): (value: string | undefined) => boolean {
  const test = headerValueTest(matcher);
  return (value) => {
    const specifier = matcher.headerMatchSpecifier?.$case;
    if (specifier === undefined || specifier === "presentMatch") {
      const wanted = matcher.headerMatchSpecifier?.value ?? true;
      return ((value !== undefined) === wanted) !== matcher.invertMatch;
    }
    if (value === undefined) {
      // A missing header does not match, not even inverted, unless it counts as empty (HeaderUtility).
      if (!matcher.treatMissingHeaderAsEmpty) return false;
      return test("") !== matcher.invertMatch;
    }
    return test(value) !== matcher.invertMatch;
  };
}

function headerValueTest(matcher: HeaderMatcher): (value: string) => boolean {
  const specifier = matcher.headerMatchSpecifier;
  switch (specifier?.$case) {
    case undefined:
    case "presentMatch":
      return () => true;
    case "stringMatch":
      return compileStringMatcher(specifier.value);
    case "exactMatch":
      return (value) => value === specifier.value;
    case "prefixMatch":
      return (value) => value.startsWith(specifier.value);
    case "suffixMatch":
      return (value) => value.endsWith(specifier.value);
    case "containsMatch":
      return (value) => value.includes(specifier.value);
    case "safeRegexMatch": {
      const regex = compileRegex(specifier.value);
      return (value) => regex.test(value);
    }
    case "rangeMatch":
      return (value) =>
        /^-?\d+$/.test(value) &&
        Number(value) >= specifier.value.start &&
        Number(value) < specifier.value.end;
  }
}

function headerTest(matcher: HeaderMatcher): Test {
  const test = compileHeaderMatcher(matcher);
  const name = matcher.name.toLowerCase();
  return (subject) => subject.header !== undefined && test(subject.header(name));
}

function metadataTest(matcher: MetadataMatcher): Test {
  const path = matcher.path.map((segment) => segment.segment?.value ?? "");
  const test = valueTest(matcher.value);
  return ({ metadata, connection }) => {
    let value: unknown = (metadata ?? connection.metadata)?.[matcher.filter];
    for (const key of path) value = (value as Record<string, unknown> | undefined)?.[key];
    return test(value) !== matcher.invert;
  };
}

function valueTest(matcher: ValueMatcher | undefined): (value: unknown) => boolean {
  const pattern = matcher?.matchPattern;
  switch (pattern?.$case) {
    case "nullMatch":
      return (value) => value === null;
    case "stringMatch": {
      const test = compileStringMatcher(pattern.value);
      return (value) => typeof value === "string" && test(value);
    }
    case "boolMatch":
      return (value) => value === pattern.value;
    case "presentMatch":
      return (value) => (value !== undefined) === pattern.value;
    case "listMatch": {
      const one = pattern.value.matchPattern?.value;
      const test = valueTest(one);
      return (value) => Array.isArray(value) && value.some(test);
    }
    case "orMatch": {
      const tests = pattern.value.valueMatchers.map(valueTest);
      return (value) => tests.some((test) => test(value));
    }
    default:
      throw new Unservable(`metadata matcher '${pattern?.$case ?? "none"}' is not served`);
  }
}
