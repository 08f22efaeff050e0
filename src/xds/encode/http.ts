/** HTTP handlers as Envoy's HTTP connection manager with its filters, and the access log. */
import { RouteConfiguration } from "#protocols/envoy/config/route/v3/route.ts";
import { StdoutAccessLog } from "#protocols/envoy/extensions/access_loggers/stream/v3/stream.ts";
import { Cors } from "#protocols/envoy/extensions/filters/http/cors/v3/cors.ts";
import { HTTPFault } from "#protocols/envoy/extensions/filters/http/fault/v3/fault.ts";
import { Router } from "#protocols/envoy/extensions/filters/http/router/v3/router.ts";
import { HttpConnectionManager } from "#protocols/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.ts";
import type { Authorization, HttpHandler, Listener } from "../../traffic/index.ts";
import { httpAuthorization } from "./authorization.ts";
import { duration, fromAds, pack } from "./pack.ts";
import { idleRateLimit, rateLimitFilters } from "./rate-limits.ts";
import { routeConfiguration } from "./routes.ts";

/** The `server` header of answers, as with Istio. */
const serverName = "istio-envoy";

/** Istio's default text format (1.9 and later). */
const defaultFormat =
  '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% ' +
  "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% " +
  '"%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ' +
  '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" ' +
  '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% ' +
  "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% " +
  "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

/** To the proxy's standard output, where `kubectl logs -c istio-proxy` finds it; an entry is a line, as with Istio. */
const toOutput = (format: string) => [
  {
    name: "envoy.access_loggers.stdout",
    configType: {
      $case: "typedConfig" as const,
      value: pack("envoy.extensions.access_loggers.stream.v3.StdoutAccessLog", StdoutAccessLog, {
        accessLogFormat: {
          $case: "logFormat",
          value: {
            format: {
              $case: "textFormatSource",
              value: {
                specifier: { $case: "inlineString", value: format.endsWith("\n") ? format : `${format}\n` },
              },
            },
          },
        },
      }),
    },
  },
];

const defaultLog = toOutput(defaultFormat);

/** The access log of a handler. */
export function accessLogOf({
  accessLog,
  accessLogFormat,
}: Pick<HttpHandler, "accessLog" | "accessLogFormat">) {
  if (!accessLog) return [];
  return accessLogFormat === undefined ? defaultLog : toOutput(accessLogFormat);
}

const filter = <C extends Parameters<typeof pack>[1]>(name: string, type: string, codec: C) => ({
  name,
  configType: { $case: "typedConfig" as const, value: pack(type, codec, {} as never) },
});

// Idle until a route configures them; the order is Istio's.
const faults = filter(
  "envoy.filters.http.fault",
  "envoy.extensions.filters.http.fault.v3.HTTPFault",
  HTTPFault,
);
const cors = filter("envoy.filters.http.cors", "envoy.extensions.filters.http.cors.v3.Cors", Cors);
const router = filter("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router", Router);

/** envoy…HttpConnectionManager.ForwardClientCertDetails */
const forwardModes = {
  sanitize: 0,
  "forward-only": 1,
  "append-forward": 2,
  "sanitize-set": 3,
  "always-forward-only": 4,
} as const;

const percent = (value: number) => ({ value });

/** The network filter. */
export function httpFilter(
  handler: HttpHandler,
  authorization: readonly Authorization[],
  direction: Listener["direction"],
) {
  const { routes, rateLimits } = handler;
  const setsClientCertificate =
    handler.clientCertificate === "sanitize-set" || handler.clientCertificate === "append-forward";
  const routesHaveLimits =
    typeof routes === "string"
      ? direction === "gateway"
      : routes.virtualHosts.some((host) => host.routes.some((route) => route.rateLimits.length > 0));
  return {
    name: "envoy.filters.network.http_connection_manager",
    configType: {
      $case: "typedConfig" as const,
      value: pack(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        HttpConnectionManager,
        {
          statPrefix: handler.statPrefix,
          routeSpecifier:
            typeof routes === "string"
              ? { $case: "rds", value: { routeConfigName: routes, configSource: fromAds } }
              : {
                  $case: "routeConfig",
                  value: RouteConfiguration.decode(routeConfiguration(routes, rateLimits)),
                },
          httpFilters: [
            ...httpAuthorization(authorization),
            ...rateLimitFilters(rateLimits),
            ...(routesHaveLimits ? [idleRateLimit] : []),
            faults,
            cors,
            router,
          ],
          serverName,
          // A stream may live as long as it likes: `timeout` of routes is for that.
          streamIdleTimeout: duration(0),
          useRemoteAddress: handler.useRemoteAddress,
          xffNumTrustedHops: handler.trustedHops,
          generateRequestId: true,
          forwardClientCertDetails: forwardModes[handler.clientCertificate],
          ...(setsClientCertificate && {
            setCurrentClientCertDetails: { subject: true, dns: true, uri: true },
          }),
          tracing: {
            clientSampling: percent(100),
            randomSampling: percent(handler.traceSampling),
            overallSampling: percent(100),
          },
          upgradeConfigs: handler.websocket ? [{ upgradeType: "websocket" }] : [],
          normalizePath: true,
          accessLog: accessLogOf(handler),
        },
      ),
    },
  };
}
