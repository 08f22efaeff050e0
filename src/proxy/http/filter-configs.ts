/** What routes and virtual hosts say to filters (`typed_per_filter_config`), compiled with the table. */

import {
  FilterConfig,
  type CorsPolicy as LegacyCorsPolicy,
} from "#protocols/envoy/config/route/v3/route_components.ts";
import { Cors, CorsPolicy } from "#protocols/envoy/extensions/filters/http/cors/v3/cors.ts";
import { HTTPFault } from "#protocols/envoy/extensions/filters/http/fault/v3/fault.ts";
import { LocalRateLimit } from "#protocols/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit.ts";
import { RBACPerRoute } from "#protocols/envoy/extensions/filters/http/rbac/v3/rbac.ts";
import type { Any } from "#protocols/google/protobuf/any.ts";
import { Unservable } from "../contract.ts";
import { type CorsSettings, compileCors } from "./filter-cors.ts";
import { compileFault, type FaultSettings } from "./filter-fault.ts";
import { compileRateLimit, type RateLimitSettings } from "./filter-rate-limit.ts";
import { compileRbacSettings, type RbacSettings } from "./filter-rbac.ts";

/** One setting; what is given says which filter it is for. */
export interface FilterSetting {
  cors?: CorsSettings;
  fault?: FaultSettings;
  rbac?: RbacSettings;
  rateLimit?: RateLimitSettings;
  /** The filter is off here. */
  disabled?: boolean;
}

/** By the filter's name in the connection manager. */
export type FilterConfigs = ReadonlyMap<string, FilterSetting>;

export const CORS = "envoy.filters.http.cors";

export function compileFilterConfigs(configs: Readonly<Record<string, Any>>): FilterConfigs | undefined {
  const names = Object.keys(configs);
  if (names.length === 0) return undefined;
  const result = new Map<string, FilterSetting>();
  for (const name of names) result.set(name, compileOne(name, configs[name]!));
  return result;
}

function compileOne(name: string, any: Any): FilterSetting {
  switch (any.typeUrl.slice(any.typeUrl.lastIndexOf("/") + 1)) {
    case "envoy.config.route.v3.FilterConfig": {
      const wrapped = FilterConfig.decode(any.value);
      if (wrapped.disabled) return { disabled: true };
      return wrapped.config ? compileOne(name, wrapped.config) : {};
    }
    case "envoy.extensions.filters.http.cors.v3.CorsPolicy":
      return { cors: compileCors(CorsPolicy.decode(any.value)) };
    case "envoy.extensions.filters.http.cors.v3.Cors":
      Cors.decode(any.value);
      return {};
    case "envoy.extensions.filters.http.fault.v3.HTTPFault":
      return { fault: compileFault(HTTPFault.decode(any.value)) };
    case "envoy.extensions.filters.http.rbac.v3.RBACPerRoute": {
      const { rbac } = RBACPerRoute.decode(any.value);
      return rbac ? { rbac: compileRbacSettings(rbac) } : { disabled: true };
    }
    case "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit":
      return { rateLimit: compileRateLimit(LocalRateLimit.decode(any.value)) };
    default:
      throw new Unservable(`configuration of the filter '${name}' (${any.typeUrl}) is not served`);
  }
}

/** The cors field of routes and virtual hosts, from before filters had their own. */
export function compileLegacyCors(policy: LegacyCorsPolicy): FilterConfigs {
  const filterEnabled = policy.enabledSpecifier?.value;
  return new Map([[CORS, { cors: compileCors({ ...policy, filterEnabled }) }]]);
}

/** What is more specific hides what is less. */
export function layered(
  below: FilterConfigs | undefined,
  above: FilterConfigs | undefined,
): FilterConfigs | undefined {
  if (!below || !above) return above ?? below;
  return new Map([...below, ...above]);
}
