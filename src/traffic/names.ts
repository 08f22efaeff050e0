/**
 * Hosts and the names made of them. A host is a full name (`catalog.coolapp.svc.cluster.local`), `*`, or `*.` and the
 * rest of a name. Source: Istio `pkg/config/host/name.go`, `pilot/pkg/model/push_context.go`.
 */

/**
 * What an author's host means: a name without a dot is a Service of the author's namespace; others are full already
 * (`catalog.coolapp` is not looked up as DNS would). Source: Istio `ResolveShortnameToFQDN`.
 */
export function fullHost(host: string, namespace: string, clusterDomain: string): string {
  const lower = host.toLowerCase();
  if (lower.includes("*") || lower.includes(".") || lower === "" || namespace === "") return lower;
  return `${lower}.${namespace}.svc.${clusterDomain}`;
}

/** The patterns that cover a host, the closest first: itself, `*.coolapp.svc.cluster.local`, …, `*`. */
export function patternsOf(host: string): string[] {
  const patterns = [host];
  if (host === "*") return patterns;
  let rest = host.startsWith("*.") ? host.slice(2) : host;
  for (let dot = rest.indexOf("."); dot >= 0; dot = rest.indexOf(".")) {
    rest = rest.slice(dot + 1);
    patterns.push(`*.${rest}`);
  }
  patterns.push("*");
  return patterns;
}

/** Whether `pattern` covers all of `host`, which may be a pattern too. */
export function covers(pattern: string, host: string): boolean {
  if (pattern === "*" || pattern === host) return true;
  return pattern.startsWith("*") && host.endsWith(pattern.slice(1)) && host.length >= pattern.length;
}

/** The hosts that both have: the narrower of the two, or none. */
export function common(a: string, b: string): string | undefined {
  if (covers(a, b)) return b;
  return covers(b, a) ? a : undefined;
}

/** Sorts the more specific first: exact before wildcards, longer before shorter. */
export function bySpecificity(a: string, b: string): number {
  const wild = Number(a.startsWith("*")) - Number(b.startsWith("*"));
  return wild || b.length - a.length || (a < b ? -1 : a > b ? 1 : 0);
}

/** `outbound|8080|v1|catalog.coolapp.svc.cluster.local`, Envoy's cluster name in Istio. */
export function upstreamName(
  direction: "outbound" | "inbound",
  port: number,
  subset: string,
  host: string,
): string {
  return `${direction}|${port}|${subset}|${host}`;
}

/** The server name in mTLS to a subset: `outbound_.8080_.v1_.catalog.coolapp.svc.cluster.local`. */
export function upstreamSni(port: number, subset: string, host: string): string {
  return `outbound_.${port}_.${subset}_.${host}`;
}

/** Where the client was going, whatever that is. */
export const passthroughUpstream = "PassthroughCluster";
/** Nowhere. */
export const blackHoleUpstream = "BlackHoleCluster";
/** The workload itself, on a port that no service names. */
export const inboundPassthroughUpstream = "InboundPassthroughCluster";

/** The name of a gateway's credential over SDS. */
export function credential(namespace: string, name: string): string {
  return name.includes("://") ? name : `kubernetes://${namespace}/${name}`;
}

/** Milliseconds of a duration as Go and protobuf write it (`1.5s`, `2m`, `1h30m`, `100ms`); undefined if it is none. */
export function milliseconds(text: string | undefined): number | undefined {
  if (text === undefined || text === "") return undefined;
  if (text === "0") return 0;
  const units: Record<string, number> = { ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1e3, m: 6e4, h: 36e5 };
  const pattern = /(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)/y;
  let sum = 0;
  let at = 0;
  for (let part = pattern.exec(text); part; part = pattern.exec(text)) {
    sum += Number(part[1]) * units[part[2]!]!;
    at = pattern.lastIndex;
  }
  return at === text.length ? sum : undefined;
}

const label = "[a-z0-9_]([-a-z0-9_]*[a-z0-9_])?";
const hostPattern = new RegExp(`^(?:\\*|(?:\\*\\.)?${label}(?:\\.${label})*\\.?)$`);

/** A DNS name or address, `*`, or `*.` and a name: what Envoy takes as a virtual host's domain and a server name. */
export function isHost(text: string): boolean {
  return text.length <= 255 && hostPattern.test(text);
}

/** From 1 to 65535. */
export function isPort(number: number | undefined): number is number {
  return number !== undefined && Number.isInteger(number) && number > 0 && number <= 65_535;
}
