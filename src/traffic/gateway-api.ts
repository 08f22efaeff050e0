/**
 * Gateway API: Gateways become servers, HTTPRoutes the routes of their hosts. Sources: GEP-1324 (mesh), GEP-1748
 * (ServiceImport), `gateway-api` v1 types; Istio `pilot/pkg/config/kube/gateway`.
 */
import {
  clusterSetZone,
  type gatewayApi,
  type HttpMatchRequest,
  type HttpRoute,
  type LabelSelector,
  type MeshSettings,
  type Namespace,
  type StringMatch,
} from "../api/index.ts";
import type { GatewayRules, Server } from "./gateways.ts";
import type { Finding, Origin } from "./model.ts";
import { credential } from "./names.ts";
import { namedProtocol } from "./protocol.ts";
import { type MeshService, timeOf } from "./registry.ts";
import { type HostRules, meshGateway, type SourcedRoute } from "./virtual-services.ts";

/** The GatewayClass whose Gateways are ours. */
export const gatewayClass = "weft";

/** The key of a Gateway's listener, as servers and routes have it. */
export function listenerKey(namespace: string, gateway: string, listener: string): string {
  return `kube:${namespace}/${gateway}/${listener}`;
}

/** The Service whose pods carry a Gateway's listeners: the one that it names, else the mesh's ingress gateway. */
export function serviceOfGateway(
  gateway: gatewayApi.Gateway,
  mesh: MeshSettings,
): { namespace: string; name: string } {
  const named = gateway.spec.addresses?.find(({ type }) => type === "Hostname")?.value;
  const own = gateway.metadata.namespace ?? "";
  if (!named) return { namespace: mesh.namespace, name: "istio-ingressgateway" };
  const [name = "", namespace = own] = named.split(".");
  return { namespace, name };
}

/** What a Gateway is made of besides itself. */
export interface GatewayLook {
  service: MeshService | undefined;
  namespaces(): readonly Namespace[];
  /** Whether a Secret of another namespace may be used. */
  granted(secret: { namespace: string; name: string }): boolean;
}

/** Undefined where the class is somebody else's, or no pods carry it. */
export function kubeGatewayRulesOf(
  gateway: gatewayApi.Gateway,
  { service, namespaces, granted }: GatewayLook,
): GatewayRules | undefined {
  const { metadata, spec } = gateway;
  if (metadata.deletionTimestamp || spec.gatewayClassName !== gatewayClass || !service?.selector)
    return undefined;
  const namespace = metadata.namespace ?? "";
  return {
    key: `kube:${namespace}/${metadata.name}`,
    namespace,
    selector: service.selector,
    servers: spec.listeners.flatMap((listener, i): Server[] => {
      const protocol = namedProtocol(listener.protocol);
      if (!protocol) return [];
      const secrets = (listener.tls?.certificateRefs ?? [])
        .map(({ name, namespace: of = namespace }) => ({ name, namespace: of }))
        .filter((secret) => secret.namespace === namespace || granted(secret));
      const secure = protocol === "https" || protocol === "tls";
      const passthrough = listener.tls?.mode === "Passthrough";
      if (secure && !passthrough && secrets.length === 0) return [];
      // It is to let in by certificate only: without that check it would let in everybody.
      if (secure && !passthrough && spec.tls?.frontend) return [];
      return [
        {
          gateway: listenerKey(namespace, metadata.name, listener.name),
          kind: "KubeGateway",
          namespace,
          created: timeOf(metadata.creationTimestamp),
          name: metadata.name,
          field: `spec.listeners[${i}]`,
          port: listener.port,
          portName: listener.name,
          protocol,
          bind: "",
          hosts: allowedNamespaces(listener, namespace, namespaces).map((of) => ({
            namespace: of,
            host: listener.hostname?.toLowerCase() || "*",
          })),
          tls: secure
            ? passthrough
              ? { mode: "PASSTHROUGH" }
              : { mode: "SIMPLE", credentialName: credential(secrets[0]!.namespace, secrets[0]!.name) }
            : undefined,
        },
      ];
    }),
  };
}

