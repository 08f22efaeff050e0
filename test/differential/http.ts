/** Short ways to write HTTP resources for both proxies, and to ask and compare. */
import assert from "node:assert/strict";
import type { Route, RouteAction, RouteMatch } from "#protocols/envoy/config/route/v3/route_components.ts";
import { FileAccessLog } from "#protocols/envoy/extensions/access_loggers/file/v3/file.ts";
import { Router } from "#protocols/envoy/extensions/filters/http/router/v3/router.ts";
import { HttpConnectionManager } from "#protocols/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.ts";
import { HttpProtocolOptions } from "#protocols/envoy/extensions/upstreams/http/v3/http_protocol_options.ts";
import { StringMatcher } from "#protocols/envoy/type/matcher/v3/string.ts";
import { endpoint, pack, socketAddress } from "../../src/proxy/testing/resources.ts";
import { type TestProxy as EitherProxy, exchange, get, until } from "./harness.ts";

/** Any part of a message; the generated `fromPartial` fills in the rest. */
export type Loose<T> = T extends string | number | boolean | undefined | null | Buffer
  ? T
  : T extends readonly (infer I)[]
    ? readonly Loose<I>[]
    : { [K in keyof T]?: Loose<T[K]> };

export const seconds = (value: number) => ({
  seconds: Math.floor(value),
  nanos: Math.round((value % 1) * 1e9),
});

export const router = filter("envoy.filters.http.router", "router.v3.Router", Router, {});

/** A filter of `envoy.extensions.filters.http`. */
export function filter(name: string, type: string, codec: Parameters<typeof pack>[1], value: object) {
  return {
    name,
    configType: {
      $case: "typedConfig" as const,
      value: pack(`envoy.extensions.filters.http.${type}`, codec, value as never),
    },
  };
}

const FORMAT =
  "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% " +
  '"%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% "%REQ(X-FORWARDED-FOR)%" "%REQ(:AUTHORITY)%" ' +
  "%UPSTREAM_CLUSTER% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

/** A listener with one HttpConnectionManager, set as Istio's. */
export function http(
  name: string,
  log: string,
  virtualHosts: Loose<HttpConnectionManager["routeSpecifier"]> | readonly object[],
  more: Loose<HttpConnectionManager> = {},
  table: object = {},
) {
  const hcm = pack(
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    HttpConnectionManager,
    {
      statPrefix: name,
      serverName: "istio-envoy",
      normalizePath: true,
      streamIdleTimeout: seconds(0),
      upgradeConfigs: [{ upgradeType: "websocket" }],
      httpFilters: [router],
      routeSpecifier: {
        $case: "routeConfig",
        value: { name, validateClusters: false, virtualHosts, ...table },
      },
      accessLog: [
        {
          name: "envoy.access_loggers.file",
          configType: {
            $case: "typedConfig",
            value: pack("envoy.extensions.access_loggers.file.v3.FileAccessLog", FileAccessLog, {
              path: log,
              accessLogFormat: {
                $case: "logFormat",
                value: {
                  format: {
                    $case: "textFormatSource",
                    value: { specifier: { $case: "inlineString", value: FORMAT } },
                  },
                },
              },
            } as never),
          },
        },
      ],
      ...more,
    } as never,
  );
  return {
    name,
    address: socketAddress("127.0.0.1", 0),
    filterChains: [
      { filters: [{ name: "http", configType: { $case: "typedConfig" as const, value: hcm } }] },
    ],
  };
}

export const prefix = (value: string, more: Loose<RouteMatch> = {}): Loose<RouteMatch> => ({
  pathSpecifier: { $case: "prefix", value },
  ...more,
});

/** A route to a cluster. */
export function to(
  match: Loose<RouteMatch> | string,
  cluster: string,
  action: Loose<RouteAction> = {},
  more: Loose<Route> = {},
): Loose<Route> {
  return {
    match: typeof match === "string" ? prefix(match) : match,
    action: {
      $case: "route",
      value: { clusterSpecifier: { $case: "cluster", value: cluster }, ...action } as Loose<RouteAction>,
    } as Loose<Route>["action"] & object,
    ...more,
  };
}

export const text = (kind: "exact" | "prefix" | "suffix" | "contains", value: string) =>
  StringMatcher.fromPartial({ matchPattern: { $case: kind, value } });
export const regex = (value: string) =>
  StringMatcher.fromPartial({ matchPattern: { $case: "safeRegex", value: { regex: value } } });

/** A header matcher by string. */
export const header = (name: string, matcher: StringMatcher, more: object = {}) => ({
  name,
  headerMatchSpecifier: { $case: "stringMatch" as const, value: matcher },
  ...more,
});

