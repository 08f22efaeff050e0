/** Envoy's local_ratelimit filter: token buckets in this proxy, one for all or one for each descriptor. */

import type { TypedExtensionConfig } from "#protocols/envoy/config/core/v3/extension.ts";
import type { RateLimit, RateLimit_Action } from "#protocols/envoy/config/route/v3/route_components.ts";
import type { LocalRateLimit } from "#protocols/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit.ts";
import { Descriptor } from "#protocols/envoy/extensions/rate_limit_descriptors/expr/v3/expr.ts";
import type { TokenBucket } from "#protocols/envoy/type/v3/token_bucket.ts";
import type { World } from "../../world/index.ts";
import { type Counter, type Stats, type StreamFacts, Unservable } from "../contract.ts";
import { compileHeaderMatcher } from "../rbac.ts";
import { milliseconds } from "../values.ts";
import type { FilteredRequest, HttpFilter } from "./filter.ts";
import { compileMutation, type Mutation, mutate } from "./mutations.ts";
import { percentOf } from "./percent.ts";
import { headerOf, queryTest } from "./route-match.ts";

export interface RateLimitSettings {
  statPrefix: string;
  status: number;
  bucket: Bucket | undefined;
  enabled: number;
  enforced: number;
  perConnection: boolean;
  descriptors: readonly {
    entries: readonly { key: string; value: string }[];
    bucket: Bucket;
    buckets: Map<string, Bucket>;
  }[];
  responseHeaders: Mutation | undefined;
  unenforcedHeaders: Mutation | undefined;
  resourceExhausted: boolean;
  stage: number;
  alwaysConsume: boolean;
  connections: WeakMap<object, Bucket>;
}

/** Values of one descriptor at most; those that come after share the bucket of the oldest that is dropped. */
const BUCKETS_AT_MOST = 10_000;

/** Tokens come back steadily, up to the most that it holds. */
export class Bucket {
  readonly most: number;
  /** Tokens per ms. */
  readonly rate: number;
  #tokens: number;
  #at = Number.NaN;

  constructor(most: number, rate: number) {
    this.most = most;
    this.rate = rate;
    this.#tokens = most;
  }

  static of(message: TokenBucket): Bucket {
    const interval = milliseconds(message.fillInterval, 0);
    if (interval < 50) throw new Unservable("local rate limit token bucket fill timer must be >= 50ms");
    return new Bucket(message.maxTokens, (message.tokensPerFill ?? 1) / interval);
  }

  /** Another of the same size, full. */
  fresh(): Bucket {
    return new Bucket(this.most, this.rate);
  }

