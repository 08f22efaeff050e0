/**
 * Local rate limits: a token bucket in each proxy. One filter for each limit of a handler, in front of its routes; and
 * one that is idle until a route gives it a bucket.
 */
import type { RateLimit } from "#protocols/envoy/config/route/v3/route_components.ts";
import { LocalRateLimit as Config } from "#protocols/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit.ts";
import { Descriptor } from "#protocols/envoy/extensions/rate_limit_descriptors/expr/v3/expr.ts";
import type { LocalRateLimit, NamedMatch, RouteMatch } from "../../traffic/index.ts";
import { escapeRegex, headerMatcher, queryMatcher } from "./match.ts";
import { duration, encode, pack, uint32 } from "./pack.ts";

const type = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";
/** The filter that routes configure. */
export const routeRateLimit = "envoy.filters.http.local_ratelimit";
const statPrefix = "http_local_rate_limiter";
// Keys of descriptors: whether query and head match, and the header's or client's value.
const queryKey = "query";
const matchKey = "match";
const valueKey = "value";
/** In place of the value, where there is none. */
const noValue = "-";
/** Buckets kept for the values of one limit; the least used goes. Envoy's own default is 20. */
const maxBuckets = 10_000;

/** The filter that does nothing but for routes with limits of their own. */
export const idleRateLimit = {
  name: routeRateLimit,
  configType: { $case: "typedConfig" as const, value: pack(type, Config, { statPrefix }) },
};

/** A filter for each limit. One that tells requests apart reads the actions of its stage (`valueActions`). */
export function rateLimitFilters(limits: readonly LocalRateLimit[]) {
  return limits.map((limit, i) => ({
    name: `${routeRateLimit}.${i}`,
    configType: { $case: "typedConfig" as const, value: rateLimitConfig(limit, i + 1) },
  }));
}

/** What routes and handlers say about one limit; `stage` (0 to 10) tells limits by value apart. */
export function rateLimitConfig(limit: LocalRateLimit, stage: number) {
  const bucket = {
    maxTokens: uint32(limit.tokens),
    tokensPerFill: uint32(limit.fill),
    fillInterval: duration(Math.max(50, limit.interval)), // Envoy's smallest
  };
  const always = { defaultValue: { numerator: 100, denominator: 0 as const } };
  const config = {
    statPrefix,
    filterEnabled: always,
    filterEnforced: always,
    responseHeadersToAdd: [
      {
        header: { key: "retry-after", value: String(Math.max(1, Math.ceil(limit.interval / 1000))) },
        appendAction: 2 as const, // OVERWRITE_IF_EXISTS_OR_ADD
      },
    ],
    stage,
  };
  const entries = entriesOf(limit);
  if (entries.length === 0) return pack(type, Config, { ...config, tokenBucket: bucket });
  const byEntries = pack(type, Config, {
    ...config,
    // Requests that it is not for are not limited by it.
    tokenBucket: { ...bucket, maxTokens: uint32(2 ** 32), tokensPerFill: uint32(2 ** 32) },
    descriptors: [{ entries, tokenBucket: bucket }],
    alwaysConsumeDefaultTokenBucket: false,
  });
  return { ...byEntries, value: Buffer.concat([byEntries.value, maxDynamicDescriptors(maxBuckets)]) };
}

/** What a request's descriptor must say for the limit to count it; an empty value stands for any, each with a bucket. */
function entriesOf({ match, per }: LocalRateLimit) {
  return [
    ...(match?.query.length ? [{ key: queryKey, value: "true" }] : []),
    ...(match ? [{ key: matchKey, value: "true" }] : []),
    ...(per ? [{ key: valueKey, value: "" }] : []),
  ];
}

