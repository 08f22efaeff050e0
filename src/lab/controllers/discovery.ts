import { type KubeObject, type Resource, resource } from "../../api/index.ts";
import type { KubeClient } from "../../kube/index.ts";

/** A resource that the server offers, with what may be done to it. */
export interface ServedResource {
  resource: Resource<KubeObject>;
  verbs: string[];
  /** All versions in which it is served, the preferred one first. */
  versions: string[];
}

interface GroupDiscovery {
  metadata?: { name?: string };
  versions: {
    version: string;
    resources?: {
      resource: string;
      scope: "Namespaced" | "Cluster";
      verbs: string[];
      responseKind?: { kind?: string };
    }[];
  }[];
}

const accept =
  "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/**
 * All resources in their preferred version (aggregated discovery, KEP-3352). A resource that two groups serve
 * appears twice, except Events, whose two groups are one store.
 */
export async function discover(client: KubeClient): Promise<ServedResource[]> {
  const found: ServedResource[] = [];
  for (const path of ["/api", "/apis"] as const) {
    const list = await client.json<{ items?: GroupDiscovery[] }>("GET", path, { headers: { accept } });
    for (const group of list.items ?? []) {
      const name = group.metadata?.name ?? "";
      const seen = new Map<string, ServedResource>();
      for (const { version, resources } of group.versions) {
        for (const one of resources ?? []) {
          if (name === "events.k8s.io" && one.resource === "events") continue;
          const preferred = seen.get(one.resource);
          if (preferred) {
            preferred.versions.push(version);
            continue;
          }
          const kind = one.responseKind?.kind ?? "";
          const served = {
            resource: resource(name, version, kind, one.resource, one.scope),
            verbs: one.verbs,
            versions: [version],
          };
          seen.set(one.resource, served);
          found.push(served);
        }
      }
    }
  }
  return found;
}