function allowedNamespaces(
  { allowedRoutes }: gatewayApi.Listener,
  own: string,
  namespaces: () => readonly Namespace[],
): string[] {
  const { from = "Same", selector } = allowedRoutes?.namespaces ?? {};
  if (from === "All") return ["*"];
  if (from === "None") return [];
  if (from === "Same") return [own];
  return namespaces()
    .filter(({ metadata }) => labelSelects(selector, metadata.labels ?? {}))
    .map(({ metadata }) => metadata.name);
}

/** A whole label selector, with its expressions; none selects nothing. */
function labelSelects(
  selector: LabelSelector | undefined,
  labels: Readonly<Record<string, string>>,
): boolean {
  if (!selector) return false;
  for (const [name, value] of Object.entries(selector.matchLabels ?? {}))
    if (labels[name] !== value) return false;
  return (selector.matchExpressions ?? []).every(({ key, operator, values }) => {
    const value = labels[key];
    if (operator === "Exists") return value !== undefined;
    if (operator === "DoesNotExist") return value === undefined;
    const among = value !== undefined && (values ?? []).includes(value);
    return operator === "In" ? among : !among;
  });
}

/** What an HTTPRoute is made of besides itself. */
export interface RouteLook {
  mesh: MeshSettings;
  gateway(namespace: string, name: string): gatewayApi.Gateway | undefined;
  service(host: string): MeshService | undefined;
  /** Whether this route may send to an object of another namespace. */
  granted(to: { group: string; kind: string; namespace: string; name: string }): boolean;
}

/** A route, the hosts that it is for, and what is wrong with its references. */
export function httpRouteRulesOf(
  route: gatewayApi.HTTPRoute,
  look: RouteLook,
): { rules: HostRules | undefined; problems: Finding[] } {
  const { metadata, spec } = route;
  const namespace = metadata.namespace ?? "";
  const problems: Finding[] = [];
  const at = (field: string): Origin => ({ kind: "HTTPRoute", namespace, name: metadata.name, field });
  const say = (field: string, what: string, name: string, more = "") =>
    problems.push({
      code: "WEFT0101",
      level: "error",
      origin: at(field),
      message: `Referenced ${what} not found: "${name}"${more}`,
    });
  const gateways: string[] = [];
  const meshHosts: string[] = [];
  for (const [i, parent] of (spec.parentRefs ?? []).entries()) {
    const of = parent.namespace ?? namespace;
    const kind = parent.kind ?? "Gateway";
    if (kind === "Service" || kind === "ServiceImport") {
      const host = backendHost({ kind, name: parent.name, namespace: of }, namespace, look.mesh);
      if (look.service(host)) meshHosts.push(host);
      else say(`spec.parentRefs[${i}]`, "service", host);
      continue;
    }
    const gateway = look.gateway(of, parent.name);
    const listeners = (gateway?.spec.listeners ?? []).filter(
      (listener) =>
        (!parent.sectionName || listener.name === parent.sectionName) &&
        (!parent.port || listener.port === parent.port),
    );
    if (listeners.length === 0)
      say(`spec.parentRefs[${i}]`, gateway ? "listener" : "gateway", `${of}/${parent.name}`);
    for (const { name } of listeners) gateways.push(listenerKey(of, parent.name, name));
  }
  if (meshHosts.length > 0) gateways.push(meshGateway);
  if (metadata.deletionTimestamp || gateways.length === 0) return { rules: undefined, problems };
  const hostnames = (spec.hostnames ?? []).map((host) => host.toLowerCase());
  return {
    rules: {
      key: `${namespace}/${metadata.name}`,
      kind: "HTTPRoute",
      namespace,
      name: metadata.name,
      created: timeOf(metadata.creationTimestamp),
      hosts: meshHosts.length > 0 ? meshHosts : hostnames.length > 0 ? hostnames : ["*"],
      gateways,
      exports: "all",
      http: routesOfRules(route, look, say),
      tls: [],
      tcp: [],
    },
    problems,
  };
}

