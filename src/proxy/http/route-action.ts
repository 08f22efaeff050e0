/** What a route does (RouteAction, RedirectAction, DirectResponseAction), compiled once. */
import { RoutingPriority } from "#protocols/envoy/config/core/v3/base.ts";
import {
  type DirectResponseAction,
  RouteAction_ClusterNotFoundResponseCode as NotFoundCode,
  type RedirectAction,
  RedirectAction_RedirectResponseCode as RedirectCode,
  type RetryPolicy,
  type RouteAction,
  type RouteAction_HashPolicy,
  type RouteAction_RequestMirrorPolicy,
} from "#protocols/envoy/config/route/v3/route_components.ts";
import type { RegexMatchAndSubstitute } from "#protocols/envoy/type/matcher/v3/regex.ts";
import { type Groups, replaceAll } from "../../api/index.ts";
import type { World } from "../../world/index.ts";
import { Unservable } from "../contract.ts";
import { regexOf } from "../strings.ts";
import { dataOf, milliseconds } from "../values.ts";
import { compileFilterConfigs, type FilterConfigs } from "./filter-configs.ts";
import type { RequestHead } from "./headers.ts";
import { compileMutation, type Mutation } from "./mutations.ts";
import { percentOf } from "./percent.ts";
import { compileRetry, type Retry } from "./retry-policy.ts";
import type { PathMatch } from "./route-match.ts";
import { withoutQuery } from "./route-match.ts";

/** One of the clusters that a route may choose. */
export interface Target {
  cluster: string;
  /** The header that names the cluster, instead. */
  clusterHeader: string;
  weight: number;
  requestHeaders: Mutation | undefined;
  responseHeaders: Mutation | undefined;
  hostRewrite: string | undefined;
  filters: FilterConfigs | undefined;
}

export interface Mirror {
  cluster: string;
  clusterHeader: string;
  share: number;
  keepHost: boolean;
}

export interface Forward {
  kind: "forward";
  targets: readonly Target[];
  totalWeight: number;
  notFoundStatus: number;
  /** ms; 0: none. */
  timeout: number;
  /** ms; undefined: the connection manager's; 0: none. */
  idleTimeout: number | undefined;
  maxStreamDuration: number;
  /** Follow grpc-timeout up to this, ms (0: without bound); undefined: do not. */
  grpcTimeoutMax: number | undefined;
  retry: Retry | undefined;
  mirrors: readonly Mirror[];
  priority: "default" | "high";
  hash: readonly Hash[];
  prefixRewrite: string;
  regexRewrite: Substitution | undefined;
  hostRewrite:
    | { kind: "literal"; host: string }
    | { kind: "auto" }
    | { kind: "header"; name: string }
    | { kind: "path"; substitution: Substitution }
    | undefined;
  appendForwardedHost: boolean;
  upgrades: ReadonlyMap<string, boolean>;
}

export interface Redirect {
  kind: "redirect";
  status: number;
  location(head: RequestHead, match: PathMatch): string;
}

export interface Direct {
  kind: "direct";
  status: number;
  body: Buffer | undefined;
}

export interface Hash {
  source: "header" | "cookie" | "query" | "source-ip";
  name: string;
  rewrite: Substitution | undefined;
  /** For cookies that are to be set when missing. */
  cookie: { path: string; ttl: number; attributes: string } | undefined;
  terminal: boolean;
}

/** Replaces every match of a pattern; `\1` are its groups, as in RE2. */
export type Substitution = (text: string) => string;

function compileSubstitution(rewrite: RegexMatchAndSubstitute): Substitution {
  const regex = regexOf(rewrite.pattern?.regex ?? "");
  const parts = rewrite.substitution.split(/\\([\d\\])/);
  const by = (groups: Groups) =>
    parts.map((part, i) => (i % 2 === 0 || part === "\\" ? part : (groups[Number(part)] ?? ""))).join("");
  return (text) => replaceAll(regex, text, by);
}

