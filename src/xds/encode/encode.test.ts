/** What the encoders say, decoded again: what matters of each resource, and that each object is encoded once. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Cluster } from "#protocols/envoy/config/cluster/v3/cluster.ts";
import { ClusterLoadAssignment } from "#protocols/envoy/config/endpoint/v3/endpoint.ts";
import { Listener } from "#protocols/envoy/config/listener/v3/listener.ts";
import { RouteConfiguration } from "#protocols/envoy/config/route/v3/route.ts";
import { StdoutAccessLog } from "#protocols/envoy/extensions/access_loggers/stream/v3/stream.ts";
import { HTTPFault } from "#protocols/envoy/extensions/filters/http/fault/v3/fault.ts";
import { RBAC } from "#protocols/envoy/extensions/filters/http/rbac/v3/rbac.ts";
import { HttpConnectionManager } from "#protocols/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.ts";
import { RBAC as NetworkRbac } from "#protocols/envoy/extensions/filters/network/rbac/v3/rbac.ts";
import { UpstreamTlsContext } from "#protocols/envoy/extensions/transport_sockets/tls/v3/tls.ts";
import { HttpProtocolOptions } from "#protocols/envoy/extensions/upstreams/http/v3/http_protocol_options.ts";
import { Resource } from "#protocols/envoy/service/discovery/v3/discovery.ts";
import type { Any } from "#protocols/google/protobuf/any.ts";
import type { Authorization, FilterChain, Route, Upstream } from "../../traffic/index.ts";
import {
  anyPath,
  catalog,
  chain,
  endpoint,
  endpointsOf,
  forward,
  httpHandler,
  listener,
  route,
  routeTable,
  tcpHandler,
  upstream,
  virtualHost,
} from "../testing/features.ts";
import { encodeEndpoints, encodeListener, encodeRouteTable, encodeUpstream, typeUrls } from "./index.ts";

const clusterOf = (name: string, more: Partial<Upstream>) =>
  Cluster.decode(encodeUpstream(upstream(name, more)).message);
const routesOf = (...routes: Route[]) =>
  RouteConfiguration.decode(
    encodeRouteTable(routeTable("8080", [virtualHost("a", ["a"], ...routes)])).message,
  ).virtualHosts[0]!.routes;
const actionOf = (each: Route) => {
  const { action } = routesOf(each)[0]!;
  assert.equal(action?.$case, "route");
  return action.$case === "route" ? action.value : assert.fail();
};
type Forward = Extract<Route["action"], { kind: "forward" }>;
const forwarding = (more: Partial<Forward>): Route => route({ ...(forward("a") as Forward), ...more });

/** The typed configs of a chain's filters: name → Any. */
function filtersOf(each: FilterChain): Map<string, Any> {
  const { filterChains } = Listener.decode(encodeListener(listener("l", 1, [each])).message);
  return new Map(
    filterChains[0]!.filters.map(({ name, configType }) => [
      name,
      configType?.$case === "typedConfig" ? configType.value : assert.fail(name),
    ]),
  );
}

function managerOf(each: FilterChain): HttpConnectionManager {
  const filter = filtersOf(each).get("envoy.filters.network.http_connection_manager");
  return HttpConnectionManager.decode(filter!.value);
}

test("the access log is Istio's, or as the mesh says, a line each; or none", () => {
  const formatOf = (more: { accessLog?: boolean; accessLogFormat?: string }) => {
    const [log] = managerOf(chain("c", httpHandler("8080", more))).accessLog;
    if (log?.configType?.$case !== "typedConfig") return undefined;
    const { accessLogFormat: format } = StdoutAccessLog.decode(log.configType.value.value);
    if (format?.$case !== "logFormat" || format.value.format?.$case !== "textFormatSource") return undefined;
    return format.value.format.value.specifier?.value;
  };
  assert.match(String(formatOf({})), /^\[%START_TIME%\] .*%ROUTE_NAME%\n$/);
  assert.equal(formatOf({ accessLogFormat: "%REQ(:PATH)%" }), "%REQ(:PATH)%\n");
  assert.equal(formatOf({ accessLogFormat: "%REQ(:PATH)%\n" }), "%REQ(:PATH)%\n");
  assert.equal(formatOf({ accessLog: false, accessLogFormat: "%REQ(:PATH)%" }), undefined);
});