type Say = (field: string, what: string, name: string, more?: string) => void;

/** One route for each match, the more specific first (HTTPRouteRule's "precedence"). */
function routesOfRules({ metadata, spec }: gatewayApi.HTTPRoute, look: RouteLook, say: Say): SourcedRoute[] {
  const namespace = metadata.namespace ?? "";
  const routes = (spec.rules ?? [{}]).flatMap((rule, i) => {
    const field = `spec.rules[${i}]`;
    const base = actionOf(rule, namespace, field, look, say);
    return (rule.matches?.length ? rule.matches : [{}]).map((match, j) => ({
      match,
      sourced: {
        value: { ...base, match: [matchOf(match)], ...rewriteFor(rule, match) },
        namespace,
        name: metadata.name,
        field: rule.matches?.length ? `${field}.matches[${j}]` : field,
      },
    }));
  });
  return routes
    .map((each, i) => ({ ...each, i }))
    .sort((a, b) => precedence(a.match, b.match) || a.i - b.i)
    .map(({ sourced }) => sourced);
}

/** Source: HTTPRouteRule.matches: exact path, longest prefix, method, number of headers, of query parameters. */
export function precedence(a: gatewayApi.HTTPRouteMatch, b: gatewayApi.HTTPRouteMatch): number {
  const rank = ({ path }: gatewayApi.HTTPRouteMatch) =>
    path?.type === "Exact" ? 0 : path?.type === "RegularExpression" ? 1 : 2;
  const length = ({ path }: gatewayApi.HTTPRouteMatch) => (path?.value ?? "/").length;
  return (
    rank(a) - rank(b) ||
    length(b) - length(a) ||
    Number(Boolean(b.method)) - Number(Boolean(a.method)) ||
    (b.headers?.length ?? 0) - (a.headers?.length ?? 0) ||
    (b.queryParams?.length ?? 0) - (a.queryParams?.length ?? 0)
  );
}

/** A prefix of whole path segments, which Istio's matches have not. */
export type RouteMatchRequest = HttpMatchRequest & { segments?: boolean };

function matchOf({ path, headers, queryParams, method }: gatewayApi.HTTPRouteMatch): RouteMatchRequest {
  const value = path?.value ?? "/";
  const type = path?.type ?? "PathPrefix";
  const named = (list: readonly gatewayApi.NamedValueMatch[]): Record<string, StringMatch> =>
    Object.fromEntries(
      // The first of one name counts.
      [...list]
        .reverse()
        .map((each) => [
          each.name,
          each.type === "RegularExpression" ? { regex: each.value } : { exact: each.value },
        ]),
    );
  return {
    uri:
      type === "Exact"
        ? { exact: value }
        : type === "RegularExpression"
          ? { regex: value }
          : { prefix: value === "/" ? value : value.replace(/\/+$/, "") },
    ...(type === "PathPrefix" && value !== "/" && { segments: true }),
    ...(headers?.length && { headers: named(headers) }),
    ...(queryParams?.length && { queryParams: named(queryParams) }),
    ...(method && { method: { exact: method } }),
  };
}

/**
 * A filter that is not served may be one that lets not everybody pass (ExternalAuth): "a Route with it must not be served
 * without it" (HTTPRouteFilter, HTTPRouteFilterExtensionRef: such requests get 500).
 */
function isServedFilter({ type }: gatewayApi.HTTPRouteFilter): boolean {
  return servedFilters.has(type);
}

const servedFilters: ReadonlySet<string> = new Set([
  "RequestHeaderModifier",
  "ResponseHeaderModifier",
  "RequestMirror",
  "RequestRedirect",
  "URLRewrite",
  "CORS",
]);

