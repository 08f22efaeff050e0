/**
 * Local rate limits: a token bucket in each proxy. One filter for each limit of a handler, in front of its routes; and
 * one that is idle until a route gives it a bucket.
 */
import type { RateLimit } from "#protocols/envoy/config/route/v3/route_components.ts";
import { LocalRateLimit as Config } from "#protocols/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit.ts";
import type { LocalRateLimit } from "../../traffic/index.ts";
import { duration, encode, pack, uint32 } from "./pack.ts";

const type = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";
/** The filter that routes configure. */
export const routeRateLimit = "envoy.filters.http.local_ratelimit";
const statPrefix = "http_local_rate_limiter";
/** The descriptor that carries the header's or client's value. */
const valueKey = "value";
/** Buckets kept for the values of one limit; the least used goes. Envoy's own default is 20. */
const maxBuckets = 10_000;

/** The filter that does nothing but for routes with limits of their own. */
export const idleRateLimit = {
  name: routeRateLimit,
  configType: { $case: "typedConfig" as const, value: pack(type, Config, { statPrefix }) },
};

/** A filter for each limit. A limit by value reads the rate limit actions of its stage (see `valueActions`). */
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
  if (!limit.per) return pack(type, Config, { ...config, tokenBucket: bucket });
  const byValue = pack(type, Config, {
    ...config,
    // Who has no value is not limited by it.
    tokenBucket: { ...bucket, maxTokens: uint32(2 ** 32), tokensPerFill: uint32(2 ** 32) },
    descriptors: [{ entries: [{ key: valueKey, value: "" }], tokenBucket: bucket }],
    alwaysConsumeDefaultTokenBucket: false,
  });
  return { ...byValue, value: Buffer.concat([byValue.value, maxDynamicDescriptors(maxBuckets)]) };
}

/** Rate limit actions that give a limit by value its value; for the routes, at the limit's stage. */
export function valueActions(limits: readonly LocalRateLimit[], firstStage: number): RateLimit[] {
  return limits.flatMap(({ per }, i) =>
    per ? [{ stage: firstStage + i, disableKey: "", actions: [{ actionSpecifier: actionOf(per) }] }] : [],
  );
}

function actionOf(per: NonNullable<LocalRateLimit["per"]>) {
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
      typedConfig: {
        typeUrl: "type.googleapis.com/envoy.extensions.rate_limit_descriptors.expr.v3.Descriptor",
        // descriptor_key = 1, skip_if_error = 2, text = 3
        value: Buffer.concat([
          textField(1, valueKey),
          Buffer.from([0x10, 1]),
          textField(3, "connection.uri_san_peer_certificate"),
        ]),
      },
    },
  };
}

function textField(number: number, text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([Buffer.from([(number << 3) | 2, bytes.length]), bytes]);
}

/** `max_dynamic_descriptors = 18` (UInt32Value), which the generated messages do not know yet. */
function maxDynamicDescriptors(count: number): Buffer {
  const value = encode(Config, { stage: count }).slice(1); // the varint alone
  const wrapped = Buffer.concat([Buffer.from([0x08]), value]);
  return Buffer.concat([Buffer.from([0x92, 0x01, wrapped.length]), wrapped]);
}