test("an object is encoded once, equal contents have one version, and the resource carries name, version and type", () => {
  const one = upstream("a");
  assert.equal(encodeUpstream(one), encodeUpstream(one));
  const { version, resource } = encodeUpstream(one);
  assert.equal(encodeUpstream(upstream("a")).version, version);
  assert.notEqual(encodeUpstream(upstream("a", { protocol: "http2" })).version, version);
  const decoded = Resource.decode(resource);
  assert.deepEqual(
    [decoded.name, decoded.version, decoded.resource?.typeUrl],
    ["a", version, typeUrls.cluster],
  );
});

test("a table's bytes are its virtual hosts' bytes: an unchanged host is not encoded again", () => {
  let encodings = 0;
  const hosts = Array.from({ length: 100 }, (_, i) => ({
    ...virtualHost(`h${i}`, [`h${i}`]),
    get routes() {
      encodings++;
      return [route(forward(`c${i}`))];
    },
  }));
  const first = encodeRouteTable(routeTable("8080", hosts));
  assert.equal(encodings, 100);
  const changed = encodeRouteTable(routeTable("8080", [...hosts.slice(1), virtualHost("new", ["new"])]));
  assert.equal(encodings, 100);
  assert.notEqual(first.version, changed.version);
  assert.equal(RouteConfiguration.decode(changed.message).virtualHosts.length, 100);
});

test("balancers, discovery and protocols are Envoy's", () => {
  const policy = (balancer: Upstream["balancer"]) => clusterOf("a", { balancer }).lbPolicy;
  assert.deepEqual(
    [
      policy({ kind: "round-robin" }),
      policy({ kind: "least-request", choices: 2 }),
      policy({ kind: "ring-hash", minimumRingSize: 1024 }),
      policy({ kind: "random" }),
      policy({ kind: "maglev", tableSize: 65537 }),
      clusterOf("a", { discovery: "original-destination", balancer: { kind: "passthrough" } }).lbPolicy,
    ],
    [0, 1, 2, 3, 5, 6],
  );
  const options = (protocol: Upstream["protocol"]) => {
    const any = clusterOf("a", { protocol }).typedExtensionProtocolOptions;
    const [value] = Object.values(any);
    return value && HttpProtocolOptions.decode(value.value).upstreamProtocolOptions?.$case;
  };
  assert.deepEqual((["http1", "http2", "auto", "tcp"] as const).map(options), [
    "explicitHttpConfig",
    "explicitHttpConfig",
    "useDownstreamProtocolConfig",
    undefined,
  ]);
  const eds = clusterOf("a", { endpointsName: "b" });
  assert.equal(eds.edsClusterConfig?.serviceName, "b");
  assert.equal(eds.edsClusterConfig?.edsConfig?.configSourceSpecifier?.$case, "ads");
});

test("endpoints with a sidecar get mTLS with our identity and theirs, others plain text", () => {
  const identities = ["spiffe://cluster.local/ns/coolapp/sa/catalog"];
  const tls = {
    mode: "mesh",
    auto: true,
    sni: "outbound_.8080_._.catalog",
    identities,
    alpn: ["istio"],
  } as const;
  const { transportSocketMatches, transportSocket } = clusterOf(catalog, { tls });
  assert.equal(transportSocket, undefined);
  assert.deepEqual(
    transportSocketMatches.map(({ name, match }) => [name, match]),
    [
      ["tlsMode-istio", { tlsMode: "istio" }],
      ["tlsMode-disabled", {}],
    ],
  );
  const config = transportSocketMatches[0]?.transportSocket?.configType;
  const context = UpstreamTlsContext.decode(config!.value.value);
  assert.equal(context.sni, tls.sni);
  const common = context.commonTlsContext!;
  assert.deepEqual(common.alpnProtocols, ["istio"]);
  assert.equal(common.tlsCertificateSdsSecretConfigs[0]?.name, "default");
  const validation = common.validationContextType;
  assert.equal(validation?.$case, "combinedValidationContext");
  if (validation?.$case !== "combinedValidationContext") return;
  assert.equal(validation.value.validationContextSdsSecretConfig?.name, "ROOTCA");
  assert.deepEqual(
    validation.value.defaultValidationContext?.matchTypedSubjectAltNames.map(({ sanType, matcher }) => [
      sanType,
      matcher?.matchPattern?.value,
    ]),
    [[3, identities[0]]],
  );
  const row = endpointsOf(
    catalog,
    endpoint("10.10.0.7", 8080, { meshTls: true }),
    endpoint("10.10.0.8", 8080),
  );
  const [locality] = ClusterLoadAssignment.decode(encodeEndpoints(row).message).endpoints;
  assert.deepEqual(
    locality?.lbEndpoints.map(({ metadata }) => metadata?.filterMetadata["envoy.transport_socket_match"]),
    [{ tlsMode: "istio" }, undefined],
  );
});