function actionOf(
  rule: gatewayApi.HTTPRouteRule,
  namespace: string,
  field: string,
  look: RouteLook,
  say: Say,
): HttpRoute {
  const filters = rule.filters ?? [];
  const all = [...filters, ...(rule.backendRefs ?? []).flatMap((backend) => backend.filters ?? [])];
  if (!all.every(isServedFilter))
    return { ...(rule.name && { name: rule.name }), directResponse: { status: 500 } };
  const headers = headerRules(filters);
  const mirrors = filters.flatMap(({ requestMirror }, i) => {
    if (!requestMirror) return [];
    const destination = backendOf(
      requestMirror.backendRef,
      namespace,
      `${field}.filters[${i}].requestMirror.backendRef`,
      look,
      say,
    );
    const { percent, fraction } = requestMirror;
    const share = percent ?? (fraction ? (100 * fraction.numerator) / (fraction.denominator ?? 100) : 100);
    return destination ? [{ destination, percentage: { value: share } }] : [];
  });
  const cors = filters.find((filter) => filter.cors)?.cors;
  const common: HttpRoute = {
    ...(rule.name && { name: rule.name }),
    ...(headers && { headers }),
    ...(mirrors.length > 0 && { mirrors }),
    ...(rule.timeouts?.request && { timeout: rule.timeouts.request }),
    ...((rule.retry || rule.timeouts?.backendRequest) && {
      retries: {
        attempts: rule.retry?.attempts ?? 2,
        ...(rule.retry?.codes?.length && { retryOn: rule.retry.codes.join(",") }),
        ...(rule.retry?.backoff && { backoff: rule.retry.backoff }),
        ...(rule.timeouts?.backendRequest && { perTryTimeout: rule.timeouts.backendRequest }),
      },
    }),
    ...(cors && {
      corsPolicy: {
        allowOrigins: (cors.allowOrigins ?? []).map((origin) =>
          origin === "*"
            ? { prefix: "" }
            : origin.includes("*")
              ? { regex: wildcard(origin) }
              : { exact: origin },
        ),
        ...(cors.allowMethods && { allowMethods: cors.allowMethods }),
        ...(cors.allowHeaders && { allowHeaders: cors.allowHeaders }),
        ...(cors.exposeHeaders && { exposeHeaders: cors.exposeHeaders }),
        ...(cors.maxAge !== undefined && { maxAge: `${cors.maxAge}s` }),
        ...(cors.allowCredentials !== undefined && { allowCredentials: cors.allowCredentials }),
      },
    }),
  };
  const redirect = filters.find((filter) => filter.requestRedirect)?.requestRedirect;
  if (redirect) {
    const { path } = redirect;
    const port =
      redirect.port ?? (redirect.scheme === "https" ? 443 : redirect.scheme === "http" ? 80 : undefined);
    return {
      ...common,
      redirect: {
        redirectCode: redirect.statusCode ?? 302,
        ...(redirect.scheme && { scheme: redirect.scheme }),
        ...(redirect.hostname && { authority: redirect.hostname }),
        ...(port && { port }),
        ...(path?.type === "ReplaceFullPath" && { uri: path.replaceFullPath ?? "/" }),
        ...(path?.type === "ReplacePrefixMatch" && { prefixRewrite: path.replacePrefixMatch || "/" }),
      },
    };
  }
  const backends = (rule.backendRefs ?? []).flatMap((backend, i) => {
    const destination = backendOf(backend, namespace, `${field}.backendRefs[${i}]`, look, say);
    const own = headerRules(backend.filters ?? []);
    return destination ? [{ destination, weight: backend.weight ?? 1, ...(own && { headers: own }) }] : [];
  });
  // Whoever has nowhere to go answers 500 (HTTPRouteRule.backendRefs).
  if (backends.every(({ weight }) => weight === 0)) return { ...common, directResponse: { status: 500 } };
  return { ...common, route: backends };
}

