/** HTTP routes as people write them, in the model's words. Source: Istio `pilot/pkg/networking/core/route/route.go`. */
import { Buffer } from "node:buffer";
import type {
  Destination,
  HeaderOperations,
  HeaderRules,
  HttpMatchRequest,
  HttpRedirect,
  HttpRetry,
  HttpRoute,
  CorsPolicy as IstioCors,
  StringMatch as IstioStringMatch,
  MeshSettings,
  Percent,
} from "../api/index.ts";
import type {
  Cors,
  DirectResponse,
  Fault,
  Forward,
  HashPolicy,
  HeaderChanges,
  NamedMatch,
  Origin,
  Redirect,
  Retries,
  Route,
  RouteMatch,
  StringMatch,
  WeightedUpstream,
} from "./model.ts";
import { fullHost, milliseconds, upstreamName } from "./names.ts";
import type { MeshService } from "./registry.ts";
import { matchProblems, routeProblems } from "./valid.ts";
import type { HostRules, SourcedRoute } from "./virtual-services.ts";

/** Where and for whom routes are made. */
export interface RouteContext {
  mesh: MeshSettings;
  /** That the client calls. */
  port: number;
  /** The gateways that this is for; `mesh` for sidecars. */
  gateways: ReadonlySet<string>;
  /** The client's namespace; empty: any that nothing is said of. */
  client: string;
  service(host: string): MeshService | undefined;
  /** What the destination's balancer hashes. */
  hash(host: string, port: number, subset: string): HashPolicy[];
  mention(namespace: string): void;
}

/** A route, and the labels of the clients that it is for (`sourceLabels`). */
export interface DraftRoute {
  route: Route;
  labels?: Readonly<Record<string, string>>;
}

/** Headers as they are. */
export const noChanges: HeaderChanges = { set: [], add: [], remove: [] };

/** Istio's, where nobody asked for others. Source: `route/retry/retry.go`. */
export const defaultRetries: Retries = {
  attempts: 2,
  perTryTimeout: 0,
  on: ["connect-failure", "refused-stream", "unavailable", "cancelled", "retriable-status-codes"],
  statusCodes: [],
  backoff: { base: 25, max: 250 },
  avoidPrevious: true,
  hostSelectionAttempts: 5,
};

/** Every request. */
export const anyPath: RouteMatch = { path: { kind: "prefix", value: "/" }, headers: [], query: [] };

/** All requests to one upstream: what a service has without rules of its own. */
export function defaultRoute(
  upstream: string,
  hash: readonly HashPolicy[],
  origins: readonly Origin[],
): Route {
  return {
    name: "default",
    match: anyPath,
    action: {
      kind: "forward",
      clusters: [only(upstream)],
      timeout: 0,
      retries: defaultRetries,
      mirrors: [],
      hash,
    },
    requestHeaders: noChanges,
    responseHeaders: noChanges,
    rateLimits: [],
    origins,
  };
}

/** All of the requests. */
export function only(upstream: string): WeightedUpstream {
  return { upstream, weight: 1, requestHeaders: noChanges, responseHeaders: noChanges };
}

/** Up to the first route that takes everything: what comes after it is never reached. */
export function routesOf(rules: HostRules, context: RouteContext): DraftRoute[] {
  const drafts: DraftRoute[] = [];
  for (const sourced of rules.http) {
    for (const draft of routesOfOne(rules, sourced, context)) {
      drafts.push(draft);
      if (!draft.labels && takesAll(draft.route.match)) return drafts;
    }
  }
  return drafts;
}

function takesAll({ path, headers, query }: RouteMatch): boolean {
  return path.kind === "prefix" && path.value === "/" && headers.length === 0 && query.length === 0;
}

function routesOfOne(rules: HostRules, sourced: SourcedRoute, context: RouteContext): DraftRoute[] {
  const { value } = sourced;
  // What a proxy would refuse does not reach it; the route's requests are answered, not sent elsewhere (law 6).
  const usable =
    routeProblems(value, "").length > 0
      ? { ...sourced, value: { ...(value.name && { name: value.name }), directResponse: { status: 503 } } }
      : sourced;
  if (!value.match?.length) return [draftOf(rules, usable, undefined, context)];
  return value.match
    .filter((match) => applies(match, rules.namespace, context) && matchProblems(match, "").length === 0)
    .map((match) => draftOf(rules, usable, match, context));
}

