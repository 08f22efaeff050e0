/** Envoy's cors filter: preflights are answered here, and answers to allowed origins say so. */
import type { CorsPolicy } from "#protocols/envoy/extensions/filters/http/cors/v3/cors.ts";
import type { World } from "../../world/index.ts";
import type { Counter, StatsScope } from "../contract.ts";
import { compileStringMatcher } from "../strings.ts";
import type { FilteredRequest, HttpFilter } from "./filter.ts";
import type { Headers } from "./headers.ts";
import { percentOf } from "./percent.ts";

export interface CorsSettings {
  share: number;
  origin(origin: string): boolean;
  methods: string;
  headers: string;
  exposed: string;
  maxAge: string;
  credentials: boolean;
  privateNetwork: boolean;
  forwardUnmatched: boolean;
}

export function compileCors(policy: CorsPolicy): CorsSettings {
  const tests = policy.allowOriginStringMatch.map(compileStringMatcher);
  return {
    share: percentOf(policy.filterEnabled?.defaultValue) ?? 1,
    origin: (origin) => tests.some((test) => test(origin)),
    methods: policy.allowMethods,
    headers: policy.allowHeaders,
    exposed: policy.exposeHeaders,
    maxAge: policy.maxAge,
    credentials: policy.allowCredentials ?? false,
    privateNetwork: policy.allowPrivateNetworkAccess ?? false,
    forwardUnmatched: policy.forwardNotMatchingPreflights ?? true,
  };
}

export class CorsFilter implements HttpFilter {
  readonly name: string;
  readonly #world: World;
  readonly #valid: Counter;
  readonly #invalid: Counter;

  constructor(name: string, world: World, stats: StatsScope) {
    this.#valid = stats.counter("cors.origin_valid");
    this.#invalid = stats.counter("cors.origin_invalid");
    this.name = name;
    this.#world = world;
  }

  request(request: FilteredRequest): boolean {
    const policy = request.setting(this.name)?.cors;
    if (!policy || (policy.share < 1 && this.#world.random() >= policy.share)) return true;
    const { method, headers } = request.head;
    const origin = headers.get("origin");
    if (!origin) return true;
    const preflight = method === "OPTIONS" && !!headers.get("access-control-request-method");
    if (!policy.origin(origin)) {
      this.#invalid.inc();
      if (!preflight || policy.forwardUnmatched) return true;
      request.reply({ status: 200, body: "", details: "cors_response" });
      return false;
    }
    this.#valid.inc();
    request.notes.set(this, origin);
    if (!preflight) return true;
    request.reply({
      status: 200,
      body: "",
      details: "cors_response",
      headers(answer) {
        answer.set("access-control-allow-origin", origin);
        if (policy.credentials) answer.set("access-control-allow-credentials", "true");
        if (policy.methods) answer.set("access-control-allow-methods", policy.methods);
        if (policy.headers) answer.set("access-control-allow-headers", policy.headers);
        if (policy.maxAge) answer.set("access-control-max-age", policy.maxAge);
        if (policy.privateNetwork && headers.get("access-control-request-private-network") === "true") {
          answer.set("access-control-allow-private-network", "true");
        }
      },
    });
    return false;
  }

  response(request: FilteredRequest, headers: Headers): void {
    const origin = request.notes.get(this);
    if (typeof origin !== "string") return;
    const policy = request.setting(this.name)!.cors!;
    headers.set("access-control-allow-origin", origin);
    if (policy.credentials) headers.set("access-control-allow-credentials", "true");
    if (policy.exposed) headers.set("access-control-expose-headers", policy.exposed);
  }
}
