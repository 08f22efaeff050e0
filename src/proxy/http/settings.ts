/** Envoy's HttpConnectionManager, read once: what a connection manager does with every request. */

import { HttpProtocolOptions_HeadersWithUnderscoresAction as Underscores } from "#protocols/envoy/config/core/v3/protocol.ts";
import { HTTPFault } from "#protocols/envoy/extensions/filters/http/fault/v3/fault.ts";
import { LocalRateLimit } from "#protocols/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit.ts";
import { RBAC } from "#protocols/envoy/extensions/filters/http/rbac/v3/rbac.ts";
import { Router } from "#protocols/envoy/extensions/filters/http/router/v3/router.ts";
import {
  HttpConnectionManager_ForwardClientCertDetails as ClientCert,
  HttpConnectionManager_CodecType as CodecType,
  HttpConnectionManager_PathWithEscapedSlashesAction as EscapedSlashes,
  type HttpConnectionManager,
  HttpConnectionManager_ServerHeaderTransformation as ServerHeader,
} from "#protocols/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.ts";
import type { IpRange } from "../../addresses/index.ts";
import { type AccessLogger, type HandlerDeps, type RouteHandle, Unservable } from "../contract.ts";
import { ipRange, messageOf, milliseconds } from "../values.ts";
import { compileAccessLog } from "./access-log.ts";
import type { HttpFilter } from "./filter.ts";
import { CorsFilter } from "./filter-cors.ts";
import { compileFault, FaultFilter } from "./filter-fault.ts";
import { compileRateLimit, RateLimitFilter } from "./filter-rate-limit.ts";
import { compileRbacSettings, RbacFilter } from "./filter-rbac.ts";
import type { Limits } from "./http1-lines.ts";
import { managerScope } from "./manager-counters.ts";
import { RouteTable } from "./routes.ts";

export interface ManagerSettings {
  statPrefix: string;
  codec: "auto" | "http1" | "http2";
  limits: Limits;
  acceptHttp10: boolean;
  defaultHost: string;
  http1Trailers: boolean;
  underscores: "allow" | "reject" | "drop";
  serverName: string;
  serverHeader: "overwrite" | "append-if-absent" | "pass-through";
  schemeOverwrite: string | undefined;
  via: string;
  /** ms; 0: none. */
  streamIdleTimeout: number;
  connectionIdleTimeout: number;
  requestTimeout: number;
  requestHeadersTimeout: number;
  maxConnectionDuration: number;
  maxStreamDuration: number;
  drainTimeout: number;
  delayedCloseTimeout: number;
  maxRequestsPerConnection: number;
  maxConcurrentStreams: number;
  initialStreamWindow: number;
  initialConnectionWindow: number;
  useRemoteAddress: boolean;
  trustedHops: number;
  skipXffAppend: boolean;
  appendForwardedPort: boolean;
  internal: readonly IpRange[];
  generateRequestId: boolean;
  preserveRequestId: boolean;
  requestIdInResponse: boolean;
  clientCert: "sanitize" | "forward-only" | "append-forward" | "sanitize-set" | "always-forward-only";
  clientCertDetails: { subject: boolean; cert: boolean; chain: boolean; dns: boolean; uri: boolean };
  normalizePath: boolean;
  mergeSlashes: boolean;
  escapedSlashes: "keep" | "reject" | "redirect" | "forward";
  stripPort: "none" | "matching" | "any";
  stripTrailingDot: boolean;
  proxy100: boolean;
  /** By lower-case name: allowed or not. */
  upgrades: ReadonlyMap<string, boolean>;
  /** Share of requests to trace, when requests are traced at all. */
  tracing: { client: number; random: number; overall: number } | undefined;
  filters: readonly HttpFilter[];
  suppressEnvoyHeaders: boolean;
  respectExpectedTimeout: boolean;
  accessLog: AccessLogger;
  routes: RouteHandle | { readonly current: RouteTable };
}

