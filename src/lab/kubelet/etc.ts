/** The files of /etc that every pod has of its own. */
import type { Pod } from "../../api/index.ts";
import { type ClusterSpec, dnsServiceAddress } from "../spec.ts";

/** What resolvers read at most (resolv.conf(5), and the kubelet's own limits). */
const mostNameservers = 3;
const mostSearches = 32;

/** The pod's host name: `spec.hostname`, or its own name, cut to 63 characters as the kernel allows. */
export function hostnameOf(pod: Pod): string {
  return (pod.spec.hostname || pod.metadata.name).slice(0, 63).replace(/[-.]+$/, "");
}

/** `hostname.subdomain.namespace.svc.domain`, for pods with a subdomain. */
export function domainNameOf(pod: Pod, clusterDomain: string): string | undefined {
  if (!pod.spec.subdomain) return undefined;
  return `${hostnameOf(pod)}.${pod.spec.subdomain}.${pod.metadata.namespace}.svc.${clusterDomain}`;
}

/** Source: kubernetes `pkg/kubelet/kubelet_pods.go`, `managedHostsFileContent`. */
export function hostsFile(pod: Pod, address: string | undefined, clusterDomain: string): string {
  const lines = [
    "# Kubernetes-managed hosts file.",
    "127.0.0.1\tlocalhost",
    "::1\tlocalhost ip6-localhost ip6-loopback",
    "fe00::0\tip6-localnet",
    "fe00::0\tip6-mcastprefix",
    "fe00::1\tip6-allnodes",
    "fe00::2\tip6-allrouters",
  ];
  const domainName = domainNameOf(pod, clusterDomain);
  if (address) lines.push([address, domainName, hostnameOf(pod)].filter(Boolean).join("\t"));
  if (pod.spec.hostAliases?.length) {
    lines.push("", "# Entries added by HostAliases.");
    for (const { ip, hostnames } of pod.spec.hostAliases) lines.push([ip, ...(hostnames ?? [])].join("\t"));
  }
  return `${lines.join("\n")}\n`;
}

/** Source: kubernetes `pkg/kubelet/network/dns/dns.go`. `machine` is the node's own resolv.conf. */
export function resolvConf(
  pod: Pod,
  cluster: Pick<ClusterSpec, "clusterDomain" | "serviceRange">,
  machine: string,
): string {
  const { dnsPolicy = "ClusterFirst", dnsConfig, hostNetwork } = pod.spec;
  let nameservers: string[] = [];
  let searches: string[] = [];
  const options = new Map<string, string | undefined>();
  const own = parseResolvConf(machine);
  if (dnsPolicy === "None") {
    // Only what dnsConfig says.
  } else if (dnsPolicy === "Default" || (dnsPolicy === "ClusterFirst" && hostNetwork)) {
    ({ nameservers, searches } = own);
    for (const option of own.options) setOption(options, option);
  } else {
    const domain = cluster.clusterDomain;
    nameservers = [dnsServiceAddress(cluster)];
    // The machine's own search domains would send every name of a pod to its owner's network.
    searches = [`${pod.metadata.namespace}.svc.${domain}`, `svc.${domain}`, domain];
    options.set("ndots", "5");
  }
  nameservers = unique([...nameservers, ...(dnsConfig?.nameservers ?? [])]).slice(0, mostNameservers);
  searches = unique([...searches, ...(dnsConfig?.searches ?? [])]).slice(0, mostSearches);
  for (const { name, value } of dnsConfig?.options ?? []) if (name) options.set(name, value);
  const lines = nameservers.map((server) => `nameserver ${server}`);
  if (searches.length > 0) lines.unshift(`search ${searches.join(" ")}`);
  const words = [...options].map(([name, value]) => (value === undefined ? name : `${name}:${value}`));
  if (words.length > 0) lines.push(`options ${words.join(" ")}`);
  return lines.map((line) => `${line}\n`).join("");
}

/** Names are looked up in /etc/hosts and by DNS only: mDNS and systemd-resolved of a desktop swallow `*.local`. */
export const nsswitchConf = `passwd: files
group: files
shadow: files
hosts: files dns
networks: files
protocols: files
services: files
`;

function parseResolvConf(text: string) {
  const words = (keyword: string) =>
    text
      .split("\n")
      .map((line) => line.trim().split(/\s+/))
      .filter(([first]) => first === keyword)
      .map(([, ...rest]) => rest);
  return {
    nameservers: words("nameserver").flat(),
    searches: (words("search").at(-1) ?? []).filter((domain) => domain !== "."),
    options: words("options").flat(),
  };
}

function setOption(options: Map<string, string | undefined>, option: string): void {
  const colon = option.indexOf(":");
  if (colon < 0) options.set(option, undefined);
  else options.set(option.slice(0, colon), option.slice(colon + 1));
}

function unique(values: string[]): string[] {
  return [...new Set(values)];
}
