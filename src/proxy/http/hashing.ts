/** What hash balancers hash (RouteAction.HashPolicy), combined as Envoy's HashPolicyImpl does. */
import { xxhash64 } from "../hash.ts";
import type { Exchange } from "./exchange.ts";
import type { Hash } from "./route-action.ts";
import { headerOf, queryParameter } from "./route-match.ts";

const mask = 0xffffffffffffffffn;

/** Undefined: no policy found anything. Cookies that are missing and may be made are set in the response. */
export function hashOf(policies: readonly Hash[], exchange: Exchange): bigint | undefined {
  let hash: bigint | undefined;
  for (const policy of policies) {
    const found = one(policy, exchange);
    if (found !== undefined) {
      const old = hash === undefined ? 0n : ((hash << 1n) | (hash >> 63n)) & mask;
      hash = old ^ found;
    }
    // What is terminal ends the list once there is a hash.
    if (policy.terminal && hash !== undefined) break;
  }
  return hash;
}

function one(policy: Hash, exchange: Exchange): bigint | undefined {
  switch (policy.source) {
    case "header": {
      let value = headerOf(exchange.head, policy.name);
      if (value === undefined) return undefined;
      if (policy.rewrite) value = policy.rewrite(value);
      return xxhash64(value);
    }
    case "query": {
      const value = queryParameter(exchange.head.path, policy.name);
      return value === undefined ? undefined : xxhash64(value);
    }
    case "source-ip":
      return xxhash64(exchange.remoteIp);
    case "cookie": {
      const value = cookie(exchange.head.headers.joined("cookie"), policy.name);
      if (value !== undefined) return xxhash64(value);
      if (!policy.cookie) return undefined;
      const { remote, local } = exchange.facts.downstream;
      // As Envoy: a value of the connection's two ends, so that it stays until the cookie comes back.
      const made = xxhash64(`${remote.ip}:${remote.port}${local.ip}:${local.port}`).toString(16);
      exchange.setCookie(
        `${policy.name}="${made}"${policy.cookie.ttl > 0 ? `; Max-Age=${policy.cookie.ttl}` : ""}${
          policy.cookie.path ? `; Path=${policy.cookie.path}` : ""
        }${policy.cookie.attributes}; HttpOnly`,
      );
      return xxhash64(made);
    }
  }
}

function cookie(header: string | undefined, name: string): string | undefined {
  if (header === undefined) return undefined;
  for (const part of header.split(/[;,]/)) {
    const text = part.trim();
    if (text.startsWith(`${name}=`)) return text.slice(name.length + 1).replace(/^"(.*)"$/, "$1");
  }
  return undefined;
}
