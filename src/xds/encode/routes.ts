/** Route tables as Envoy's RouteConfigurations (RDS, or inside of a listener), put together from encoded virtual hosts. */
import { RouteConfiguration } from "#protocols/envoy/config/route/v3/route.ts";
import { VirtualHost } from "#protocols/envoy/config/route/v3/route_components.ts";
import { CorsPolicy } from "#protocols/envoy/extensions/filters/http/cors/v3/cors.ts";
import { HTTPFault } from "#protocols/envoy/extensions/filters/http/fault/v3/fault.ts";
import { PreviousHostsPredicate } from "#protocols/envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.ts";
import { PreviousPrioritiesConfig } from "#protocols/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config.ts";
import type { Any } from "#protocols/google/protobuf/any.ts";
import type {
  Cors,
  Fault,
  Forward,
  HashPolicy,
  HeaderChanges,
  VirtualHost as Host,
  LocalRateLimit,
  Redirect,
  Retries,
  Route,
  RouteMatch,
  RouteTable,
  WeightedUpstream,
} from "../../traffic/index.ts";
import { escapeRegex, headerMatcher, queryMatcher, regex, stringMatcher } from "./match.ts";
import { duration, encode, encoded, fraction, once, originMetadata, pack } from "./pack.ts";
import { handlerActions, routeActions, routeRateLimit, routeRateLimitConfig } from "./rate-limits.ts";

export const encodeRouteTable = once((table: RouteTable) =>
  encoded("route", table.name, routeConfiguration(table, table.rateLimits)),
);

/** A virtual host's bytes; also what it costs when a table has thousands and one of them changes. */
const encodeHost = once((host: Host) => encode(VirtualHost, virtualHost(host)));

/** The bytes of the table. `limits` are those of the handler that it is part of. */
export function routeConfiguration(table: RouteTable, limits: readonly LocalRateLimit[] = []): Buffer {
  const { name, virtualHosts, unknown } = table;
  const head = encode(RouteConfiguration, {
    name,
    // A route to a cluster that is not there is answered with 503, as Istio does.
    validateClusters: false,
    maxDirectResponseBodySizeBytes: maxBody,
    // Where no host is named with a port, the port in the Host header does not count.
    ignorePortInHostMatching: !virtualHosts.some(({ domains }) => domains.some(namesPort)),
    // What sidecars tell each other is no application's, and what a client says of itself counts for nothing. The
    // embedded proxy reads its peers before it routes, and adds its own after.
    requestHeadersToRemove: peerHeaders,
  });
  const actions = handlerActions(limits);
  const hosts = actions.length
    ? virtualHosts.map((host) => encode(VirtualHost, { ...virtualHost(host), rateLimits: actions }))
    : virtualHosts.map(encodeHost);
  const catchAll = virtualHosts.some(({ domains }) => domains.includes("*"))
    ? undefined
    : unknownHosts[unknown];
  const parts: Uint8Array[] = [head];
  for (const host of catchAll ? [...hosts, catchAll] : hosts) {
    parts.push(lengthDelimited(2, host.length), host); // virtual_hosts = 2
  }
  return Buffer.concat(parts);
}

const peerHeaders = ["x-envoy-peer-metadata", "x-envoy-peer-metadata-id"];

/** Envoy's limit of direct responses is 4 KiB unless told; Istio's is 1 MiB. */
const maxBody = 1_048_576;

const namesPort = (domain: string) => /[^:]:\d+$/.test(domain);

function lengthDelimited(field: number, length: number): Buffer {
  const bytes = [(field << 3) | 2];
  let rest = length;
  while (rest > 0x7f) {
    bytes.push((rest & 0x7f) | 0x80);
    rest >>>= 7;
  }
  bytes.push(rest);
  return Buffer.from(bytes);
}

const catchAll = (name: string, action: object) =>
  encode(VirtualHost, {
    name,
    domains: ["*"],
    routes: [{ name, match: { pathSpecifier: { $case: "prefix", value: "/" } }, ...action }],
    includeRequestAttemptCount: true,
  });

/** The virtual hosts for names that nobody has, named as Istio does. */
const unknownHosts = {
  passthrough: catchAll("allow_any", {
    action: {
      $case: "route",
      value: {
        clusterSpecifier: { $case: "cluster", value: "PassthroughCluster" },
        timeout: duration(0),
      },
    },
  }),
  block: catchAll("block_all", { action: { $case: "directResponse", value: { status: 502 } } }),
  "not-found": undefined,
} as const;

function virtualHost({ name, domains, routes, requireTls }: Host) {
  return {
    name,
    domains: [...domains],
    routes: routes.map(routeOf),
    requireTls: requireTls ? (2 as const) : (0 as const), // ALL
    includeRequestAttemptCount: true,
  };
}

function routeOf(route: Route) {
  const metadata = originMetadata(route.origins, "VirtualService");
  return {
    name: route.name,
    match: matchOf(route.match),
    action: actionOf(route),
    ...(metadata && { metadata }),
    ...headerChanges(route.requestHeaders, route.responseHeaders),
    typedPerFilterConfig: filterConfigs(route),
  };
}

