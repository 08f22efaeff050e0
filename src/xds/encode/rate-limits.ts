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

/** The stage of what a route itself says; a handler's limits have the others. */
const routeStage = 0;
/** Envoy has the stages 0 to 10. */
const handlerStages = 10;

/** How requests are told a limit apart from others: by the stage, and limits of one stage by the keys of their descriptors. */
interface Slot {
  stage: number;
  /** Of descriptors' entries: whether query and head match, and the header's or client's value. */
  queryKey: string;
  matchKey: string;
  valueKey: string;
}

function slotAt(stage: number, round: number): Slot {
  const suffix = round === 0 ? "" : `.${round}`;
  return { stage, queryKey: `query${suffix}`, matchKey: `match${suffix}`, valueKey: `value${suffix}` };
}

const routeSlot = slotAt(routeStage, 0);
const handlerSlot = (i: number): Slot => slotAt(1 + (i % handlerStages), Math.floor(i / handlerStages));

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
    configType: { $case: "typedConfig" as const, value: rateLimitConfig(limit, handlerSlot(i)) },
  }));
}

/** What a route's limit is, for the idle filter. */
export function routeRateLimitConfig(limit: LocalRateLimit) {
  return rateLimitConfig(limit, routeSlot);
}

function rateLimitConfig(limit: LocalRateLimit, slot: Slot) {
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
    stage: slot.stage,
  };
  const entries = entriesOf(limit, slot);
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
function entriesOf({ match, per }: LocalRateLimit, { queryKey, matchKey, valueKey }: Slot) {
  return [
    ...(match?.query.length ? [{ key: queryKey, value: "true" }] : []),
    ...(match ? [{ key: matchKey, value: "true" }] : []),
    ...(per ? [{ key: valueKey, value: "" }] : []),
  ];
}

/** Rate limit actions with which a handler's limits tell requests apart; for its routes. */
export function handlerActions(limits: readonly LocalRateLimit[]): RateLimit[] {
  return limits.flatMap((limit, i) => actionsOf(limit, handlerSlot(i)));
}

/** The same for a route's own. */
export function routeActions(limits: readonly LocalRateLimit[]): RateLimit[] {
  return limits.slice(0, 1).flatMap((limit) => actionsOf(limit, routeSlot));
}

function actionsOf(limit: LocalRateLimit, slot: Slot): RateLimit[] {
  const { per } = limit;
  const shared = matchActions(limit, slot);
  const sets = per
    ? [
        [...shared, valueAction(per, slot)],
        [...shared, noValueAction(per, slot)],
      ]
    : [shared];
  return sets
    .filter((actions) => actions.length > 0)
    .map((actions) => ({
      stage: slot.stage,
      disableKey: "",
      actions: actions.map((actionSpecifier) => ({ actionSpecifier })),
    })) as RateLimit[];
}

/** In the order of the descriptor's entries. */
function matchActions({ match }: LocalRateLimit, { queryKey, matchKey }: Slot) {
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
function noValueAction(per: NonNullable<LocalRateLimit["per"]>, { valueKey }: Slot) {
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

function valueAction(per: NonNullable<LocalRateLimit["per"]>, { valueKey }: Slot) {
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