function applies(match: HttpMatchRequest, namespace: string, context: RouteContext): boolean {
  if (match.gateways?.length) {
    const here = match.gateways.some((each) =>
      context.gateways.has(each === "mesh" || each.includes("/") ? each : `${namespace}/${each}`),
    );
    if (!here) return false;
  }
  if (match.port && match.port !== context.port) return false;
  if (match.sourceNamespace) {
    context.mention(match.sourceNamespace);
    if (match.sourceNamespace !== context.client) return false;
  }
  return true;
}

function draftOf(
  rules: HostRules,
  sourced: SourcedRoute,
  match: HttpMatchRequest | undefined,
  context: RouteContext,
): DraftRoute {
  const { value, namespace, name, field } = sourced;
  const origin: Origin = { kind: rules.kind, namespace, name, field };
  const requestHeaders = headerChanges(value.headers?.request);
  const fault = faultOf(value);
  const cors = value.corsPolicy && corsOf(value.corsPolicy);
  const route: Route = {
    name: [value.name, match?.name].filter((each) => each).join(".") || "default",
    match: match ? matchOf(match) : anyPath,
    action: actionOf(value, match, namespace, context),
    requestHeaders: requestHeaders.changes,
    responseHeaders: headerChanges(value.headers?.response).changes,
    ...(fault && { fault }),
    ...(cors && { cors }),
    rateLimits: [],
    origins: [origin],
  };
  const labels = match?.sourceLabels;
  return labels && Object.keys(labels).length > 0 ? { route, labels } : { route };
}

// ------------------------------------------------------------------------------------------------ matches

/** A match in the model's words; its problems are looked for before. */
export function matchOf(match: HttpMatchRequest): RouteMatch {
  const headers: NamedMatch[] = [];
  const named = (name: string, value: IstioStringMatch | undefined, invert = false) => {
    if (value) headers.push({ name, match: stringMatch(value), invert });
  };
  named(":scheme", match.scheme);
  named(":method", match.method);
  named(":authority", match.authority);
  for (const [name, value] of Object.entries(match.headers ?? {})) named(name.toLowerCase(), value);
  for (const [name, value] of Object.entries(match.withoutHeaders ?? {}))
    named(name.toLowerCase(), value, true);
  return {
    path: pathOf(match),
    headers,
    query: Object.entries(match.queryParams ?? {}).map(([name, value]) => ({
      name,
      match: stringMatch(value),
      invert: false,
    })),
  };
}

/** `segments`: a prefix of whole path segments, as Gateway API has them. */
function pathOf({
  uri,
  ignoreUriCase,
  segments,
}: HttpMatchRequest & { segments?: boolean }): RouteMatch["path"] {
  if (segments && uri?.prefix) return { kind: "path-prefix", value: uri.prefix };
  const ignoreCase = ignoreUriCase ? { ignoreCase: true } : {};
  if (uri?.exact !== undefined) return { kind: "exact", value: uri.exact, ...ignoreCase };
  if (uri?.regex !== undefined) return { kind: "regex", value: uri.regex, ...ignoreCase };
  return { kind: "prefix", value: uri?.prefix || "/", ...ignoreCase };
}

/** Nothing given: it is there. */
export function stringMatch(value: IstioStringMatch): StringMatch {
  if (value.exact !== undefined) return { kind: "exact", value: value.exact };
  // Envoy takes no empty prefix: everything has it.
  if (value.prefix) return { kind: "prefix", value: value.prefix };
  if (value.regex !== undefined && value.regex !== "" && value.regex !== "*")
    return { kind: "regex", value: value.regex };
  return { kind: "present" };
}

// ------------------------------------------------------------------------------------------------ actions

