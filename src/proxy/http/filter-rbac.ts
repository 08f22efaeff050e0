/** Envoy's http rbac filter: access control by who asks and for what, and shadow rules that only take note. */
import type { RBAC } from "#protocols/envoy/extensions/filters/http/rbac/v3/rbac.ts";
import { type Counter, type StatsScope, Unservable } from "../contract.ts";
import { compileRbac, type RbacSubject, type RbacVerdict } from "../rbac.ts";
import type { FilteredRequest, HttpFilter } from "./filter.ts";
import { headerOf } from "./route-match.ts";

export interface RbacSettings {
  rules: ((subject: RbacSubject) => RbacVerdict) | undefined;
  shadow: ((subject: RbacSubject) => RbacVerdict) | undefined;
  shadowPrefix: string;
}

export function compileRbacSettings(rbac: RBAC): RbacSettings {
  if (rbac.matcher || rbac.shadowMatcher) throw new Unservable("rbac: matcher trees are not served");
  return {
    rules: rbac.rules && compileRbac(rbac.rules),
    shadow: rbac.shadowRules && compileRbac(rbac.shadowRules),
    shadowPrefix: rbac.shadowRulesStatPrefix,
  };
}

export class RbacFilter implements HttpFilter {
  readonly name: string;
  readonly #own: RbacSettings;
  readonly #allowed: Counter;
  readonly #denied: Counter;
  readonly #shadowAllowed: Counter;
  readonly #shadowDenied: Counter;

  /** `prefix`: goes before the names of its counters (`rules_stat_prefix`). */
  constructor(name: string, own: RbacSettings, stats: StatsScope, prefix: string) {
    this.#allowed = stats.counter(`rbac.${prefix}allowed`);
    this.#denied = stats.counter(`rbac.${prefix}denied`);
    this.#shadowAllowed = stats.counter(`rbac.${own.shadowPrefix}shadow_allowed`);
    this.#shadowDenied = stats.counter(`rbac.${own.shadowPrefix}shadow_denied`);
    this.name = name;
    this.#own = own;
  }

  request(request: FilteredRequest): boolean {
    const settings = request.setting(this.name)?.rbac ?? this.#own;
    if (!settings.rules && !settings.shadow) return true;
    const { head } = request;
    const subject: RbacSubject = {
      connection: request.connection,
      header: (name) => headerOf(head, name),
      path: request.plainPath,
      remoteIp: request.remoteIp,
    };
    if (request.metadata) subject.metadata = request.metadata;
    if (settings.shadow) {
      const { allowed, policy } = settings.shadow(subject);
      const { shadowPrefix: prefix } = settings;
      (allowed ? this.#shadowAllowed : this.#shadowDenied).inc();
      request.metadata ??= {};
      const said = request.metadata[this.name] ?? {};
      request.metadata[this.name] = said;
      said[`${prefix}shadow_engine_result`] = allowed ? "allowed" : "denied";
      if (policy !== undefined) said[`${prefix}shadow_effective_policy_id`] = policy;
    }
    if (!settings.rules) return true;
    const { allowed, policy } = settings.rules(subject);
    (allowed ? this.#allowed : this.#denied).inc();
    if (allowed) return true;
    request.reply({
      status: 403,
      body: "RBAC: access denied",
      details: `rbac_access_denied_matched_policy[${(policy ?? "none").replace(/\s/g, "_")}]`,
    });
    return false;
  }
}
