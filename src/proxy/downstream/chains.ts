/**
 * Which filter chain takes a connection: Envoy's order, in which the first criterion decides and nothing is taken back
 * (source/common/listener_manager/filter_chain_manager_impl.cc): destination port, destination address, server name,
 * transport protocol, application protocols, source address of the connection, source type, source address, port.
 */
import {
  type FilterChainMatch,
  FilterChainMatch_ConnectionSourceType as SourceType,
} from "#protocols/envoy/config/listener/v3/listener_components.ts";
import { contains, type IpRange } from "../../addresses/index.ts";
import { type Address, Unservable } from "../contract.ts";
import { ipRange } from "../values.ts";

/** What is known of a connection when its chain is chosen. */
export interface Criteria {
  local: Address;
  remote: Address;
  serverName: string | undefined;
  transport: "tls" | "raw_buffer";
  applicationProtocols: readonly string[];
}

type Level<T> = { find(criteria: Criteria): T | undefined };

/** Entries that ask the same of every criterion but the last. */
interface Ask<T> {
  match: FilterChainMatch;
  chain: T;
}

const any = "";

/** Throws Unservable when two chains match the same, or a match cannot be served. */
export function chainMatcher<T>(chains: readonly Ask<T>[]): Level<T> {
  for (const { match } of chains) {
    if (match.addressSuffix || match.suffixLen) throw new Unservable("address_suffix is not served");
    for (const name of match.serverNames) {
      if (name.includes("*") && !/^\*\.[^*]+$/.test(name)) {
        throw new Unservable(
          `error adding listener: partial wildcards are not supported in "server_names": '${name}'`,
        );
      }
    }
  }
  return byPort(chains);
}

/** Groups by the keys that an entry has for one criterion; none: the key of "any". */
function grouped<T, K>(
  entries: readonly Ask<T>[],
  keysOf: (match: FilterChainMatch) => readonly K[],
  none: K,
) {
  const groups = new Map<K, Ask<T>[]>();
  for (const entry of entries) {
    const keys = keysOf(entry.match);
    for (const key of keys.length > 0 ? new Set(keys) : [none]) {
      const group = groups.get(key);
      if (group) group.push(entry);
      else groups.set(key, [entry]);
    }
  }
  return groups;
}

function levels<T, K>(
  groups: Map<K, Ask<T>[]>,
  next: (entries: readonly Ask<T>[]) => Level<T>,
): Map<K, Level<T>> {
  return new Map([...groups].map(([key, entries]) => [key, next(entries)]));
}

function byPort<T>(entries: readonly Ask<T>[]): Level<T> {
  const ports = levels(
    grouped(entries, ({ destinationPort }) => (destinationPort === undefined ? [] : [destinationPort]), 0),
    byDestination,
  );
  return { find: (c) => (ports.get(c.local.port) ?? ports.get(0))?.find(c) };
}

function byDestination<T>(entries: readonly Ask<T>[]): Level<T> {
  return byRange(
    entries,
    ({ prefixRanges }) => prefixRanges,
    ({ local }) => local.ip,
    byServerName,
  );
}

/** The longest range that has the address, and no other. */
function byRange<T>(
  entries: readonly Ask<T>[],
  rangesOf: (match: FilterChainMatch) => FilterChainMatch["prefixRanges"],
  addressOf: (criteria: Criteria) => string,
  next: (entries: readonly Ask<T>[]) => Level<T>,
): Level<T> {
  const ranges = new Map<string, IpRange>();
  const keysOf = (match: FilterChainMatch) =>
    rangesOf(match).map((message) => {
      const range = ipRange(message);
      // What asks for everything asks for nothing.
      if (range.bits === 0) return any;
      const key = `${range.address}/${range.bits}`;
      ranges.set(key, range);
      return key;
    });
  const inside = levels(grouped(entries, keysOf, any), next);
  const sorted = [...ranges].sort(([, a], [, b]) => b.bits - a.bits);
  if (sorted.length === 0) return inside.get(any) ?? { find: () => undefined };
  // Whole addresses, as services have them, are looked up; only true ranges are gone through.
  const exact = new Map<string, Level<T>>();
  const wider: { range: IpRange; level: Level<T> }[] = [];
  for (const [key, range] of sorted) {
    const level = inside.get(key)!;
    if (range.bits === (range.family === 4 ? 32 : 128)) exact.set(range.address, level);
    else wider.push({ range, level });
  }
  const rest = inside.get(any);
  return {
    find(criteria) {
      const ip = addressOf(criteria);
      const whole = exact.get(ip);
      if (whole) return whole.find(criteria);
      for (const { range, level } of wider) if (contains(range, ip)) return level.find(criteria);
      return rest?.find(criteria);
    },
  };
}