function actionOf(
  value: HttpRoute,
  match: HttpMatchRequest | undefined,
  namespace: string,
  context: RouteContext,
): Route["action"] {
  if (value.redirect) return redirectOf(value.redirect, context.port);
  if (value.directResponse) return responseOf(value.directResponse);
  const destinations = (value.route ?? []).filter(({ destination }) => destination?.host);
  const weighted =
    destinations.length === 1 ? destinations : destinations.filter(({ weight }) => (weight ?? 0) > 0);
  // Nowhere to go (analysis says why): as where an upstream is missing.
  if (weighted.length === 0) return { kind: "respond", status: 503 };
  const authority = authorityOf(value.rewrite?.authority, value.headers?.request, weighted);
  const retries = value.retries ? retriesOf(value.retries) : defaultRetries;
  const path = rewriteOf(value.rewrite, match);
  const first = resolve(weighted[0]!.destination!, namespace, context);
  const forward: Forward = {
    kind: "forward",
    clusters: weighted.map(({ destination, weight, headers }) => ({
      upstream: resolve(destination!, namespace, context).upstream,
      weight: weighted.length === 1 ? 1 : weight!,
      requestHeaders: headerChanges(headers?.request).changes,
      responseHeaders: headerChanges(headers?.response).changes,
    })),
    timeout: milliseconds(value.timeout) ?? 0,
    ...(retries && { retries }),
    ...((path || authority) && { rewrite: { ...(path && { path }), ...(authority && { authority }) } }),
    mirrors: mirrorsOf(value, namespace, context),
    hash: context.hash(first.host, first.port, first.subset),
  };
  return forward;
}

/** The upstream that a destination names; whether it exists is seen when the request comes (503, no cluster). */
export function resolve(
  destination: Destination,
  namespace: string,
  context: Pick<RouteContext, "mesh" | "service" | "port">,
): { upstream: string; host: string; port: number; subset: string } {
  const host = fullHost(destination.host ?? "", namespace, context.mesh.clusterDomain);
  const subset = destination.subset ?? "";
  let port = destination.port?.number;
  if (!port) {
    const ports = context.service(host)?.ports ?? [];
    port = ports.length === 1 ? ports[0]!.number : context.port;
  }
  return { upstream: upstreamName("outbound", port, subset, host), host, port, subset };
}

function mirrorsOf(value: HttpRoute, namespace: string, context: RouteContext): Forward["mirrors"] {
  const mirrors = (value.mirrors ?? []).flatMap(({ destination, percentage }) =>
    destination ? [{ destination, percent: percentage ? (percentage.value ?? 0) : 100 }] : [],
  );
  if (value.mirror)
    mirrors.push({
      destination: value.mirror,
      percent: value.mirrorPercentage
        ? (value.mirrorPercentage.value ?? 0)
        : (value.mirrorPercent ?? value.mirror_percent ?? 100),
    });
  return mirrors
    .filter(({ percent }) => percent > 0)
    .map(({ destination, percent }) => ({
      upstream: resolve(destination, namespace, context).upstream,
      percent,
    }));
}

function rewriteOf(
  rewrite: HttpRoute["rewrite"],
  match: HttpMatchRequest | undefined,
): NonNullable<Forward["rewrite"]>["path"] {
  const regex = rewrite?.uriRegexRewrite;
  if (regex?.match) return { regex: regex.match, substitution: regex.rewrite ?? "" };
  if (!rewrite?.uri) return undefined;
  const whole = match?.uri?.exact !== undefined || match?.uri?.regex !== undefined;
  return whole ? { full: rewrite.uri } : { prefix: rewrite.uri };
}

/** A Host header that is set is the authority. */
function authorityOf(
  rewrite: string | undefined,
  request: HeaderOperations | undefined,
  destinations: readonly { headers?: HeaderRules }[],
): string | undefined {
  if (rewrite) return rewrite;
  const own = destinations.length === 1 ? destinations[0]!.headers?.request : undefined;
  return headerChanges(own).authority ?? headerChanges(request).authority;
}

/** Headers that are set, added, removed; a Host among them is the authority. */
export function headerChanges(operations: HeaderOperations | undefined): {
  changes: HeaderChanges;
  authority?: string;
} {
  if (!operations) return { changes: noChanges };
  let authority: string | undefined;
  const set = Object.entries(operations.set ?? {}).filter(([name, value]) => {
    const isAuthority = /^(?:host|:authority)$/i.test(name);
    if (isAuthority) authority = value;
    return !isAuthority;
  });
  return {
    changes: { set, add: Object.entries(operations.add ?? {}), remove: operations.remove ?? [] },
    ...(authority !== undefined && { authority }),
  };
}

