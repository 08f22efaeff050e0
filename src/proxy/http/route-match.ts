/** How a route's match is tested (RouteMatch): path, headers, query parameters, share of the traffic. */
import type { QueryParameterMatcher, RouteMatch } from "#protocols/envoy/config/route/v3/route_components.ts";
import type { World } from "../../world/index.ts";
import { Unservable } from "../contract.ts";
import { compileHeaderMatcher } from "../rbac.ts";
import { compileRegex, compileStringMatcher } from "../strings.ts";
import { isGrpc } from "./grpc.ts";
import type { RequestHead } from "./headers.ts";
import { percentOf } from "./percent.ts";

/** The request as matchers see it. */
export interface Matched {
  head: RequestHead;
  /** Without query and fragment. */
  path: string;
  /** The client showed a certificate. */
  presented: boolean;
}

export type RequestTest = (request: Matched) => boolean;

/** A header's values, pseudo-headers among them. */
export function headerOf(head: RequestHead, name: string): string | undefined {
  if (name.charCodeAt(0) === 58) {
    switch (name) {
      case ":method":
        return head.method;
      case ":path":
        return head.path;
      case ":authority":
        return head.authority;
      case ":scheme":
        return head.scheme;
    }
    return undefined;
  }
  if (name === "host") return head.authority;
  return head.headers.joined(name);
}

/** What path_redirect, prefix_rewrite and the like replace: as much of the path as the match names. */
export interface PathMatch {
  test(path: string): boolean;
  /** Length of what prefix_rewrite replaces, for a path that matched. */
  matchedLength(path: string): number;
}

export function compilePath(match: RouteMatch): PathMatch {
  const specifier = match.pathSpecifier;
  const fold = match.caseSensitive === false;
  const whole = (path: string) => path.length;
  switch (specifier?.$case) {
    case "prefix": {
      const { value } = specifier;
      if (value === "/") return { test: (path) => path.charCodeAt(0) === 47, matchedLength: () => 1 };
      const length = value.length;
      if (!fold) return { test: (path) => path.startsWith(value), matchedLength: () => length };
      const lower = value.toLowerCase();
      return {
        test: (path) => path.slice(0, length).toLowerCase() === lower,
        matchedLength: () => length,
      };
    }
    case "pathSeparatedPrefix": {
      const value = fold ? specifier.value.toLowerCase() : specifier.value;
      const length = value.length;
      return {
        test: (path) =>
          (fold ? path.slice(0, length).toLowerCase() === value : path.startsWith(value)) &&
          (path.length === length || path.charCodeAt(length) === 47),
        matchedLength: () => length,
      };
    }
    case "path": {
      const { value } = specifier;
      const lower = value.toLowerCase();
      return {
        test: fold ? (path) => path.toLowerCase() === lower : (path) => path === value,
        matchedLength: whole,
      };
    }
    case "safeRegex": {
      const regex = compileRegex(specifier.value);
      return { test: (path) => regex.test(path), matchedLength: whole };
    }
    default:
      throw new Unservable(`route match '${specifier?.$case ?? "none"}' is not served`);
  }
}

/** All but the path. Undefined when there is nothing to test. */
export function compileConditions(match: RouteMatch, world: World): RequestTest | undefined {
  const tests: RequestTest[] = [];
  const share = percentOf(match.runtimeFraction?.defaultValue);
  if (share !== undefined && share < 1) tests.push(() => world.random() < share);
  if (match.grpc) tests.push(({ head }) => isGrpc(head.headers.get("content-type")));
  for (const matcher of match.headers) {
    const test = compileHeaderMatcher(matcher);
    const name = matcher.name.toLowerCase();
    tests.push(({ head }) => test(headerOf(head, name)));
  }
  for (const matcher of match.queryParameters) {
    const test = queryTest(matcher);
    tests.push(({ head }) => test(head.path));
  }
  if (match.tlsContext) {
    const { presented, validated } = match.tlsContext;
    tests.push((request) => {
      return (
        (presented === undefined || request.presented === presented) &&
        (validated === undefined || request.presented === validated)
      );
    });
  }
  if (match.dynamicMetadata.length > 0) throw new Unservable("route match by dynamic metadata is not served");
  if (tests.length === 0) return undefined;
  if (tests.length === 1) return tests[0];
  return (request) => {
    for (const test of tests) if (!test(request)) return false;
    return true;
  };
}

/** Of a path with its query. */
export function queryTest(matcher: QueryParameterMatcher): (path: string) => boolean {
  const specifier = matcher.queryParameterMatchSpecifier;
  const { name } = matcher;
  if (specifier?.$case === "stringMatch") {
    const test = compileStringMatcher(specifier.value);
    return (path) => {
      const value = queryParameter(path, name);
      return value !== undefined && test(value);
    };
  }
  const wanted = specifier?.value ?? true;
  return (path) => (queryParameter(path, name) !== undefined) === wanted;
}

/** The first parameter of that name as it is written, not decoded; undefined when there is none. */
export function queryParameter(path: string, name: string): string | undefined {
  let at = path.indexOf("?");
  if (at < 0) return undefined;
  const fragment = path.indexOf("#");
  const end = fragment < 0 ? path.length : fragment;
  while (at < end) {
    const from = at + 1;
    let to = path.indexOf("&", from);
    if (to < 0 || to > end) to = end;
    const equals = path.indexOf("=", from);
    const nameEnd = equals >= 0 && equals < to ? equals : to;
    if (nameEnd - from === name.length && path.startsWith(name, from)) {
      return nameEnd < to ? path.slice(nameEnd + 1, to) : "";
    }
    at = to;
  }
  return undefined;
}

/** The path without query and fragment. */
export function withoutQuery(path: string): string {
  for (let i = 0; i < path.length; i++) {
    const code = path.charCodeAt(i);
    if (code === 63 || code === 35) return path.slice(0, i);
  }
  return path;
}
