/** When a request is tried again (RetryPolicy and the x-envoy-retry-* headers), compiled once. */
import type { RetryPolicy } from "#protocols/envoy/config/route/v3/route_components.ts";
import { PreviousPrioritiesConfig } from "#protocols/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config.ts";
import type { World } from "../../world/index.ts";
import { Unservable } from "../contract.ts";
import { compileHeaderMatcher } from "../rbac.ts";
import { milliseconds } from "../values.ts";
import type { Headers, RequestHead } from "./headers.ts";
import { headerOf } from "./route-match.ts";

/** The conditions of `retry_on` and `x-envoy-retry-on`, as bits. */
export const On = {
  "5xx": 1,
  "gateway-error": 2,
  "connect-failure": 4,
  "retriable-4xx": 8,
  "refused-stream": 16,
  "retriable-status-codes": 32,
  "retriable-headers": 64,
  reset: 128,
  "reset-before-request": 256,
  "envoy-ratelimited": 512,
  "http3-post-connect-failure": 0,
  // gRPC
  cancelled: 1024,
  "deadline-exceeded": 2048,
  internal: 4096,
  "resource-exhausted": 8192,
  unavailable: 16_384,
} as const;

/** Why a try did not end with an answer. */
export type ResetReason =
  | "connection_failure"
  | "connect_timeout"
  | "tls_failure"
  | "overflow"
  | "connection_termination"
  | "protocol_error"
  | "remote_refused"
  | "remote_reset"
  | "per_try_timeout"
  | "local_reset";

export interface Retry {
  on: number;
  attempts: number;
  /** ms; 0: none. */
  perTryTimeout: number;
  statusCodes: readonly number[];
  headers: readonly ((headers: Headers) => boolean)[];
  requestHeaders: readonly ((head: RequestHead) => boolean)[];
  avoidPrevious: boolean;
  hostSelectionAttempts: number;
  /** After so many tries their priorities are left alone; 0: never. */
  priorityUpdate: number;
  baseInterval: number;
  maxInterval: number;
}

/** Unknown words are passed over, as Envoy does. */
function parseRetryOn(text: string): number {
  let on = 0;
  for (const word of text.split(",")) on |= (On as Record<string, number>)[word.trim()] ?? 0;
  return on;
}

export function compileRetry(policy: RetryPolicy): Retry {
  let avoidPrevious = false;
  for (const predicate of policy.retryHostPredicate) {
    const type = predicate.configType?.value.typeUrl ?? "";
    if (
      /PreviousHostsPredicate$/.test(type) ||
      predicate.name === "envoy.retry_host_predicates.previous_hosts"
    ) {
      avoidPrevious = true;
    } else throw new Unservable(`retry host predicate '${predicate.name}' is not served`);
  }
  const baseInterval = milliseconds(policy.retryBackOff?.baseInterval, 25);
  return {
    on: parseRetryOn(policy.retryOn),
    attempts: policy.numRetries ?? 1,
    perTryTimeout: milliseconds(policy.perTryTimeout, 0),
    statusCodes: policy.retriableStatusCodes,
    headers: policy.retriableHeaders.map((matcher) => {
      const test = compileHeaderMatcher(matcher);
      const name = matcher.name.toLowerCase();
      return (headers) => test(headers.joined(name));
    }),
    requestHeaders: policy.retriableRequestHeaders.map((matcher) => {
      const test = compileHeaderMatcher(matcher);
      const name = matcher.name.toLowerCase();
      return (head) => test(headerOf(head, name));
    }),
    avoidPrevious,
    hostSelectionAttempts: policy.hostSelectionRetryMaxAttempts || 1,
    priorityUpdate: priorityUpdateOf(policy),
    baseInterval,
    maxInterval: milliseconds(policy.retryBackOff?.maxInterval, baseInterval * 10),
  };
}

function priorityUpdateOf({ retryPriority }: RetryPolicy): number {
  if (!retryPriority) return 0;
  const any = retryPriority.configType?.value;
  if (!any?.typeUrl.endsWith("PreviousPrioritiesConfig"))
    throw new Unservable(`retry priority '${retryPriority.name}' is not served`);
  const { updateFrequency } = PreviousPrioritiesConfig.decode(any.value);
  if (updateFrequency <= 0) throw new Unservable("retry priority: update_frequency must be greater than 0");
  return updateFrequency;
}

/** Fully jittered exponential back-off before the n-th retry (from 1), ms. */
export function backoff(retry: Retry, n: number, world: World): number {
  const bound = Math.min(retry.baseInterval * (2 ** n - 1), retry.maxInterval);
  return Math.floor(world.random() * bound);
}

/** Whether an answer is to be tried again. */
export function retriableResponse(retry: Retry, on: number, status: number, headers: Headers): boolean {
  if (on & On["5xx"] && status >= 500) return true;
  if (on & On["gateway-error"] && status >= 502 && status <= 504) return true;
  if (on & On["retriable-4xx"] && status === 409) return true;
  if (on & On["retriable-status-codes"] && retry.statusCodes.includes(status)) return true;
  if (on & On["retriable-headers"] && retry.headers.some((test) => test(headers))) return true;
  if (on & On["envoy-ratelimited"] && headers.has("x-envoy-ratelimited")) return true;
  if (on & grpcBits) {
    switch (headers.get("grpc-status")) {
      case "1":
        return (on & On.cancelled) !== 0;
      case "4":
        return (on & On["deadline-exceeded"]) !== 0;
      case "13":
        return (on & On.internal) !== 0;
      case "8":
        return (on & On["resource-exhausted"]) !== 0;
      case "14":
        return (on & On.unavailable) !== 0;
    }
  }
  return false;
}

const grpcBits =
  On.cancelled | On["deadline-exceeded"] | On.internal | On["resource-exhausted"] | On.unavailable;

/** Whether a try that ended without an answer is to be tried again. */
export function retriableReset(on: number, reason: ResetReason, requestStarted: boolean): boolean {
  if (reason === "overflow") return false;
  if (on & On.reset) return true;
  if (on & On["reset-before-request"] && !requestStarted) return true;
  if (on & (On["5xx"] | On["gateway-error"])) return true;
  if (on & On["connect-failure"]) {
    if (reason === "connection_failure" || reason === "connect_timeout" || reason === "tls_failure")
      return true;
  }
  return (on & On["refused-stream"]) !== 0 && reason === "remote_refused";
}
