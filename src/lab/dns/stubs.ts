/**
 * ConfigMap `kube-system/kube-dns`: whom a cluster's DNS asks about names that are not its own. Its two keys
 * hold JSON: `stubDomains` {"clusterset.local": ["10.11.0.20"]} and `upstreamNameservers` ["192.0.2.53"].
 */
import type { ConfigMap } from "../../api/index.ts";
import { type ForwardRule, isServerAddress } from "../../dns/index.ts";

export interface StubRules {
  rules: ForwardRule[];
  /** What was left out, and why, in words for people. */
  problems: string[];
}

/**
 * The rules that a ConfigMap stands for; `upstream` is asked about all else unless it says otherwise, and with
 * nobody to ask all else does not exist. What is wrong is left out, alone.
 */
export function stubRules(config: ConfigMap | undefined, upstream: readonly string[]): StubRules {
  const problems: string[] = [];
  const addresses = (value: unknown, of: string): string[] => {
    const list = Array.isArray(value) ? (value as unknown[]) : [];
    if (!Array.isArray(value)) problems.push(`${of} is not a list of addresses`);
    return list.flatMap((each) => {
      if (typeof each === "string" && isServerAddress(each)) return [each];
      problems.push(`${of}: ${JSON.stringify(each)} is not the address of a DNS server`);
      return [];
    });
  };
  const json = (key: string): unknown => {
    const text = config?.data?.[key]?.trim();
    if (!text) return undefined;
    try {
      return JSON.parse(text);
    } catch {
      problems.push(`${key} is not JSON`);
      return undefined;
    }
  };

  const rules: ForwardRule[] = [];
  const stubs = json("stubDomains") ?? {};
  if (typeof stubs === "object" && !Array.isArray(stubs)) {
    for (const [zone, value] of Object.entries(stubs as object)) {
      const to = addresses(value, `stubDomains ${zone}`);
      // A domain whose servers are all unknown is not ours to deny.
      if (to.length > 0) rules.push({ zone, to });
    }
  } else problems.push("stubDomains is not an object");
  const above = json("upstreamNameservers");
  rules.push({ zone: ".", to: above === undefined ? upstream : addresses(above, "upstreamNameservers") });
  return { rules, problems };
}