function byServerName<T>(entries: readonly Ask<T>[]): Level<T> {
  const keysOf = ({ serverNames }: FilterChainMatch) =>
    serverNames.map((name) => (name.startsWith("*.") ? name.slice(1) : name).toLowerCase());
  const names = levels(grouped(entries, keysOf, any), byTransport);
  return {
    find(criteria) {
      const name = criteria.serverName ?? "";
      if (name !== "") {
        const exact = names.get(name);
        if (exact) return exact.find(criteria);
        for (
          let dot = name.indexOf(".", 1);
          dot > 0 && dot < name.length - 1;
          dot = name.indexOf(".", dot + 1)
        ) {
          const suffix = names.get(name.slice(dot));
          if (suffix) return suffix.find(criteria);
        }
      }
      return names.get(any)?.find(criteria);
    },
  };
}

function byTransport<T>(entries: readonly Ask<T>[]): Level<T> {
  const transports = levels(
    grouped(entries, ({ transportProtocol }) => (transportProtocol ? [transportProtocol] : []), any),
    byApplication,
  );
  return { find: (c) => (transports.get(c.transport) ?? transports.get(any))?.find(c) };
}

function byApplication<T>(entries: readonly Ask<T>[]): Level<T> {
  const protocols = levels(
    grouped(entries, ({ applicationProtocols }) => applicationProtocols, any),
    byDirectSource,
  );
  return {
    find(criteria) {
      for (const protocol of criteria.applicationProtocols) {
        const level = protocols.get(protocol);
        if (level) return level.find(criteria);
      }
      return protocols.get(any)?.find(criteria);
    },
  };
}

function byDirectSource<T>(entries: readonly Ask<T>[]): Level<T> {
  return byRange(
    entries,
    ({ directSourcePrefixRanges }) => directSourcePrefixRanges,
    ({ remote }) => remote.ip,
    bySourceType,
  );
}

function bySourceType<T>(entries: readonly Ask<T>[]): Level<T> {
  const types = levels(
    grouped(entries, ({ sourceType }) => [sourceType], SourceType.ANY as number),
    bySource,
  );
  const isLocal = ({ local, remote }: Criteria) =>
    local.ip === remote.ip || remote.ip === "127.0.0.1" || remote.ip === "::1";
  return {
    find(criteria) {
      const specific = types.get(isLocal(criteria) ? SourceType.SAME_IP_OR_LOOPBACK : SourceType.EXTERNAL);
      return (specific ?? types.get(SourceType.ANY))?.find(criteria);
    },
  };
}

function bySource<T>(entries: readonly Ask<T>[]): Level<T> {
  return byRange(
    entries,
    ({ sourcePrefixRanges }) => sourcePrefixRanges,
    ({ remote }) => remote.ip,
    bySourcePort,
  );
}

function bySourcePort<T>(entries: readonly Ask<T>[]): Level<T> {
  const ports = grouped(entries, ({ sourcePorts }) => sourcePorts, 0);
  for (const group of ports.values()) {
    if (group.length > 1) {
      throw new Unservable(
        "error adding listener: multiple filter chains with overlapping matching rules are defined",
      );
    }
  }
  return { find: (c) => (ports.get(c.remote.port) ?? ports.get(0))?.[0]?.chain };
}