export function compileForward(
  action: RouteAction,
  inherited: { retry: RetryPolicy | undefined; mirrors: readonly RouteAction_RequestMirrorPolicy[] },
): Forward {
  const targets = targetsOf(action);
  const { prefixRewrite } = action;
  if (action.pathRewritePolicy) throw new Unservable("path_rewrite_policy is not served");
  if (action.hedgePolicy) throw new Unservable("hedge_policy is not served");
  if (action.metadataMatch) throw new Unservable("metadata_match is not served");
  if (action.internalRedirectPolicy) throw new Unservable("internal_redirect_policy is not served");
  const retry = action.retryPolicy ?? inherited.retry;
  const mirrors = action.requestMirrorPolicies.length > 0 ? action.requestMirrorPolicies : inherited.mirrors;
  const duration = action.maxStreamDuration;
  return {
    kind: "forward",
    targets,
    totalWeight: targets.reduce((sum, target) => sum + target.weight, 0),
    notFoundStatus:
      action.clusterNotFoundResponseCode === NotFoundCode.NOT_FOUND
        ? 404
        : action.clusterNotFoundResponseCode === NotFoundCode.INTERNAL_SERVER_ERROR
          ? 500
          : 503,
    timeout: milliseconds(action.timeout, 15_000),
    idleTimeout: action.idleTimeout && milliseconds(action.idleTimeout, 0),
    maxStreamDuration: milliseconds(duration?.maxStreamDuration, 0),
    grpcTimeoutMax: duration?.grpcTimeoutHeaderMax
      ? milliseconds(duration.grpcTimeoutHeaderMax, 0)
      : action.maxGrpcTimeout && milliseconds(action.maxGrpcTimeout, 0),
    retry: retry && compileRetry(retry),
    mirrors: mirrors.map((mirror) => ({
      cluster: mirror.cluster,
      clusterHeader: mirror.clusterHeader.toLowerCase(),
      share: percentOf(mirror.runtimeFraction?.defaultValue) ?? 1,
      keepHost: mirror.disableShadowHostSuffixAppend,
    })),
    priority: action.priority === RoutingPriority.HIGH ? "high" : "default",
    hash: action.hashPolicy.map(compileHash),
    prefixRewrite,
    regexRewrite: action.regexRewrite && compileSubstitution(action.regexRewrite),
    hostRewrite: hostRewriteOf(action),
    appendForwardedHost: action.appendXForwardedHost,
    upgrades: new Map(
      action.upgradeConfigs.map((config) => [config.upgradeType.toLowerCase(), config.enabled ?? true]),
    ),
  };
}

function targetsOf(action: RouteAction): Target[] {
  const plain = (cluster: string, clusterHeader: string): Target => ({
    cluster,
    clusterHeader: clusterHeader.toLowerCase(),
    weight: 1,
    requestHeaders: undefined,
    responseHeaders: undefined,
    hostRewrite: undefined,
    filters: undefined,
  });
  const specifier = action.clusterSpecifier;
  switch (specifier?.$case) {
    case "cluster":
      return [plain(specifier.value, "")];
    case "clusterHeader":
      return [plain("", specifier.value)];
    case "weightedClusters": {
      const targets = specifier.value.clusters.map((cluster) => ({
        ...plain(cluster.name, cluster.clusterHeader),
        weight: cluster.weight ?? 0,
        requestHeaders: compileMutation(cluster.requestHeadersToAdd, cluster.requestHeadersToRemove),
        responseHeaders: compileMutation(cluster.responseHeadersToAdd, cluster.responseHeadersToRemove),
        hostRewrite: cluster.hostRewriteSpecifier?.value,
        filters: compileFilterConfigs(cluster.typedPerFilterConfig),
      }));
      if (targets.every((target) => target.weight === 0)) {
        throw new Unservable("Sum of weights in the weighted_cluster must be greater than 0.");
      }
      return targets;
    }
    default:
      throw new Unservable(`cluster specifier '${specifier?.$case ?? "none"}' is not served`);
  }
}

function hostRewriteOf(action: RouteAction): Forward["hostRewrite"] {
  const rewrite = action.hostRewriteSpecifier;
  switch (rewrite?.$case) {
    case "hostRewriteLiteral":
      return rewrite.value === "" ? undefined : { kind: "literal", host: rewrite.value };
    case "autoHostRewrite":
      return rewrite.value ? { kind: "auto" } : undefined;
    case "hostRewriteHeader":
      return { kind: "header", name: rewrite.value.toLowerCase() };
    case "hostRewritePathRegex":
      return { kind: "path", substitution: compileSubstitution(rewrite.value) };
    default:
      return undefined;
  }
}

