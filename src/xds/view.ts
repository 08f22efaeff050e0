/** What one proxy is to have: the union of its scopes' configurations, as encoded resources. */
import type { Collection } from "../collections/index.ts";
import {
  type LocalityPolicy,
  localityFor,
  type Proxy as MeshProxy,
  type ScopeConfig,
  type Traffic,
  type Upstream,
  type UpstreamEndpoints,
} from "../traffic/index.ts";
import {
  type Encoded,
  encodeEndpoints,
  encodeListener,
  encodeRouteTable,
  encodeSecret,
  encodeUpstream,
  hasEndpoints,
  type Kind,
  noEndpoints,
  type TlsSecret,
} from "./encode/index.ts";
import type { View } from "./session.ts";

export type ServedTraffic = Pick<Traffic, "scopes" | "configs" | "endpoints">;

const parts = { cluster: "upstreams", listener: "listeners", route: "routes" } as const;

export class ProxyView implements View {
  readonly #id: string;
  readonly #proxy: MeshProxy;
  readonly #traffic: ServedTraffic;
  readonly #secrets: Collection<TlsSecret>;
  /** What is read for every resource, as of the last change that was told. */
  #read: { scopes: readonly string[]; configs: readonly ScopeConfig[]; known: boolean } | undefined;

  constructor(proxy: MeshProxy, traffic: ServedTraffic, secrets: Collection<TlsSecret>) {
    this.#id = proxy.id;
    this.#proxy = proxy;
    this.#traffic = traffic;
    this.#secrets = secrets;
  }

  /** Scopes or configurations have changed, or something of them was heard. */
  changed(): void {
    this.#read = undefined;
  }