function matchOf({ path, headers, query }: RouteMatch) {
  return {
    ...pathOf(path),
    headers: headers.map(headerMatcher),
    queryParameters: query.map(queryMatcher),
  };
}

function pathOf(path: RouteMatch["path"]) {
  const specifier = <K extends string, V>($case: K, value: V) => ({ pathSpecifier: { $case, value } });
  if (path.kind === "present") return specifier("prefix", "/");
  if (path.kind === "path-prefix") {
    const prefix = path.value.replace(/\/+$/, "");
    return prefix === "" ? specifier("prefix", "/") : specifier("pathSeparatedPrefix", prefix);
  }
  switch (path.kind) {
    case "exact":
      return { ...specifier("path", path.value), caseSensitive: !path.ignoreCase };
    case "prefix":
      return { ...specifier("prefix", path.value), caseSensitive: !path.ignoreCase };
    case "regex":
      return specifier("safeRegex", regex(path.value, path.ignoreCase));
    case "suffix":
      return specifier("safeRegex", regex(`.*${escapeRegex(path.value)}`, path.ignoreCase));
    case "contains":
      return specifier("safeRegex", regex(`.*${escapeRegex(path.value)}.*`, path.ignoreCase));
  }
}

function actionOf({ action, match, rateLimits }: Route) {
  switch (action.kind) {
    case "forward":
      return action.clusters.length > 0
        ? { $case: "route" as const, value: forwardOf(action, match, rateLimits) }
        : { $case: "directResponse" as const, value: { status: 503 } };
    case "redirect":
      return { $case: "redirect" as const, value: redirectOf(action) };
    case "respond":
      return {
        $case: "directResponse" as const,
        value: {
          status: action.status,
          ...(action.body !== undefined && {
            body: { specifier: { $case: "inlineString" as const, value: action.body } },
          }),
        },
      };
  }
}

/** envoy.config.route.v3.RedirectAction.RedirectResponseCode */
const redirectCodes: Readonly<Record<number, 0 | 1 | 2 | 3 | 4>> = { 301: 0, 302: 1, 303: 2, 307: 3, 308: 4 };

function redirectOf({ scheme, authority, port, path, status }: Redirect) {
  const rewritten = path && ("full" in path ? path.full : undefined);
  return {
    ...(scheme && { schemeRewriteSpecifier: { $case: "schemeRedirect" as const, value: scheme } }),
    hostRedirect: authority ?? "",
    portRedirect: port ?? 0,
    ...(path && {
      pathRewriteSpecifier:
        rewritten !== undefined
          ? { $case: "pathRedirect" as const, value: rewritten }
          : { $case: "prefixRewrite" as const, value: (path as { prefix: string }).prefix },
    }),
    responseCode: redirectCodes[status] ?? 0,
  };
}

function forwardOf(action: Forward, match: RouteMatch, rateLimits: readonly LocalRateLimit[]) {
  const { timeout, idleTimeout, retries, rewrite, mirrors, hash } = action;
  return {
    clusterSpecifier: clustersOf(action.clusters),
    timeout: duration(timeout),
    ...(idleTimeout !== undefined && { idleTimeout: duration(idleTimeout) }),
    ...(retries && { retryPolicy: retryPolicy(retries) }),
    ...(rewrite?.path && pathRewrite(rewrite.path, match)),
    ...(rewrite?.authority && {
      hostRewriteSpecifier: { $case: "hostRewriteLiteral" as const, value: rewrite.authority },
    }),
    requestMirrorPolicies: mirrors.map(({ upstream, percent }) => ({
      cluster: upstream,
      runtimeFraction: { defaultValue: fraction(percent) },
    })),
    hashPolicy: hash.map(hashPolicy),
    rateLimits: routeActions(rateLimits),
  };
}

function clustersOf(clusters: readonly WeightedUpstream[]) {
  const [only] = clusters;
  if (only && clusters.length === 1 && !changesHeaders(only)) {
    return { $case: "cluster" as const, value: only.upstream };
  }
  const total = clusters.reduce((sum, { weight }) => sum + weight, 0);
  return {
    $case: "weightedClusters" as const,
    value: {
      clusters: clusters.map(({ upstream, weight, requestHeaders, responseHeaders }) => ({
        name: upstream,
        // Envoy wants a sum above zero; all zero means all alike here.
        weight: total > 0 ? weight : 1,
        ...headerChanges(requestHeaders, responseHeaders),
      })),
    },
  };
}

function changesHeaders({ requestHeaders, responseHeaders }: WeightedUpstream): boolean {
  return [requestHeaders, responseHeaders].some(
    ({ set, add, remove }) => set.length + add.length + remove.length > 0,
  );
}

function headerChanges(request: HeaderChanges, response: HeaderChanges) {
  return {
    requestHeadersToAdd: headersToAdd(request),
    requestHeadersToRemove: [...request.remove],
    responseHeadersToAdd: headersToAdd(response),
    responseHeadersToRemove: [...response.remove],
  };
}