test("metrics learn who an endpoint is; unhealthy and draining ones say so", () => {
  const workload = {
    name: "catalog-v1",
    namespace: "coolapp",
    service: "catalog",
    revision: "v1",
    cluster: "c1",
  };
  const row = endpointsOf(
    "a",
    endpoint("10.10.0.7", 1, { workload }),
    endpoint("10.10.0.8", 1, { healthy: false }),
    endpoint("10.10.0.9", 1, { draining: true }),
  );
  const [locality] = ClusterLoadAssignment.decode(encodeEndpoints(row).message).endpoints;
  assert.deepEqual(
    locality?.lbEndpoints.map(({ healthStatus }) => healthStatus),
    [1, 2, 3],
  );
  assert.deepEqual(locality?.lbEndpoints[0]?.metadata?.filterMetadata.istio, {
    workload: "catalog-v1;coolapp;catalog;v1;c1",
  });
});

test("one cluster, several by weight, none", () => {
  assert.deepEqual(actionOf(forwarding({})).clusterSpecifier, { $case: "cluster", value: "a" });
  const weighted = actionOf(route(forward("a", "b"))).clusterSpecifier;
  assert.deepEqual(
    weighted?.$case === "weightedClusters" &&
      weighted.value.clusters.map(({ name, weight }) => [name, weight]),
    [
      ["a", 50],
      ["b", 50],
    ],
  );
  const [nowhere] = routesOf(route(forward()));
  assert.equal(nowhere?.action?.$case === "directResponse" && nowhere.action.value.status, 503);
});

test("paths are rewritten as people mean it", () => {
  const rewritten = (path: NonNullable<NonNullable<Forward["rewrite"]>["path"]>, match = anyPath) => {
    const { prefixRewrite, regexRewrite } = actionOf({ ...forwarding({ rewrite: { path } }), match });
    return regexRewrite ? [regexRewrite.pattern?.regex, regexRewrite.substitution] : prefixRewrite;
  };
  assert.equal(rewritten({ prefix: "/new" }), "/new");
  assert.deepEqual(rewritten({ full: "/a\\1" }), ["/.*", "/a\\\\1"]);
  assert.deepEqual(rewritten({ regex: "^/(.*)", substitution: "/x/\\1" }), ["^/(.*)", "/x/\\1"]);
  const v1 = { ...anyPath, path: { kind: "path-prefix", value: "/v.1" } } as const;
  assert.deepEqual(rewritten({ prefix: "/" }, v1), ["^/v\\.1(/?)(.*)", "/\\2"]);
  assert.equal(rewritten({ prefix: "/v2" }, v1), "/v2");
});

test("a route's fault, its mirrors and retries arrive with their numbers", () => {
  const each = forwarding({
    timeout: 1_500,
    mirrors: [{ upstream: "m", percent: 12.5 }],
    retries: {
      attempts: 2,
      perTryTimeout: 250,
      on: ["connect-failure", "5xx"],
      statusCodes: [503],
      backoff: { base: 25, max: 250 },
      avoidPrevious: true,
      hostSelectionAttempts: 5,
    },
  });
  const action = actionOf(each);
  assert.deepEqual(action.timeout, { seconds: 1, nanos: 500_000_000 });
  assert.deepEqual(action.requestMirrorPolicies[0]?.runtimeFraction?.defaultValue, {
    numerator: 125_000,
    denominator: 2,
  });
  const { retryPolicy } = action;
  assert.deepEqual(
    [
      retryPolicy?.retryOn,
      retryPolicy?.numRetries,
      retryPolicy?.perTryTimeout,
      retryPolicy?.hostSelectionRetryMaxAttempts,
    ],
    ["connect-failure,5xx", 2, { seconds: 0, nanos: 250_000_000 }, 5],
  );
  const fault = { delay: { percent: 0.5, milliseconds: 7_000 }, abort: { percent: 100, status: 418 } };
  const [routed] = routesOf({ ...each, fault });
  const decoded = HTTPFault.decode(routed!.typedPerFilterConfig["envoy.filters.http.fault"]!.value);
  assert.deepEqual(decoded.delay?.percentage, { numerator: 5_000, denominator: 2 });
  assert.deepEqual(decoded.abort?.errorType, { $case: "httpStatus", value: 418 });
});