/** Throws Unservable for what this proxy cannot do. */
export function readSettings(hcm: HttpConnectionManager, deps: HandlerDeps): ManagerSettings {
  const common = hcm.commonHttpProtocolOptions;
  const http1 = hcm.httpProtocolOptions;
  const http2 = hcm.http2ProtocolOptions;
  if (hcm.codecType === CodecType.HTTP3) throw new Unservable("HTTP/3 is not served");
  if (hcm.localReplyConfig?.mappers.length || hcm.localReplyConfig?.bodyFormat) {
    throw new Unservable("local_reply_config is not served");
  }
  if (hcm.originalIpDetectionExtensions.length > 0) {
    throw new Unservable("original_ip_detection_extensions are not served");
  }
  if (hcm.earlyHeaderMutationExtensions.length > 0) {
    throw new Unservable("early_header_mutation_extensions are not served");
  }
  const { filters, router } = readFilters(hcm, deps);
  const details = hcm.setCurrentClientCertDetails;
  return {
    statPrefix: hcm.statPrefix,
    codec: hcm.codecType === CodecType.HTTP1 ? "http1" : hcm.codecType === CodecType.HTTP2 ? "http2" : "auto",
    limits: {
      headBytes: (hcm.maxRequestHeadersKb ?? 60) * 1024,
      headerCount: common?.maxHeadersCount ?? 100,
    },
    acceptHttp10: http1?.acceptHttp10 ?? false,
    defaultHost: http1?.defaultHostForHttp10 ?? "",
    http1Trailers: http1?.enableTrailers ?? false,
    underscores:
      common?.headersWithUnderscoresAction === Underscores.REJECT_REQUEST
        ? "reject"
        : common?.headersWithUnderscoresAction === Underscores.DROP_HEADER
          ? "drop"
          : "allow",
    serverName: hcm.serverName || "envoy",
    serverHeader:
      hcm.serverHeaderTransformation === ServerHeader.APPEND_IF_ABSENT
        ? "append-if-absent"
        : hcm.serverHeaderTransformation === ServerHeader.PASS_THROUGH
          ? "pass-through"
          : "overwrite",
    schemeOverwrite: hcm.schemeHeaderTransformation?.transformation?.value,
    via: hcm.via,
    streamIdleTimeout: milliseconds(hcm.streamIdleTimeout, 300_000),
    connectionIdleTimeout: milliseconds(common?.idleTimeout, 3_600_000),
    requestTimeout: milliseconds(hcm.requestTimeout, 0),
    requestHeadersTimeout: milliseconds(hcm.requestHeadersTimeout, 0),
    maxConnectionDuration: milliseconds(common?.maxConnectionDuration, 0),
    maxStreamDuration: milliseconds(common?.maxStreamDuration, 0),
    drainTimeout: milliseconds(hcm.drainTimeout, 5000),
    delayedCloseTimeout: milliseconds(hcm.delayedCloseTimeout, 1000),
    maxRequestsPerConnection: common?.maxRequestsPerConnection ?? 0,
    maxConcurrentStreams: http2?.maxConcurrentStreams ?? 1024,
    initialStreamWindow: http2?.initialStreamWindowSize ?? 16 * 1024 * 1024,
    initialConnectionWindow: http2?.initialConnectionWindowSize ?? 24 * 1024 * 1024,
    useRemoteAddress: hcm.useRemoteAddress ?? false,
    trustedHops: hcm.xffNumTrustedHops,
    skipXffAppend: hcm.skipXffAppend,
    appendForwardedPort: hcm.appendXForwardedPort,
    internal: (hcm.internalAddressConfig?.cidrRanges ?? []).map(ipRange),
    generateRequestId: hcm.generateRequestId ?? true,
    preserveRequestId: hcm.preserveExternalRequestId,
    requestIdInResponse: hcm.alwaysSetRequestIdInResponse,
    clientCert: clientCertModes[hcm.forwardClientCertDetails] ?? "sanitize",
    clientCertDetails: {
      subject: details?.subject ?? false,
      cert: details?.cert ?? false,
      chain: details?.chain ?? false,
      dns: details?.dns ?? false,
      uri: details?.uri ?? false,
    },
    normalizePath: hcm.normalizePath ?? false,
    mergeSlashes: hcm.mergeSlashes,
    escapedSlashes:
      hcm.pathWithEscapedSlashesAction === EscapedSlashes.REJECT_REQUEST
        ? "reject"
        : hcm.pathWithEscapedSlashesAction === EscapedSlashes.UNESCAPE_AND_REDIRECT
          ? "redirect"
          : hcm.pathWithEscapedSlashesAction === EscapedSlashes.UNESCAPE_AND_FORWARD
            ? "forward"
            : "keep",
    stripPort: hcm.stripPortMode?.value ? "any" : hcm.stripMatchingHostPort ? "matching" : "none",
    stripTrailingDot: hcm.stripTrailingHostDot,
    proxy100: hcm.proxy100Continue,
    upgrades: new Map(
      hcm.upgradeConfigs.map((config) => [config.upgradeType.toLowerCase(), config.enabled ?? true]),
    ),
    tracing: hcm.tracing && {
      client: (hcm.tracing.clientSampling?.value ?? 100) / 100,
      random: (hcm.tracing.randomSampling?.value ?? 100) / 100,
      overall: (hcm.tracing.overallSampling?.value ?? 100) / 100,
    },
    filters,
    suppressEnvoyHeaders: router.suppressEnvoyHeaders,
    respectExpectedTimeout: router.respectExpectedRqTimeout,
    accessLog: compileAccessLog(hcm.accessLog, deps),
    routes: readRoutes(hcm, deps),
  };
}

