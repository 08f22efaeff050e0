/**
 * Redirection: what an application sends and what comes to it passes the proxy beside it. nftables rules in the pod's
 * network namespace, written once by `weft proxy-init` before anything else runs there.
 *
 * The rules are those of Istio's init container (istio `tools/istio-iptables`, chains ISTIO_OUTPUT and ISTIO_INBOUND),
 * with one addition. The proxy's own connections must pass, and what tells them apart is its uid, 1337. Where a user
 * namespace maps one uid, as in a lab, nobody can be 1337: there the proxy binds its connections to 169.254.77.1, which
 * nobody else does, and on the way out of the pod they get the pod's own address.
 *
 * What the proxy sends to its own pod's address is a call of the pod to itself and goes to the inbound listener, as if
 * it came from outside. What the inbound listener passes on to the application comes from 127.0.0.6 or goes to
 * 127.0.0.1, and is left alone.
 */
import { isIPv4 } from "node:net";
import { isRange } from "../addresses/index.ts";

/** The uid that the proxy's container runs as. Source: istio, `proxyUID`. */
export const proxyUid = 1337;
/** What the proxy binds its connections to where it has no uid of its own. Link-local, never on a wire. */
export const proxyAddress = "169.254.77.1";
/** Where the inbound side's connections to the application come from. Source: istio, `InboundPassthroughBindIpv4`. */
export const inboundSource = "127.0.0.6";
/** Where the init container leaves its choice for the proxy. */
export const redirectionFile = "/etc/istio/proxy/redirection.json";

/** Ports of ours in every pod, never redirected: health of the agent, readiness, metrics. */
const ownPorts = [15020, 15021, 15090];
/** Discovery's: the agent calls it before there is a proxy, by a library that binds no address. */
const discoveryPorts = [15012, 15017];
const table = "weft_redirection";

/** What `redirection.json` says. */
export interface Redirection {
  mode: "uid" | "address";
  /** What the proxy binds its own connections to; absent: nothing. */
  bindAddress?: string;
}

/** Which traffic is redirected. Ports and ranges are of IPv4; `*` is all. */
export interface RedirectionOptions {
  mode: Redirection["mode"];
  /** The pod's own address; the proxy's connections leave with it (address mode). */
  podAddress: string;
  includeInboundPorts: readonly string[];
  excludeInboundPorts: readonly string[];
  /** Redirected whatever the ranges say. */
  includeOutboundPorts: readonly string[];
  excludeOutboundPorts: readonly string[];
  includeOutboundRanges: readonly string[];
  excludeOutboundRanges: readonly string[];
  outboundPort: number;
  inboundPort: number;
}

/** Which way there is here, by /proc/self/uid_map (user_namespaces(7): first id inside, first outside, how many). */
export function modeFor(uidMap: string): Redirection["mode"] {
  const mapped = uidMap.split("\n").some((line) => {
    const [first, , count] = line.trim().split(/\s+/).map(Number);
    return first !== undefined && count !== undefined && proxyUid >= first && proxyUid < first + count;
  });
  return mapped ? "uid" : "address";
}

/** The rules as `nft -f -` reads them: one transaction that replaces what an earlier one wrote. */
export function rules(options: RedirectionOptions): string {
  const { mode, podAddress, outboundPort, inboundPort } = options;
  const own = mode === "uid" ? `meta skuid ${proxyUid}` : `ip saddr ${proxyAddress}`;
  const notOwn = mode === "uid" ? `meta skuid != ${proxyUid}` : `ip saddr != ${proxyAddress}`;
  const { excludeInboundPorts, includeOutboundRanges } = options;
  const output = [
    "meta l4proto != tcp return",
    `oifname "lo" ip saddr ${inboundSource} return`,
    // A call of the pod to itself, already routed by its own proxy.
    `oifname "lo" ip daddr != 127.0.0.0/8 ${own} ${to(inboundPort)}`,
    `oifname "lo" ${notOwn} return`,
    `${own} return`,
    "ip daddr 127.0.0.0/8 return",
    ...(mode === "address" ? [`tcp dport ${set(discoveryPorts)} return`] : []),
    ...ports(options.excludeOutboundPorts, "return"),
    ...ports(options.includeOutboundPorts, to(outboundPort)),
    ...ranges(options.excludeOutboundRanges, "return"),
    ...(isAll(includeOutboundRanges) ? [to(outboundPort)] : ranges(includeOutboundRanges, to(outboundPort))),
  ];
  const prerouting = [
    "meta l4proto != tcp return",
    'iifname "lo" return',
    `tcp dport ${set(ownPorts)} return`,
    ...ports(excludeInboundPorts, "return"),
    ...(isAll(options.includeInboundPorts)
      ? [to(inboundPort)]
      : ports(options.includeInboundPorts, to(inboundPort))),
  ];
  const chains = [
    chain("output", "type nat hook output priority -100; policy accept;", output),
    chain("prerouting", "type nat hook prerouting priority -100; policy accept;", prerouting),
    ...(mode === "address"
      ? [
          chain("postrouting", "type nat hook postrouting priority 100; policy accept;", [
            `oifname != "lo" ip saddr ${proxyAddress} snat to ${podAddress}`,
          ]),
        ]
      : []),
  ];
  return `${removal()}table ip ${table} {\n${chains.join("")}}\n`;
}

/** Takes the rules away, whether there are any or not. */
export function removal(): string {
  return `table ip ${table} {}\ndelete table ip ${table}\n`;
}

function chain(name: string, head: string, lines: readonly string[]): string {
  return `  chain ${name} {\n    ${head}\n${lines.map((line) => `    ${line}\n`).join("")}  }\n`;
}

const set = (values: readonly (string | number)[]) => `{ ${values.join(", ")} }`;
const to = (port: number) => `meta l4proto tcp redirect to :${port}`;
const isAll = (values: readonly string[]) => values.includes("*");

function ports(values: readonly string[], verdict: string): string[] {
  if (isAll(values)) return [verdict];
  return values.length > 0 ? [`tcp dport ${set(values)} ${verdict}`] : [];
}

function ranges(values: readonly string[], verdict: string): string[] {
  if (isAll(values)) return [verdict];
  const own = values.filter((range) => isIPv4(range.split("/")[0]!));
  // One rule each: ranges that overlap cannot be elements of one set.
  return own.map((range) => `ip daddr ${range} ${verdict}`);
}

/** `8080,9090-9099` or `*`. Throws Error that names what is no port. */
export function readPorts(text: string): string[] {
  return words(text).map((word) => {
    const numbers = word.split("-");
    const good = numbers.length <= 2 && numbers.every((n) => /^\d+$/.test(n) && Number(n) <= 65535);
    if (word !== "*" && !good) throw new Error(`'${word}' is no port, no range of ports and not *`);
    return word;
  });
}

/** `10.0.0.0/8,192.168.1.1` or `*`; ranges of IPv6 are read and count for nothing. Throws Error. */
export function readRanges(text: string): string[] {
  return words(text).map((word) => {
    if (word !== "*" && !isRange(word)) throw new Error(`'${word}' is no range of addresses`);
    return word;
  });
}

const words = (text: string) =>
  text
    .split(",")
    .map((word) => word.trim())
    .filter((word) => word !== "");
