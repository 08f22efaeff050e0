/**
 * Telling a cluster's DNS where `clusterset.local` is answered: kube-dns and the lab by `stubDomains` of the
 * ConfigMap `kube-system/kube-dns`, CoreDNS by a server block in its Corefile (`kube-system/coredns`), which is
 * changed only when asked for. Both are taken back without a trace.
 */
import { type ConfigMap, clusterSetZone, configMaps } from "../api/index.ts";
import { isConflict, type KubeClient } from "../kube/index.ts";
import { installManager } from "./manifests.ts";

const kubeDns = { namespace: "kube-system", name: "kube-dns" };
const coreDns = { namespace: "kube-system", name: "coredns" };

/** How the cluster's DNS is told, and what it has been told. */
export interface Forwarding {
  /** Undefined where neither ConfigMap is there: a DNS of another kind, or none. */
  by: "stubDomains" | "Corefile" | undefined;
  /** The addresses that it forwards `clusterset.local` to; undefined when it does not. */
  to: string[] | undefined;
}

/** What the cluster's DNS does with `clusterset.local` now. */
export async function dnsForwarding(client: KubeClient, signal?: AbortSignal): Promise<Forwarding> {
  const options = signal ? { signal } : {};
  const [stubs, core] = await Promise.all([
    client.get(configMaps, kubeDns, options),
    client.get(configMaps, coreDns, options),
  ]);
  const corefile = core?.data?.Corefile;
  // Where both are there, CoreDNS answers: kube-dns' ConfigMap is what an older cluster left behind.
  if (corefile !== undefined) return { by: "Corefile", to: forwardsOf(corefile) };
  if (!stubs) return { by: undefined, to: undefined };
  const to = parseDomains(stubs.data?.stubDomains)[clusterSetZone];
  return { by: "stubDomains", to: Array.isArray(to) ? to.map(String) : undefined };
}

/**
 * Makes the cluster's DNS forward `clusterset.local` to `address`. A Corefile is changed only with `patchCoreDns`;
 * without it resolves to what is left to do by hand, for people.
 */
export async function forwardClusterSet(
  client: KubeClient,
  address: string,
  options: { patchCoreDns?: boolean; signal?: AbortSignal } = {},
): Promise<string | undefined> {
  const call = options.signal ? { signal: options.signal } : {};
  const core = await client.get(configMaps, coreDns, call);
  const corefile = core?.data?.Corefile;
  if (core && corefile !== undefined) {
    if (forwardsOf(corefile)?.includes(address)) return undefined;
    if (!options.patchCoreDns) {
      return `CoreDNS does not know ${clusterSetZone} yet: 'weft install --patch-coredns', or add to its Corefile:\n${serverBlock(corefile, address)}`;
    }
    const patched = withServerBlock(corefile, address);
    await changeCorefile(client, patched, core, call);
    return reloads(corefile)
      ? undefined
      : "this Corefile does not have the plugin 'reload': kubectl -n kube-system rollout restart deployment/coredns";
  }
  const existing = await client.get(configMaps, kubeDns, call);
  const domains = parseDomains(existing?.data?.stubDomains);
  if (JSON.stringify(domains[clusterSetZone]) === JSON.stringify([address])) return undefined;
  const stubDomains = JSON.stringify({ ...domains, [clusterSetZone]: [address] });
  await client.apply(
    configMaps,
    { metadata: kubeDns, data: { stubDomains } },
    { manager: installManager, force: true, ...call },
  );
  return undefined;
}

/** Takes back what `forwardClusterSet` wrote; others' domains and blocks stay. Resolves to what was changed. */
export async function unforwardClusterSet(client: KubeClient, signal?: AbortSignal): Promise<string[]> {
  const call = signal ? { signal } : {};
  const changed: string[] = [];
  const core = await client.get(configMaps, coreDns, call);
  const corefile = core?.data?.Corefile;
  if (core && corefile !== undefined && withoutServerBlock(corefile) !== corefile) {
    await changeCorefile(client, withoutServerBlock(corefile), core, call);
    changed.push("server block in ConfigMap kube-system/coredns");
  }
  const stubs = await client.get(configMaps, kubeDns, call);
  const domains = parseDomains(stubs?.data?.stubDomains);
  const managers = new Set(stubs?.metadata.managedFields?.map(({ manager }) => manager));
  if (stubs && domains[clusterSetZone] !== undefined && managers.has(installManager)) {
    const { [clusterSetZone]: _, ...others } = domains;
    const empty = Object.keys(others).length === 0;
    const alone = managers.size === 1 && Object.keys(stubs.data ?? {}).length === 1;
    if (empty && alone) {
      await client.delete(configMaps, kubeDns, { ...call, ...preconditions(stubs) });
      changed.push("ConfigMap kube-system/kube-dns");
    } else {
      const data = { stubDomains: empty ? null : JSON.stringify(others) };
      const metadata = versionOf(stubs);
      await client.patch(configMaps, kubeDns, { metadata, data }, { manager: installManager, ...call });
      changed.push("stub domain in ConfigMap kube-system/kube-dns");
    }
  }
  return changed;
}