const clientCertModes: Record<number, ManagerSettings["clientCert"]> = {
  [ClientCert.SANITIZE]: "sanitize",
  [ClientCert.FORWARD_ONLY]: "forward-only",
  [ClientCert.APPEND_FORWARD]: "append-forward",
  [ClientCert.SANITIZE_SET]: "sanitize-set",
  [ClientCert.ALWAYS_FORWARD_ONLY]: "always-forward-only",
};

function readRoutes(hcm: HttpConnectionManager, deps: HandlerDeps): ManagerSettings["routes"] {
  const specifier = hcm.routeSpecifier;
  if (specifier?.$case === "rds") return deps.routes.get(specifier.value.routeConfigName);
  if (specifier?.$case === "routeConfig") return { current: new RouteTable(specifier.value, deps.world) };
  throw new Unservable(`routes '${specifier?.$case ?? "none"}' are not served`);
}

/** The filters before the router, in order. Optional ones that are unknown are passed over, as Envoy does. */
function readFilters({ httpFilters: messages, statPrefix }: HttpConnectionManager, deps: HandlerDeps) {
  const stats = managerScope(deps, statPrefix);
  const filters: HttpFilter[] = [];
  let router: Router | undefined;
  for (const message of messages) {
    const any = message.configType?.$case === "typedConfig" ? message.configType.value : undefined;
    const type = any?.typeUrl.slice(any.typeUrl.lastIndexOf("/") + 1) ?? "";
    const { name } = message;
    if (message.disabled) continue;
    try {
      switch (type) {
        case "envoy.extensions.filters.http.router.v3.Router":
          router = Router.decode(any!.value);
          break;
        case "envoy.extensions.filters.http.cors.v3.Cors":
          filters.push(new CorsFilter(name, deps.world, stats));
          break;
        case "envoy.extensions.filters.http.fault.v3.HTTPFault":
          filters.push(new FaultFilter(name, compileFault(HTTPFault.decode(any!.value)), deps.world, stats));
          break;
        case "envoy.extensions.filters.http.rbac.v3.RBAC": {
          const rbac = RBAC.decode(any!.value);
          filters.push(new RbacFilter(name, compileRbacSettings(rbac), stats, rbac.rulesStatPrefix));
          break;
        }
        case "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit": {
          const settings = compileRateLimit(LocalRateLimit.decode(any!.value));
          filters.push(new RateLimitFilter(name, settings, deps.world, deps.stats));
          break;
        }
        default:
          // What makes cross-checks of gRPC for statistics changes no request.
          if (!message.isOptional && !/grpc_stats|alpn/.test(type)) {
            throw new Unservable(`${type || "no configuration"} is not served`);
          }
      }
    } catch (error) {
      throw new Unservable(`http filter '${name}': ${messageOf(error)}`);
    }
  }
  if (!router) throw new Unservable("http filters: there is no router");
  return { filters, router };
}
