/**
 * Which groups, versions and resources there are: the aggregated form (apidiscovery.k8s.io/v2) and the older one.
 * Source: apiserver `pkg/endpoints/discovery`.
 */
import { createHash } from "node:crypto";
import type { Registry, ResourceType } from "../registry.ts";

/** Order in which a short or plural name that several groups know is resolved; custom groups follow by name. */
const groupOrder = [
  "",
  "apps",
  "events.k8s.io",
  "authentication.k8s.io",
  "authorization.k8s.io",
  "batch",
  "networking.k8s.io",
  "policy",
  "rbac.authorization.k8s.io",
  "storage.k8s.io",
  "admissionregistration.k8s.io",
  "apiextensions.k8s.io",
  "scheduling.k8s.io",
  "coordination.k8s.io",
  "discovery.k8s.io",
];

/** The types of each group and version, groups and versions in the order in which clients should try them. */
export function groupsOf(registry: Registry): Map<string, Map<string, ResourceType[]>> {
  const groups = new Map<string, Map<string, ResourceType[]>>();
  const types = registry.all();
  const custom = [...new Set(types.map(({ group }) => group))].filter((group) => !groupOrder.includes(group));
  for (const group of [...groupOrder, ...custom.sort()]) {
    const members = types.filter((type) => type.group === group);
    const versions = [...new Set(members.map(({ version }) => version))].sort(byStability);
    groups.set(
      group,
      new Map(
        versions.map((version) => [
          version,
          members.filter((type) => type.version === version).sort((a, b) => (a.plural < b.plural ? -1 : 1)),
        ]),
      ),
    );
  }
  return groups;
}

/** Stable before beta before alpha, newer before older (apimachinery `pkg/version/helpers.go`). */
function byStability(a: string, b: string): number {
  const parse = (version: string) => {
    const match = /^v([0-9]+)(?:(alpha|beta)([0-9]+))?$/.exec(version);
    if (!match) return undefined;
    return [
      match[2] === undefined ? 2 : match[2] === "beta" ? 1 : 0,
      Number(match[1]),
      Number(match[3] ?? 0),
    ];
  };
  const left = parse(a);
  const right = parse(b);
  if (!left || !right) return left ? -1 : right ? 1 : a < b ? -1 : 1;
  for (let i = 0; i < 3; i++) if (left[i] !== right[i]) return right[i]! - left[i]!;
  return 0;
}

/** Discovery documents, made when first asked for after the registry changed. */
export class Discovery {
  readonly #registry: Registry;
  #generation = -1;
  #made = new Map<string, { document: object; etag: string }>();

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  #document(name: string, make: (groups: Map<string, Map<string, ResourceType[]>>) => object | undefined) {
    if (this.#generation !== this.#registry.generation) {
      this.#generation = this.#registry.generation;
      this.#made.clear();
    }
    let made = this.#made.get(name);
    if (!made) {
      const document = make(groupsOf(this.#registry));
      if (!document) return undefined;
      made = {
        document,
        etag: `"${createHash("sha256").update(JSON.stringify(document)).digest("hex").toUpperCase()}"`,
      };
      this.#made.set(name, made);
    }
    return made;
  }

  /** `/api` (`core`) or `/apis` in one document. */
  aggregated(core: boolean, version: "v2" | "v2beta1") {
    return this.#document(`aggregated ${core} ${version}`, (groups) => ({
      kind: "APIGroupDiscoveryList",
      apiVersion: `apidiscovery.k8s.io/${version}`,
      metadata: {},
      items: [...groups]
        .filter(([group]) => (group === "") === core)
        .map(([group, versions]) => ({
          metadata: group === "" ? { creationTimestamp: null } : { name: group, creationTimestamp: null },
          versions: [...versions].map(([name, types]) => ({
            version: name,
            resources: types.map(aggregatedResource),
            freshness: "Current",
          })),
        })),
    }));
  }

  /** `/api`. */
  coreVersions(serverAddress: string) {
    return this.#document("core", () => ({
      kind: "APIVersions",
      versions: ["v1"],
      serverAddressByClientCIDRs: [{ clientCIDR: "0.0.0.0/0", serverAddress }],
    }));
  }

  /** `/apis`. */
  groupList() {
    return this.#document("groups", (groups) => ({
      kind: "APIGroupList",
      apiVersion: "v1",
      groups: [...groups]
        .filter(([group]) => group !== "")
        .map(([group, versions]) => groupEntry(group, versions)),
    }));
  }

  /** `/apis/GROUP`. */
  group(name: string) {
    return this.#document(`group ${name}`, (groups) => {
      const versions = name === "" ? undefined : groups.get(name);
      return versions && { kind: "APIGroup", apiVersion: "v1", ...groupEntry(name, versions) };
    });
  }

  /** `/api/v1`, `/apis/GROUP/VERSION`. */
  resources(group: string, version: string) {
    return this.#document(`resources ${group}/${version}`, (groups) => {
      const types = groups.get(group)?.get(version);
      return (
        types && {
          kind: "APIResourceList",
          // The core's list says its own version only as `groupVersion`.
          ...(group !== "" && { apiVersion: "v1" }),
          groupVersion: group === "" ? version : `${group}/${version}`,
          resources: types.flatMap(resourceEntries),
        }
      );
    });
  }
}

function groupEntry(group: string, versions: Map<string, ResourceType[]>): object {
  const entries = [...versions.keys()].map((version) => ({ groupVersion: `${group}/${version}`, version }));
  return { name: group, versions: entries, preferredVersion: entries[0] };
}

function aggregatedResource(type: ResourceType): object {
  return {
    resource: type.plural,
    // The group and version are said where they are others than the resource's.
    responseKind: { group: "", version: "", kind: type.kind },
    scope: type.namespaced ? "Namespaced" : "Cluster",
    singularResource: type.singular,
    verbs: type.verbs,
    ...(type.shortNames.length > 0 && { shortNames: type.shortNames }),
    ...(type.categories.length > 0 && { categories: type.categories }),
    ...(type.subresources.size > 0 && {
      subresources: [...type.subresources].map(([subresource, { kind, group, version, verbs }]) => ({
        subresource,
        responseKind: { group: group ?? "", version: version ?? "", kind },
        verbs,
      })),
    }),
  };
}

function resourceEntries(type: ResourceType): object[] {
  return [
    {
      name: type.plural,
      singularName: type.singular,
      namespaced: type.namespaced,
      kind: type.kind,
      verbs: type.verbs,
      ...(type.shortNames.length > 0 && { shortNames: type.shortNames }),
      ...(type.categories.length > 0 && { categories: type.categories }),
    },
    ...[...type.subresources].map(([subresource, { kind, group, version, verbs }]) => ({
      name: `${type.plural}/${subresource}`,
      singularName: "",
      namespaced: type.namespaced,
      ...(version && { group, version }),
      kind,
      verbs,
    })),
  ];
}