/** Rate limit actions with which a limit tells requests apart; for the routes, at the limit's stage. */
export function valueActions(limits: readonly LocalRateLimit[], firstStage: number): RateLimit[] {
  return limits.flatMap((limit, i) => {
    const { per } = limit;
    const shared = matchActions(limit);
    const sets = per
      ? [
          [...shared, valueAction(per)],
          [...shared, noValueAction(per)],
        ]
      : [shared];
    return sets
      .filter((actions) => actions.length > 0)
      .map((actions) => ({
        stage: firstStage + i,
        disableKey: "",
        actions: actions.map((actionSpecifier) => ({ actionSpecifier })),
      })) as RateLimit[];
  });
}

/** In the order of the descriptor's entries. */
function matchActions({ match }: LocalRateLimit) {
  return [
    ...(match?.query.length
      ? [
          {
            $case: "queryParameterValueMatch" as const,
            value: {
              descriptorKey: queryKey,
              descriptorValue: "true",
              expectMatch: true,
              queryParameters: match.query.map(queryMatcher),
            },
          },
        ]
      : []),
    ...(match
      ? [
          {
            $case: "headerValueMatch" as const,
            value: {
              descriptorKey: matchKey,
              descriptorValue: "true",
              expectMatch: true,
              headers: [headerMatcher(pathMatch(match.path)), ...match.headers.map(headerMatcher)],
            },
          },
        ]
      : []),
  ];
}

/**
 * Those who come without the header, or without a certificate, have one bucket together: who leaves it out must not be
 * let through for it. A certificate is seen by the header that we put there, and by nobody else's.
 */
function noValueAction(per: NonNullable<LocalRateLimit["per"]>) {
  const name = per.kind === "header" ? per.name : "x-forwarded-client-cert";
  return {
    $case: "headerValueMatch" as const,
    value: {
      descriptorKey: valueKey,
      descriptorValue: noValue,
      expectMatch: true,
      headers: [headerMatcher({ name, match: { kind: "present" }, invert: true })],
    },
  };
}

/** The path as a header, which has the query behind it. */
function pathMatch(path: RouteMatch["path"]): NamedMatch {
  const regexOf = (value: string, ignoreCase?: boolean): NamedMatch => ({
    name: ":path",
    match: { kind: "regex", value, ...(ignoreCase && { ignoreCase }) },
    invert: false,
  });
  switch (path.kind) {
    case "exact":
      return regexOf(`${escapeRegex(path.value)}(\\?.*)?`, path.ignoreCase);
    case "path-prefix":
      return regexOf(`${escapeRegex(path.value.replace(/\/+$/, ""))}([/?].*)?`);
    case "regex":
      return regexOf(`(${path.value})(\\?.*)?`, path.ignoreCase);
    case "suffix":
      return regexOf(`[^?]*${escapeRegex(path.value)}(\\?.*)?`, path.ignoreCase);
    case "contains":
      return regexOf(`[^?]*${escapeRegex(path.value)}.*`, path.ignoreCase);
    default:
      return { name: ":path", match: path, invert: false };
  }
}

function valueAction(per: NonNullable<LocalRateLimit["per"]>) {
  if (per.kind === "header") {
    return {
      $case: "requestHeaders" as const,
      value: { headerName: per.name, descriptorKey: valueKey, skipIfAbsent: false },
    };
  }
  return {
    $case: "extension" as const,
    value: {
      name: "envoy.rate_limit_descriptors.expr",
      typedConfig: pack("envoy.extensions.rate_limit_descriptors.expr.v3.Descriptor", Descriptor, {
        descriptorKey: valueKey,
        skipIfError: true,
        exprSpecifier: { $case: "text", value: "connection.uri_san_peer_certificate" },
      }),
    },
  };
}

/** `max_dynamic_descriptors = 18` (UInt32Value), which the generated messages do not know yet. */
function maxDynamicDescriptors(count: number): Buffer {
  const value = encode(Config, { stage: count }).slice(1); // the varint alone
  const wrapped = Buffer.concat([Buffer.from([0x08]), value]);
  return Buffer.concat([Buffer.from([0x92, 0x01, wrapped.length]), wrapped]);
}