/** Others write the Corefile as well: only what we have read is replaced, and a conflict is read again, once. */
async function changeCorefile(
  client: KubeClient,
  Corefile: string,
  read: ConfigMap,
  call: { signal?: AbortSignal },
): Promise<void> {
  try {
    const change = { metadata: versionOf(read), data: { Corefile } };
    await client.patch(configMaps, coreDns, change, { manager: installManager, ...call });
  } catch (error) {
    if (!isConflict(error)) throw error;
    throw new Error("ConfigMap kube-system/coredns was changed meanwhile; try again", { cause: error });
  }
}

const begin = "# begin weft: written by 'weft install --patch-coredns', taken away by 'weft uninstall'";
const end = "# end weft";

/**
 * The server block, on the port and the addresses (plugin `bind`) that the cluster's own block has: that is where
 * pods ask, and CoreDNS does not load a Corefile whose blocks share a port on other addresses.
 */
function serverBlock(corefile: string, address: string): string {
  const [, port = "53", body = ""] = /^\s*(?:dns:\/\/)?\.:(\d+)[^{\n]*\{(.*?)^\}/ms.exec(corefile) ?? [];
  const bind = /^\s*(bind\s.*?)\s*(?:#.*)?$/m.exec(body)?.[1];
  return [
    begin,
    `${clusterSetZone}:${port} {`,
    ...(bind ? [`    ${bind}`] : []),
    "    errors",
    `    forward . ${address}`,
    "}",
    end,
    "",
  ].join("\n");
}

/** The Corefile with our block at its end, in the place of an earlier one of ours. */
export function withServerBlock(corefile: string, address: string): string {
  const rest = withoutServerBlock(corefile);
  return `${rest}${rest === "" || rest.endsWith("\n") ? "" : "\n"}${serverBlock(rest, address)}`;
}

/** The Corefile as it was before `withServerBlock`, but for a newline at its end. */
export function withoutServerBlock(corefile: string): string {
  const from = corefile.indexOf(begin);
  const to = corefile.indexOf(end, from);
  if (from < 0 || to < 0) return corefile;
  return corefile.slice(0, from) + corefile.slice(to + end.length).replace(/^\n/, "");
}

/** Where a Corefile's block for `clusterset.local`, ours or a person's, forwards to; undefined when it has none. */
export function forwardsOf(corefile: string): string[] | undefined {
  const lines = corefile.split("\n").map((line) => line.replace(/#.*/, "").trim());
  const zone = new RegExp(
    `(?:^|[\\s,])(?:dns://)?${clusterSetZone.replace(".", "\\.")}\\.?(?::\\d+)?(?:[\\s,]|$)`,
  );
  let depth = 0;
  let inside = false;
  let found: string[] | undefined;
  for (const line of lines) {
    if (depth === 0 && line.endsWith("{")) inside = zone.test(line.slice(0, -1));
    if (inside && depth === 1) {
      const [plugin, , ...to] = line.replace(/\{$/, "").trim().split(/\s+/);
      if (plugin === "forward") found = to.map((server) => server.replace(/^dns:\/\//, ""));
    }
    depth += line.split("{").length - line.split("}").length;
  }
  return found;
}

const reloads = (corefile: string) => /^\s*reload\b/m.test(corefile);

const versionOf = ({ metadata }: ConfigMap) =>
  metadata.resourceVersion ? { resourceVersion: metadata.resourceVersion } : {};
const preconditions = versionOf;

function parseDomains(text: string | undefined): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text ?? "{}");
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