/** A cluster of fixed endpoints on 127.0.0.1; `http2`: spoken to so. */
export const cluster = (name: string, ports: readonly number[], more: object = {}, http2 = false) => ({
  name,
  clusterDiscoveryType: { $case: "type" as const, value: 0 as const },
  loadAssignment: {
    clusterName: name,
    endpoints: [{ lbEndpoints: ports.map((port) => endpoint("127.0.0.1", port)) }],
  },
  ...(http2
    ? {
        typedExtensionProtocolOptions: {
          "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": pack(
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            HttpProtocolOptions,
            {
              upstreamProtocolOptions: {
                $case: "explicitHttpConfig",
                value: { protocolConfig: { $case: "http2ProtocolOptions", value: {} } },
              },
            } as never,
          ),
        },
      }
    : {}),
  ...more,
});

/** What is compared of an answer: the backend's echo is read, and what is random is left out. */
export interface Seen {
  status: number;
  headers: Record<string, string>;
  body: unknown;
  closed?: boolean;
}

/** One request on a connection of its own. */
export async function ask(
  proxy: EitherProxy,
  listener: string,
  path: string,
  headers: Record<string, string> = {},
  method = "GET",
  body = "",
): Promise<Seen> {
  const [answer] = await exchange(proxy.address(listener), get(path, headers, method, body), {
    head: method === "HEAD",
  });
  assert.ok(answer, `${path}: no answer`);
  return seen(answer);
}

export function seen(answer: { status: number; headers: [string, string][]; body: string }): Seen {
  const headers: Record<string, string> = {};
  for (const [name, value] of answer.headers) {
    headers[name] = name in headers ? `${headers[name]} | ${value}` : value;
  }
  let body: unknown = answer.body;
  if (answer.body.startsWith("{")) {
    const echo = JSON.parse(answer.body) as { headers: Record<string, string> };
    if ("x-request-id" in echo.headers) echo.headers["x-request-id"] = "…";
    // What is left of the time after a try is measured.
    const timeout = echo.headers["x-envoy-expected-rq-timeout-ms"];
    if (timeout) echo.headers["x-envoy-expected-rq-timeout-ms"] = String(Math.ceil(Number(timeout) / 1000));
    // The listener's own port: each proxy has another.
    if (Number(echo.headers["x-forwarded-port"]) > 1) echo.headers["x-forwarded-port"] = "…";
    delete headers["content-length"];
    body = echo;
  }
  return { status: answer.status, headers, body };
}

/** What Envoy counts and the embedded proxy does not: docs/proxy.md names them. */
const notCounted = new RegExp(
  [
    // The same figures once more, by where the request came from, by listener, by thread.
    /^cluster\.\w+\.(external|internal)\./,
    // What became of connections, but how many came and went.
    /_cx_destroy_/,
    /_cx_(rx|tx)_bytes_buffered$/,
    /flow_control/,
    // About the cluster, not its requests.
    /\.(membership_change|version|total_match_count|lb_\w+|max_host_weight|update_\w+|assignment_\w+)$/,
    /\.http[12]\./,
    /^http\.async-client\./,
    /\.ssl\.(ciphers|curves|sigalgs|versions|certificate)\./,
    /\.tracing\.\w+$/,
    /_cx_(close_notify|delayed_close_timeout)$/,
  ]
    .map(({ source }) => source)
    .join("|"),
);

/**
 * All that is counted of clusters and connection managers and is not zero, but what `also` names. Asked until nothing is
 * under way any more and two answers are the same, for some of it is counted a moment after the answer.
 */
export async function counters(proxy: EitherProxy, also = /^$/): Promise<Record<string, number>> {
  let before = "";
  let found: Record<string, number> = {};
  await until("the counters are at rest", async () => {
    found = await countersNow(proxy, also);
    const now = JSON.stringify(found);
    const rest = now === before && !/rq_active"|rq_pending_active"/.test(now);
    before = now;
    return rest;
  });
  return found;
}

async function countersNow(proxy: EitherProxy, also: RegExp): Promise<Record<string, number>> {
  const found: Record<string, number> = {};
  for (const line of (await proxy.admin("/stats")).split("\n").sort()) {
    const [, name = "", value] =
      /^((?:cluster|http(?!\.admin)|tcp|\w+\.http_local_rate_limit)\.\S+): (\d+)$/.exec(line) ?? [];
    if (Number(value) > 0 && !notCounted.test(name) && !also.test(name)) found[name] = Number(value);
  }
  return found;
}