  take(now: number): boolean {
    if (!Number.isNaN(this.#at))
      this.#tokens = Math.min(this.most, this.#tokens + (now - this.#at) * this.rate);
    this.#at = now;
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }
}

export function compileRateLimit(config: LocalRateLimit): RateLimitSettings {
  const status = config.status?.code ?? 0;
  return {
    statPrefix: config.statPrefix,
    status: status >= 400 ? status : 429,
    bucket: config.tokenBucket && Bucket.of(config.tokenBucket),
    enabled: percentOf(config.filterEnabled?.defaultValue) ?? 0,
    enforced: percentOf(config.filterEnforced?.defaultValue) ?? 0,
    perConnection: config.localRateLimitPerDownstreamConnection,
    descriptors: config.descriptors.map((descriptor) => {
      if (!descriptor.tokenBucket)
        throw new Unservable("local rate limit: a descriptor without token bucket");
      return {
        entries: descriptor.entries,
        bucket: Bucket.of(descriptor.tokenBucket),
        buckets: new Map<string, Bucket>(),
      };
    }),
    responseHeaders: compileMutation(config.responseHeadersToAdd, []),
    unenforcedHeaders: compileMutation(config.requestHeadersToAddWhenNotEnforced, []),
    resourceExhausted: config.rateLimitedAsResourceExhausted,
    stage: config.stage,
    alwaysConsume: config.alwaysConsumeDefaultTokenBucket ?? true,
    connections: new WeakMap(),
  };
}

/** What a route's rate_limits make of a request; undefined: this one does not apply. */
type DescriptorOf = (request: FilteredRequest) => { key: string; value: string }[] | undefined;

/** By stage. */
export function compileRateLimits(limits: readonly RateLimit[]): { stage: number; of: DescriptorOf }[] {
  return limits.map((limit) => {
    const actions = limit.actions.map(compileAction);
    return {
      stage: limit.stage ?? 0,
      of: (request) => {
        const entries: { key: string; value: string }[] = [];
        for (const action of actions) {
          const entry = action(request);
          if (entry === undefined) return undefined;
          if (entry) entries.push(entry);
        }
        return entries;
      },
    };
  });
}

/** An entry; null: none of this action, but the others count; undefined: the whole descriptor does not apply. */
function compileAction(
  action: RateLimit_Action,
): (request: FilteredRequest) => { key: string; value: string } | null | undefined {
  const specifier = action.actionSpecifier;
  switch (specifier?.$case) {
    case "requestHeaders": {
      const { headerName, descriptorKey, skipIfAbsent } = specifier.value;
      const name = headerName.toLowerCase();
      return ({ head }) => {
        const value = headerOf(head, name);
        return value === undefined ? (skipIfAbsent ? null : undefined) : { key: descriptorKey, value };
      };
    }
    case "remoteAddress":
      return ({ remoteIp }) => ({ key: "remote_address", value: remoteIp });
    case "genericKey": {
      const { descriptorKey, descriptorValue } = specifier.value;
      return () => ({ key: descriptorKey || "generic_key", value: descriptorValue });
    }
    case "destinationCluster":
      return (request) => ({ key: "destination_cluster", value: request.destination() });
    case "headerValueMatch": {
      const { descriptorKey, descriptorValue, expectMatch, headers } = specifier.value;
      const tests = headers.map(
        (matcher) => [matcher.name.toLowerCase(), compileHeaderMatcher(matcher)] as const,
      );
      return ({ head }) => {
        const matches = tests.every(([name, test]) => test(headerOf(head, name)));
        if (matches !== (expectMatch ?? true)) return undefined;
        return { key: descriptorKey || "header_match", value: descriptorValue };
      };
    }
    case "queryParameterValueMatch": {
      const { descriptorKey, descriptorValue, expectMatch, queryParameters } = specifier.value;
      const tests = queryParameters.map(queryTest);
      return ({ head }) => {
        const matches = tests.every((test) => test(head.path));
        if (matches !== (expectMatch ?? true)) return undefined;
        return { key: descriptorKey || "query_match", value: descriptorValue };
      };
    }
    case "extension":
      return compileExtension(specifier.value);
    default:
      throw new Unservable(`rate limit action '${specifier?.$case ?? "none"}' is not served`);
  }
}

/** An expression (CEL). The one that is served asks who the client is, by its certificate. */
function compileExtension({ name, typedConfig }: TypedExtensionConfig): ReturnType<typeof compileAction> {
  const type = typedConfig?.typeUrl ?? "";
  if (!type.endsWith("/envoy.extensions.rate_limit_descriptors.expr.v3.Descriptor")) {
    throw new Unservable(`rate limit descriptor '${name}' is not served`);
  }
  const { descriptorKey, exprSpecifier, skipIfError } = Descriptor.decode(typedConfig!.value);
  const text = exprSpecifier?.$case === "text" ? exprSpecifier.value : "";
  if (text !== "connection.uri_san_peer_certificate") {
    throw new Unservable(`rate limit descriptor '${name}': the expression '${text}' is not served`);
  }
  return ({ connection }) => {
    const value = connection.tls?.peer?.uris[0];
    return value === undefined ? (skipIfError ? null : undefined) : { key: descriptorKey, value };
  };
}

interface Counters {
  enabled: Counter;
  enforced: Counter;
  ok: Counter;
  limited: Counter;
}

function countersOf(stats: Stats, prefix: string): Counters {
  const scope = stats.scope(`${prefix}.http_local_rate_limit`, "http_local_rate_limit", {
    envoy_local_http_ratelimit_prefix: prefix,
  });
  return {
    enabled: scope.counter("enabled"),
    enforced: scope.counter("enforced"),
    ok: scope.counter("ok"),
    limited: scope.counter("rate_limited"),
  };
}

export class RateLimitFilter implements HttpFilter {
  readonly name: string;
  readonly #own: RateLimitSettings;
  readonly #world: World;
  readonly #stats: Stats;
  readonly #counters = new WeakMap<RateLimitSettings, Counters>();

  constructor(name: string, own: RateLimitSettings, world: World, stats: Stats) {
    this.name = name;
    this.#stats = stats;
    this.#own = own;
    this.#world = world;
  }

  request(request: FilteredRequest): boolean {
    const settings = request.setting(this.name)?.rateLimit ?? this.#own;
    if (settings.enabled === 0 || this.#world.random() >= settings.enabled) return true;
    let counters = this.#counters.get(settings);
    if (!counters) {
      counters = countersOf(this.#stats, settings.statPrefix);
      this.#counters.set(settings, counters);
    }
    counters.enabled.inc();
    const allowed = this.#allowed(settings, request);
    (allowed ? counters.ok : counters.limited).inc();
    if (allowed) return true;
    if (this.#world.random() >= settings.enforced) {
      const changes = settings.unenforcedHeaders;
      if (changes) mutate(request.head.headers, changes, request as unknown as StreamFacts);
      return true;
    }
    counters.enforced.inc();
    request.addFlag("RL");
    const changes = settings.responseHeaders;
    request.reply({
      status: settings.status,
      body: "local_rate_limited",
      details: "local_rate_limited",
      ...(settings.resourceExhausted ? { grpcStatus: 8 } : {}),
      headers(answer) {
        if (changes) mutate(answer, changes, request as unknown as StreamFacts);
      },
    });
    return false;
  }

  #allowed(settings: RateLimitSettings, request: FilteredRequest): boolean {
    const now = this.#world.monotonic();
    let matched = false;
    let allowed = true;
    if (settings.descriptors.length > 0 && request.route) {
      for (const { stage, of } of request.route.rateLimits) {
        if (stage !== settings.stage) continue;
        const entries = of(request);
        if (!entries) continue;
        const bucket = bucketFor(settings, entries);
        if (!bucket) continue;
        matched = true;
        if (!bucket.take(now)) allowed = false;
      }
    }
    if (!allowed) return false;
    if (matched && !settings.alwaysConsume) return true;
    let { bucket } = settings;
    if (bucket && settings.perConnection) {
      bucket = settings.connections.get(request.connection);
      if (!bucket) {
        bucket = settings.bucket!.fresh();
        settings.connections.set(request.connection, bucket);
      }
    }
    return !bucket || bucket.take(now);
  }
}

/** The bucket of the descriptor with these entries. An entry without value stands for every value, each with its own bucket. */
function bucketFor(
  settings: RateLimitSettings,
  entries: { key: string; value: string }[],
): Bucket | undefined {
  for (const descriptor of settings.descriptors) {
    if (descriptor.entries.length !== entries.length) continue;
    let wild = "";
    const matches = descriptor.entries.every(({ key, value }, i) => {
      if (entries[i]!.key !== key) return false;
      if (value !== "") return entries[i]!.value === value;
      wild += `${entries[i]!.value}\0`;
      return true;
    });
    if (!matches) continue;
    if (wild === "") return descriptor.bucket;
    let bucket = descriptor.buckets.get(wild);
    if (!bucket) {
      bucket = descriptor.bucket.fresh();
      if (descriptor.buckets.size >= BUCKETS_AT_MOST) {
        const oldest = descriptor.buckets.keys().next().value;
        if (oldest !== undefined) descriptor.buckets.delete(oldest);
      }
      descriptor.buckets.set(wild, bucket);
    }
    return bucket;
  }
  return undefined;
}