/** None: no retries. `retryOn` mixes Envoy's words with status codes. */
function retriesOf(retry: HttpRetry): Retries | undefined {
  if (!retry.attempts || retry.attempts < 0) return undefined;
  const words = (retry.retryOn ?? "")
    .split(",")
    .map((word) => word.trim())
    .filter((word) => word);
  const statusCodes = words.filter((word) => /^[1-5]\d\d$/.test(word)).map(Number);
  const on = words.filter((word) => !/^\d+$/.test(word));
  if (statusCodes.length > 0 && !on.includes("retriable-status-codes")) on.push("retriable-status-codes");
  const base = milliseconds(retry.backoff) || defaultRetries.backoff.base;
  return {
    ...defaultRetries,
    attempts: retry.attempts,
    perTryTimeout: milliseconds(retry.perTryTimeout) ?? 0,
    on: words.length > 0 ? on : defaultRetries.on,
    statusCodes,
    backoff: { base, max: base * 10 },
    avoidPrevious: retry.retryIgnorePreviousHosts ?? true,
    ...(retry.retryRemoteLocalities && { otherLocalities: true }),
  };
}

function redirectOf(redirect: HttpRedirect, port: number): Redirect {
  const path = redirect.prefixRewrite
    ? { prefix: redirect.prefixRewrite }
    : redirect.uri
      ? { full: redirect.uri }
      : undefined;
  const to = redirect.port || (redirect.derivePort === "FROM_REQUEST_PORT" ? port : undefined);
  return {
    kind: "redirect",
    status: redirect.redirectCode || 301,
    ...(redirect.scheme && { scheme: redirect.scheme }),
    ...(redirect.authority && { authority: redirect.authority }),
    ...(to && { port: to }),
    ...(path && { path }),
  };
}

function responseOf(response: NonNullable<HttpRoute["directResponse"]>): DirectResponse {
  const { string, bytes } = response.body ?? {};
  const body = string ?? (bytes === undefined ? undefined : Buffer.from(bytes, "base64").toString());
  return { kind: "respond", status: response.status ?? 200, ...(body !== undefined && { body }) };
}

/** Source: Istio `translateFault`. A share that is left out is none. */
function faultOf({ fault }: HttpRoute): Fault | undefined {
  if (!fault) return undefined;
  const share = (percentage: Percent | undefined, old?: number) => percentage?.value ?? old ?? 0;
  const fixed = milliseconds(fault.delay?.fixedDelay);
  const delay =
    fixed === undefined
      ? undefined
      : { percent: share(fault.delay?.percentage, fault.delay?.percent), milliseconds: fixed };
  const percent = share(fault.abort?.percentage);
  const grpcStatus = grpcCode(fault.abort?.grpcStatus);
  const abort = fault.abort?.httpStatus
    ? { percent, status: fault.abort.httpStatus }
    : grpcStatus !== undefined
      ? { percent, grpcStatus }
      : undefined;
  return delay || abort ? { ...(delay && { delay }), ...(abort && { abort }) } : undefined;
}

/** gRPC's status codes, by number. Source: grpc `doc/statuscodes.md`. */
const grpcCodes =
  "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED".split(
    " ",
  );

/** By number or by name; undefined if there is none. */
function grpcCode(text: string | undefined): number | undefined {
  if (!text) return undefined;
  if (/^\d+$/.test(text)) return Number(text);
  const code = grpcCodes.indexOf(text.toUpperCase());
  return code < 0 ? undefined : code;
}

/** Any text: what is present and no more is no match of an origin. */
const anyText: StringMatch = { kind: "regex", value: ".*" };

/** CORS in the model's words; preflights that match none are passed on unless said otherwise. */
export function corsOf(policy: IstioCors): Cors {
  const maxAge = milliseconds(policy.maxAge);
  return {
    origins: [
      ...(policy.allowOrigins ?? [])
        .map(stringMatch)
        .map((match) => (match.kind === "present" ? anyText : match)),
      ...(policy.allowOrigin ?? []).map(
        (value): StringMatch => (value === "*" ? anyText : { kind: "exact", value }),
      ),
    ],
    methods: policy.allowMethods ?? [],
    headers: policy.allowHeaders ?? [],
    exposed: policy.exposeHeaders ?? [],
    ...(maxAge !== undefined && { maxAge: maxAge / 1_000 }),
    ...(policy.allowCredentials !== undefined && { credentials: policy.allowCredentials }),
    forwardUnmatchedPreflights: policy.unmatchedPreflights !== "IGNORE",
  };
}
