/** A deleted definition takes its objects with it; the definition goes when the last one has gone. */

import type { CustomResourceDefinition } from "../../../api/index.ts";
import { apiServerUser } from "../bootstrap.ts";
import type { Core } from "../core.ts";
import { deleteObject } from "../verbs/delete.ts";
import { replace, type Write } from "../write.ts";
import { cleanupFinalizer } from "./definitions.ts";
import { customTypes } from "./types.ts";

const write: Write = { user: apiServerUser, dryRun: false, warnings: [], manager: undefined };

/** Deletes the objects of a definition that is being deleted, and lets go of it once there are none. */
export function cleanUp(core: Core, name: string): void {
  const definitions = core.registry.find("apiextensions.k8s.io", "customresourcedefinitions")!;
  const bucket = core.store.bucket(definitions.bucket);
  const release = () => {
    const current = bucket.objects.get(name);
    if (!current?.metadata.deletionTimestamp || !current.metadata.finalizers?.includes(cleanupFinalizer))
      return;
    const finalizers = current.metadata.finalizers.filter((item) => item !== cleanupFinalizer);
    replace(
      core,
      definitions,
      current,
      { ...current, metadata: { ...current.metadata, finalizers } },
      "finalize",
      write,
    );
  };
  const definition = bucket.objects.get(name);
  const type = definition && customTypes(definition as unknown as CustomResourceDefinition)[0];
  if (!type) {
    release();
    return;
  }
  const objects = core.store.bucket(type.bucket);
  for (const object of [...objects.objects.values()]) {
    if (!object.metadata.deletionTimestamp) deleteObject(core, type, object, { write });
  }
  if (objects.objects.size === 0) {
    release();
    return;
  }
  const watcher = {
    event: () => {
      if (objects.objects.size > 0) return;
      objects.watchers.delete(watcher);
      release();
    },
    end: () => {},
  };
  objects.watchers.add(watcher);
}
