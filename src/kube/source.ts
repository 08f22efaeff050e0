/** Reflects a kind of objects into a source of the incremental engine. */
import { type KubeObject, nameOf, type Resource } from "../api/index.ts";
import { type Engine, type Source, source } from "../collections/index.ts";
import type { KubeClient } from "./client.ts";
import { type Reflection, type ReflectOptions, reflect } from "./reflector.ts";

export interface WatchSourceOptions<T extends KubeObject> extends ReflectOptions<T> {
  /** What `why` calls it; `<plural> of <cluster>` unless told. */
  name?: string;
}

/** A source with the reflection that feeds it. */
export type WatchedSource<T extends KubeObject> = Source<T> & { readonly reflection: Reflection };

/** For sources of nodes: they report their health all the time, and only their labels say where endpoints are. */
export function labelsOnly<T extends KubeObject>({ apiVersion, kind, metadata }: T): T {
  const { name, labels, resourceVersion, uid } = metadata;
  return { apiVersion, kind, metadata: { name, labels, resourceVersion, uid } } as unknown as T;
}

/**
 * A source, keyed by `nameOf`, that holds what the API server has and is synced once it is complete. Objects
 * are deeply shared with derivations and must not be changed. Each batch of the watch settles as one.
 */
export function watchSource<T extends KubeObject>(
  engine: Engine,
  client: KubeClient,
  resource: Resource<T>,
  options: WatchSourceOptions<T> = {},
): WatchedSource<T> {
  const name = options.name ?? `${resource.plural} of ${client.cluster}`;
  const fed = source<T>(engine, { name, key: nameOf });
  const reflection = reflect(
    client,
    resource,
    {
      replace: (objects) => fed.replace(objects),
      put: (object) => fed.put(object),
      remove: (key) => fed.remove(key),
      synced: () => fed.markSynced(),
    },
    options,
  );
  return Object.assign(fed, { reflection });
}