/** `https://*.example.com` as a regular expression. */
function wildcard(origin: string): string {
  return origin.replace(/[.+?^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*");
}

function headerRules(filters: readonly gatewayApi.HTTPRouteFilter[]): HttpRoute["headers"] {
  const of = (modifier: gatewayApi.HeaderModifier | undefined) =>
    modifier && {
      ...(modifier.set?.length && {
        set: Object.fromEntries(modifier.set.map((each) => [each.name, each.value])),
      }),
      ...(modifier.add?.length && {
        add: Object.fromEntries(modifier.add.map((each) => [each.name, each.value])),
      }),
      ...(modifier.remove?.length && { remove: modifier.remove }),
    };
  const request = of(filters.find((filter) => filter.requestHeaderModifier)?.requestHeaderModifier);
  const response = of(filters.find((filter) => filter.responseHeaderModifier)?.responseHeaderModifier);
  return request || response ? { ...(request && { request }), ...(response && { response }) } : undefined;
}

/** The prefix that is replaced is the match's, so a slash must not be doubled or lost. */
function rewriteFor(
  rule: gatewayApi.HTTPRouteRule,
  match: gatewayApi.HTTPRouteMatch,
): Pick<HttpRoute, "rewrite"> {
  const rewrite = rule.filters?.find((filter) => filter.urlRewrite)?.urlRewrite;
  if (!rewrite) return {};
  const { hostname, path } = rewrite;
  const authority = hostname ? { authority: hostname } : {};
  if (path?.type === "ReplaceFullPath")
    return {
      rewrite: {
        ...authority,
        uriRegexRewrite: { match: "^[^?]*", rewrite: escapeSubstitution(path.replaceFullPath ?? "/") },
      },
    };
  if (path?.type === "ReplacePrefixMatch") {
    const prefix = (match.path?.value ?? "/").replace(/\/+$/, "");
    const to = (path.replacePrefixMatch ?? "/").replace(/\/+$/, "");
    if (to !== "" && prefix !== "") return { rewrite: { ...authority, uri: to } };
    const escaped = prefix.replace(/[.+?^${}()|[\]\\*]/g, "\\$&");
    return {
      rewrite: {
        ...authority,
        uriRegexRewrite: { match: `^${escaped}/*`, rewrite: `${escapeSubstitution(to)}/` },
      },
    };
  }
  return { rewrite: authority };
}

function escapeSubstitution(text: string): string {
  return text.replaceAll("\\", "\\\\");
}

function backendHost(
  backend: { kind?: string; name: string; namespace?: string },
  own: string,
  mesh: MeshSettings,
): string {
  const namespace = backend.namespace ?? own;
  return backend.kind === "ServiceImport"
    ? `${backend.name}.${namespace}.svc.${clusterSetZone}`
    : `${backend.name}.${namespace}.svc.${mesh.clusterDomain}`;
}

function backendOf(
  backend: gatewayApi.BackendReference,
  own: string,
  field: string,
  look: RouteLook,
  say: Say,
): { host: string; port: { number: number } } | undefined {
  const kind = backend.kind ?? "Service";
  const namespace = backend.namespace ?? own;
  const group = backend.group ?? "";
  if (kind !== "Service" && kind !== "ServiceImport") {
    say(`${field}.kind`, "kind of backend", kind);
    return undefined;
  }
  const host = backendHost(backend, own, look.mesh);
  if (namespace !== own && !look.granted({ group, kind, namespace, name: backend.name })) {
    say(field, "backend", host, ": no ReferenceGrant of its namespace lets this route refer to it");
    return undefined;
  }
  const service = look.service(host);
  if (!service) {
    say(`${field}.name`, "backend", host);
    return undefined;
  }
  const port = backend.port ?? (service.ports.length === 1 ? service.ports[0]!.number : undefined);
  if (port === undefined || !service.ports.some(({ number }) => number === port)) {
    say(`${field}.port`, "port", `${host}:${port ?? ""}`);
    return undefined;
  }
  return { host, port: { number: port } };
}

/** Whether some grant of the target's namespace lets objects like `from` refer to `to`. */
export function isGranted(
  grants: readonly gatewayApi.ReferenceGrant[],
  from: { group: string; kind: string; namespace: string },
  to: { group: string; kind: string; name: string },
): boolean {
  return grants.some(
    ({ spec }) =>
      spec.from.some(
        (each) => each.group === from.group && each.kind === from.kind && each.namespace === from.namespace,
      ) &&
      spec.to.some(
        (each) => each.group === to.group && each.kind === to.kind && (!each.name || each.name === to.name),
      ),
  );
}
