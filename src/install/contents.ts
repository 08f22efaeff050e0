/** What a namespace holds, of every kind that its API server knows, for whoever wants to take it away. */
import type { ObjectMeta, Resource } from "../api/index.ts";
import { ApiError, type KubeClient } from "../kube/index.ts";

/** One object, as a person would name it. */
export interface Held {
  resource: Resource;
  metadata: ObjectMeta;
}

interface ResourceList {
  resources?: { name: string; kind: string; namespaced: boolean; verbs?: string[] }[];
}

/** All objects of a namespace. A group whose server does not answer (an aggregated API) is left out. */
export async function contentsOf(
  client: KubeClient,
  namespace: string,
  signal?: AbortSignal,
): Promise<Held[]> {
  const options = signal ? { signal } : {};
  const groups = await client.json<{
    groups?: { name: string; preferredVersion?: { version: string } }[];
  }>("GET", "/apis", options);
  const versions = [
    { group: "", version: "v1" },
    ...(groups.groups ?? []).map(({ name, preferredVersion }) => ({
      group: name,
      version: preferredVersion?.version ?? "v1",
    })),
  ];
  const found = await Promise.all(
    versions.map(async ({ group, version }) => {
      const path = group === "" ? `/api/${version}` : `/apis/${group}/${version}`;
      const { resources = [] } = await orNothing<ResourceList>(client.json("GET", path, options));
      const kinds = resources.filter(
        ({ name, namespaced, verbs = [] }) =>
          namespaced && !name.includes("/") && verbs.includes("list") && verbs.includes("delete"),
      );
      const lists = await Promise.all(
        kinds.map(async ({ name: plural, kind }) => {
          const resource: Resource = { group, version, kind, plural, namespaced: true };
          const { items = [] } = await orNothing<{ items?: { metadata: ObjectMeta }[] }>(
            client.list(resource, { namespace, ...options }),
          );
          return items.map(({ metadata }) => ({ resource, metadata }));
        }),
      );
      return lists.flat();
    }),
  );
  return found.flat();
}

async function orNothing<T extends object>(asked: Promise<T>): Promise<T | Record<string, never>> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof ApiError && (error.code === 404 || error.code >= 500)) return {};
    throw error;
  }
}

/** What every namespace has by itself, and what goes with its owner or after a while. */
export function comesByItself({ resource, metadata }: Held): boolean {
  const { kind, group } = resource;
  if ((metadata.ownerReferences ?? []).length > 0) return true;
  if (kind === "ServiceAccount") return metadata.name === "default";
  if (kind === "ConfigMap") return metadata.name === "kube-root-ca.crt";
  return kind === "Event" || kind === "Endpoints" || group === "events.k8s.io";
}