  #now() {
    this.#read ??= this.#look();
    return this.#read;
  }

  #look() {
    const { scopes, configs } = this.#traffic;
    const own = scopes.get(this.#id) ?? [];
    const heard = scopes.has(this.#id) && scopes.pending(this.#id).length === 0;
    return {
      scopes: own,
      configs: own.flatMap((scope) => configs.get(scope) ?? []),
      known: heard && own.every((scope) => configs.has(scope) && configs.pending(scope).length === 0),
    };
  }

  /** The names of the proxy's scopes, as of the last settled batch. */
  get scopes(): readonly string[] {
    return this.#now().scopes;
  }

  get known(): boolean {
    return this.#now().known;
  }

  find(kind: Kind, name: string): Encoded | undefined {
    switch (kind) {
      case "cluster":
        return mapped(this.#first("cluster", name), encodeUpstream);
      case "listener":
        return mapped(this.#first("listener", name), encodeListener);
      case "route":
        return mapped(this.#first("route", name), encodeRouteTable);
      case "endpoints":
        return this.#endpoints(name);
      case "secret":
        return mapped(this.#mayHave(name) ? this.#secrets.get(name) : undefined, encodeSecret);
    }
  }

  nameOf(kind: Kind, name: string): string | undefined {
    if (kind === "endpoints") return this.#traffic.endpoints.get(name)?.name;
    if (kind === "secret") return this.#secrets.get(name)?.name;
    return this.#first(kind, name)?.name;
  }

  *names(kind: Kind): Iterable<string> {
    if (kind === "endpoints" || kind === "secret") return; // asked for by name
    for (const config of this.configs()) yield* config[parts[kind]].keys();
  }

  endpointsOf(cluster: string): string | undefined {
    const upstream = this.#first("cluster", cluster);
    return upstream && hasEndpoints(upstream) ? upstream.endpointsName : undefined;
  }

  /** The configurations of the proxy's scopes, in their order: of two resources of one name the first counts. */
  configs(): readonly ScopeConfig[] {
    return this.#now().configs;
  }

  #first<K extends keyof typeof parts>(
    kind: K,
    name: string,
  ): NonNullable<ReturnType<ScopeConfig[(typeof parts)[K]]["get"]>> | undefined {
    for (const config of this.configs()) {
      const found = config[parts[kind]].get(name);
      if (found) return found as never;
    }
    return undefined;
  }

  #endpoints(name: string): Encoded | undefined {
    let upstream: Upstream | undefined;
    for (const config of this.configs()) {
      upstream = clustersByEndpoints(config).get(name);
      if (upstream) break;
    }
    const row = this.#traffic.endpoints.get(name);
    // A cluster that is there waits for an answer, also where it has no endpoints.
    if (!row) return upstream && noEndpoints(name);
    return encodeEndpoints(upstream?.locality ? seenFrom(row, upstream.locality, this.#proxy) : row);
  }

  /**
   * A key goes only to proxies of the Secret's own namespace (as with Istio), whoever wrote the object that names it:
   * else a DestinationRule would be enough to read one.
   */
  #mayHave(name: string): boolean {
    if (!name.startsWith(`kubernetes://${this.#proxy.namespace}/`)) return false;
    const credential = name.replace(/-cacert$/, "");
    for (const { secrets } of this.configs()) if (secrets.has(name) || secrets.has(credential)) return true;
    return false;
  }
}

const byEndpoints = new WeakMap<ScopeConfig, Map<string, Upstream>>();

/** A scope's clusters by the name of their endpoints. */
function clustersByEndpoints(config: ScopeConfig): ReadonlyMap<string, Upstream> {
  let known = byEndpoints.get(config);
  if (!known) {
    known = new Map();
    for (const upstream of config.upstreams.values()) {
      if (hasEndpoints(upstream)) known.set(upstream.endpointsName, upstream);
    }
    byEndpoints.set(config, known);
  }
  return known;
}

const seen = new WeakMap<UpstreamEndpoints, WeakMap<LocalityPolicy, Map<string, UpstreamEndpoints>>>();

/** The endpoints as clients of one place see them: one object, encoded once, for all of the same place. */
function seenFrom(
  row: UpstreamEndpoints,
  policy: LocalityPolicy,
  { locality, labels }: MeshProxy,
): UpstreamEndpoints {
  let byPolicy = seen.get(row);
  if (!byPolicy) {
    byPolicy = new WeakMap();
    seen.set(row, byPolicy);
  }
  let byPlace = byPolicy.get(policy);
  if (!byPlace) {
    byPlace = new Map();
    byPolicy.set(policy, byPlace);
  }
  const { region, zone } = locality;
  const place = [region, zone, ...policy.priorityLabels.map((label) => labels[label] ?? "")].join("|");
  let found = byPlace.get(place);
  if (!found) {
    found = localityFor(row, policy, { region, zone, labels });
    byPlace.set(place, found);
  }
  return found;
}

function mapped<T, R>(value: T | undefined, make: (value: T) => R): R | undefined {
  return value === undefined ? undefined : make(value);
}

/** What differs between two configurations of a scope, by kind. Unchanged parts are the same objects. */
export function changesOf(
  before: ScopeConfig | undefined,
  after: ScopeConfig | undefined,
): ReadonlyMap<Kind, readonly string[]> {
  const changes = new Map<Kind, readonly string[]>();
  const note = (kind: Kind, names: readonly string[]) => {
    if (names.length > 0) changes.set(kind, names);
  };
  for (const kind of ["cluster", "listener", "route"] as const) {
    note(kind, differing(before?.[parts[kind]], after?.[parts[kind]]));
  }
  if (before?.secrets !== after?.secrets) {
    note("secret", [...(before?.secrets ?? []), ...(after?.secrets ?? [])]);
  }
  return changes;
}

function differing(
  before: ReadonlyMap<string, unknown> | undefined,
  after: ReadonlyMap<string, unknown> | undefined,
): string[] {
  if (before === after) return [];
  const names: string[] = [];
  for (const [name, value] of after ?? []) if (before?.get(name) !== value) names.push(name);
  for (const name of before?.keys() ?? []) if (!after?.has(name)) names.push(name);
  return names;
}