function headersToAdd({ set, add }: HeaderChanges) {
  const option =
    (appendAction: 0 | 2) =>
    ([key, value]: readonly [string, string]) => ({ header: { key, value }, appendAction });
  return [...set.map(option(2)), ...add.map(option(0))];
}

function retryPolicy(retries: Retries) {
  return {
    retryOn: retries.on.join(","),
    numRetries: retries.attempts,
    ...(retries.perTryTimeout > 0 && { perTryTimeout: duration(retries.perTryTimeout) }),
    retryHostPredicate: retries.avoidPrevious
      ? [
          {
            name: "envoy.retry_host_predicates.previous_hosts",
            configType: {
              $case: "typedConfig" as const,
              value: pack(
                "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
                PreviousHostsPredicate,
                {},
              ),
            },
          },
        ]
      : [],
    ...(retries.otherLocalities && {
      retryPriority: {
        name: "envoy.retry_priorities.previous_priorities",
        configType: {
          $case: "typedConfig" as const,
          value: pack(
            "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
            PreviousPrioritiesConfig,
            { updateFrequency: 2 }, // Istio's
          ),
        },
      },
    }),
    hostSelectionRetryMaxAttempts: retries.hostSelectionAttempts,
    retriableStatusCodes: [...retries.statusCodes],
    retryBackOff: {
      baseInterval: duration(retries.backoff.base),
      maxInterval: duration(Math.max(retries.backoff.base, retries.backoff.max)),
    },
  };
}

type PathRewrite = NonNullable<NonNullable<Forward["rewrite"]>["path"]>;

function pathRewrite(path: PathRewrite, match: RouteMatch) {
  const byRegex = (pattern: string, substitution: string) => ({
    regexRewrite: { pattern: regex(pattern), substitution },
  });
  // In a substitution, `\1` is a group.
  const literal = (text: string) => text.replace(/\\/g, "\\\\");
  if ("regex" in path) return byRegex(path.regex, path.substitution);
  if ("full" in path) return byRegex("/.*", literal(path.full));
  // The matched part is replaced; `/v1` by `/` must not make `//x` of `/v1/x`.
  if (match.path.kind === "path-prefix" && path.prefix.endsWith("/")) {
    const prefix = escapeRegex(match.path.value.replace(/\/+$/, ""));
    return byRegex(`^${prefix}(/?)(.*)`, `${literal(path.prefix)}\\2`);
  }
  return { prefixRewrite: path.prefix };
}

function hashPolicy(policy: HashPolicy) {
  switch (policy.kind) {
    case "header":
      return { policySpecifier: { $case: "header" as const, value: { headerName: policy.name } } };
    case "query":
      return { policySpecifier: { $case: "queryParameter" as const, value: { name: policy.name } } };
    case "source-ip":
      return { policySpecifier: { $case: "connectionProperties" as const, value: { sourceIp: true } } };
    case "cookie":
      return {
        policySpecifier: {
          $case: "cookie" as const,
          value: {
            name: policy.name,
            path: policy.path,
            ...(policy.ttl !== undefined && { ttl: duration(policy.ttl) }),
          },
        },
      };
  }
}

function filterConfigs({ fault, cors, rateLimits }: Route): Record<string, Any> {
  const configs: Record<string, Any> = {};
  if (fault) {
    configs["envoy.filters.http.fault"] = pack(
      "envoy.extensions.filters.http.fault.v3.HTTPFault",
      HTTPFault,
      faultOf(fault),
    );
  }
  if (cors) {
    configs["envoy.filters.http.cors"] = pack(
      "envoy.extensions.filters.http.cors.v3.CorsPolicy",
      CorsPolicy,
      corsOf(cors),
    );
  }
  const [limit] = rateLimits;
  if (limit) configs[routeRateLimit] = routeRateLimitConfig(limit);
  return configs;
}

function faultOf({ delay, abort }: Fault) {
  return {
    ...(delay && {
      delay: {
        faultDelaySecifier: { $case: "fixedDelay" as const, value: duration(delay.milliseconds) },
        percentage: fraction(delay.percent),
      },
    }),
    ...(abort && {
      abort: {
        errorType:
          "status" in abort
            ? { $case: "httpStatus" as const, value: abort.status }
            : { $case: "grpcStatus" as const, value: abort.grpcStatus },
        percentage: fraction(abort.percent),
      },
    }),
  };
}

function corsOf(cors: Cors) {
  return {
    allowOriginStringMatch: cors.origins.flatMap((origin) =>
      origin.kind === "present" ? [] : [stringMatcher(origin)],
    ),
    allowMethods: cors.methods.join(","),
    allowHeaders: cors.headers.join(","),
    exposeHeaders: cors.exposed.join(","),
    maxAge: cors.maxAge === undefined ? "" : String(cors.maxAge),
    ...(cors.credentials !== undefined && { allowCredentials: cors.credentials }),
    filterEnabled: { defaultValue: fraction(100) },
    forwardNotMatchingPreflights: cors.forwardUnmatchedPreflights,
  };
}
