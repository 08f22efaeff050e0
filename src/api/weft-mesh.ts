/** mesh.weft.dev: what a mesh of ours has and Istio's API has not. */

import type { PolicySelector, StringMatch } from "./istio.ts";
import { type Condition, type KubeObject, resource } from "./meta.ts";
import type { PolicyTargetReference } from "./security.ts";

/**
 * Limits of requests, kept by each proxy for itself: a workload with n pods lets n times as many through. Whoever is
 * over gets 429 with Retry-After.
 */
export interface RateLimit extends KubeObject {
  spec: {
    /** Whose inbound requests: pods of the namespace by label. Neither selector nor targetRefs: the whole namespace. */
    selector?: PolicySelector;
    /** A Gateway of networking.istio.io or gateway.networking.k8s.io: requests that come in there. */
    targetRefs?: PolicyTargetReference[];
    /** A request counts against each limit that it matches. */
    limits: RateLimitRule[];
  };
  status?: { conditions?: Condition[] };
}

export interface RateLimitRule {
  name: string;
  /** All of it must hold; none: every request. */
  match?: {
    path?: StringMatch;
    methods?: string[];
    headers?: Record<string, StringMatch>;
  };
  /** Requests per interval. */
  tokens: number;
  /** `1s`, `1m`; 50 ms at least. */
  interval: string;
  /** How many may come at once; `tokens` unless given. */
  burst?: number;
  /** A bucket for each of these, and one for all requests that have none; without it one bucket for all. */
  per?: {
    /** Each value of this header. */
    header?: string;
    /** Each SPIFFE identity of a client. */
    clientIdentity?: boolean;
  };
}

export const rateLimits = resource<RateLimit>("mesh.weft.dev", "v1alpha1", "RateLimit", "ratelimits");