test("unknown hosts are passed through, refused or not found; the port in the Host header counts where one is named", () => {
  const table = (unknown: "passthrough" | "block" | "not-found", domain = "a") =>
    RouteConfiguration.decode(
      encodeRouteTable(routeTable("t", [virtualHost("a", [domain])], unknown)).message,
    );
  const last = (unknown: "passthrough" | "block" | "not-found") => table(unknown).virtualHosts.at(-1)!.name;
  assert.deepEqual([last("passthrough"), last("block"), last("not-found")], ["allow_any", "block_all", "a"]);
  assert.equal(table("not-found").ignorePortInHostMatching, true);
  assert.equal(table("not-found", "a:8080").ignorePortInHostMatching, false);
  assert.deepEqual(table("passthrough", "*").virtualHosts.length, 1);
});

const allow = (rule: Partial<Authorization["policies"][0]["rules"][0]>): Authorization => ({
  action: "allow",
  policies: [{ name: "p", origins: [], rules: [{ from: [], to: [], when: [], ...rule }] }],
});

test("policies come before everything else; DENY and ALLOW as they are given", () => {
  const authorization = [{ ...allow({}), action: "deny" as const }, allow({})];
  const { httpFilters } = managerOf(chain("c", httpHandler("8080"), {}, { authorization }));
  assert.deepEqual(
    httpFilters.map(({ name }) => name.replace("envoy.filters.http.", "")),
    ["rbac", "rbac", "fault", "cors", "router"],
  );
  const actions = httpFilters.slice(0, 2).map(({ configType }) => {
    assert.equal(configType?.$case, "typedConfig");
    return configType?.$case === "typedConfig" && RBAC.decode(configType.value.value).rules?.action;
  });
  assert.deepEqual(actions, [1, 0]);
});

test("of a TCP connection a rule on HTTP never allows, and denies without what it says of HTTP", () => {
  const rule = { to: [{ methods: ["GET"], ports: ["9000"] }] };
  const policiesOf = (authorization: Authorization) => {
    const filter = filtersOf(chain("c", tcpHandler("a"), {}, { authorization: [authorization] })).get(
      "envoy.filters.network.rbac",
    );
    return NetworkRbac.decode(filter!.value).rules!.policies;
  };
  assert.deepEqual(policiesOf(allow(rule)), {});
  const denied = policiesOf({ ...allow(rule), action: "deny" });
  assert.deepEqual(denied["p-rule[0]"]?.permissions, [{ rule: { $case: "destinationPort", value: 9000 } }]);
});

test("principals, namespaces and wildcards are matched in the SPIFFE id", () => {
  const matched = (from: Authorization["policies"][0]["rules"][0]["from"][0]) => {
    const { httpFilters } = managerOf(
      chain("c", httpHandler("8080"), {}, { authorization: [allow({ from: [from] })] }),
    );
    const config = httpFilters[0]?.configType;
    const rules = config?.$case === "typedConfig" ? RBAC.decode(config.value.value).rules : undefined;
    const principal = rules?.policies["p-rule[0]"]?.principals[0]?.identifier;
    const pattern =
      principal?.$case === "authenticated" ? principal.value.principalName?.matchPattern : undefined;
    return pattern?.$case === "safeRegex"
      ? pattern.value.regex
      : `${pattern?.$case} ${pattern?.value as string}`;
  };
  assert.equal(
    matched({ principals: ["cluster.local/ns/a/sa/b"] }),
    "exact spiffe://cluster.local/ns/a/sa/b",
  );
  assert.equal(matched({ principals: ["cluster.local/*"] }), "prefix spiffe://cluster.local/");
  assert.equal(matched({ principals: ["*/ns/a/sa/b"] }), "spiffe://.*/ns/a/sa/b");
  assert.equal(matched({ principals: ["*"] }), ".+");
  assert.equal(matched({ namespaces: ["prod-*"] }), ".*/ns/prod-[^/]*/.*");
  assert.equal(matched({ serviceAccounts: ["a/b"] }), "spiffe://.*/ns/a/sa/b");
});