function compileHash(policy: RouteAction_HashPolicy): Hash {
  const { terminal } = policy;
  const base = { rewrite: undefined, cookie: undefined, terminal };
  const specifier = policy.policySpecifier;
  switch (specifier?.$case) {
    case "header": {
      const { regexRewrite, headerName } = specifier.value;
      return {
        ...base,
        source: "header",
        name: headerName.toLowerCase(),
        rewrite: regexRewrite && compileSubstitution(regexRewrite),
      };
    }
    case "cookie": {
      const { name, ttl, path, attributes } = specifier.value;
      return {
        ...base,
        source: "cookie",
        name,
        cookie: ttl && {
          path,
          ttl: ttl.seconds,
          attributes: attributes.map((a) => `; ${a.name}${a.value ? `=${a.value}` : ""}`).join(""),
        },
      };
    }
    case "queryParameter":
      return { ...base, source: "query", name: specifier.value.name };
    case "connectionProperties":
      return { ...base, source: "source-ip", name: "" };
    default:
      throw new Unservable(`hash policy '${specifier?.$case ?? "none"}' is not served`);
  }
}

// ---------------------------------------------------------------------------------- answers of our own

const redirectStatus = {
  [RedirectCode.MOVED_PERMANENTLY]: 301,
  [RedirectCode.FOUND]: 302,
  [RedirectCode.SEE_OTHER]: 303,
  [RedirectCode.TEMPORARY_REDIRECT]: 307,
  [RedirectCode.PERMANENT_REDIRECT]: 308,
} as const;

export function compileRedirect(action: RedirectAction): Redirect {
  const rewrite = action.pathRewriteSpecifier;
  const substitution = rewrite?.$case === "regexRewrite" ? compileSubstitution(rewrite.value) : undefined;
  const scheme = action.schemeRewriteSpecifier;
  const wantedScheme =
    scheme?.$case === "httpsRedirect" ? (scheme.value ? "https" : "") : (scheme?.value ?? "");
  return {
    kind: "redirect",
    status: redirectStatus[action.responseCode] ?? 301,
    location(head, match) {
      const to = wantedScheme || head.scheme;
      let host = action.hostRedirect || head.authority;
      let port = action.portRedirect ? `:${action.portRedirect}` : "";
      if (!action.hostRedirect) {
        const colon = portAt(host);
        if (colon >= 0) {
          const given = host.slice(colon);
          host = host.slice(0, colon);
          // The port stays, unless it is the default of the scheme that is left.
          const stale =
            wantedScheme !== "" &&
            ((wantedScheme === "https" && given === ":80") || (wantedScheme === "http" && given === ":443"));
          if (!port && !stale) port = given;
        }
      }
      const plain = withoutQuery(head.path);
      const query = action.stripQuery ? "" : head.path.slice(plain.length);
      let path: string;
      if (rewrite?.$case === "pathRedirect") {
        path = rewrite.value;
        if (!path.includes("?")) path += query;
      } else if (rewrite?.$case === "prefixRewrite") {
        path = rewrite.value + plain.slice(match.matchedLength(plain)) + query;
      } else if (substitution) path = substitution(plain) + query;
      else path = plain + query;
      return `${to}://${host}${port}${path}`;
    },
  };
}

/** Where the port begins (its colon) in a host, or -1; brackets of IPv6 are minded. */
export function portAt(host: string): number {
  const colon = host.lastIndexOf(":");
  return colon < 0 || host.indexOf("]", colon) >= 0 || !/^:\d+$/.test(host.slice(colon)) ? -1 : colon;
}

export function compileDirect(action: DirectResponseAction, atMost: number): Direct {
  const body = dataOf(action.body);
  if (body && body.length > atMost) {
    throw new Unservable(`response body size is ${body.length} bytes; maximum is ${atMost}`);
  }
  return { kind: "direct", status: action.status, body: body?.length ? body : undefined };
}

/** Chooses among weighted clusters. */
export function chooseTarget(forward: Forward, world: World): Target {
  const { targets } = forward;
  if (targets.length === 1) return targets[0]!;
  let left = world.random() * forward.totalWeight;
  for (const target of targets) {
    left -= target.weight;
    if (left < 0) return target;
  }
  return targets[targets.length - 1]!;
}
