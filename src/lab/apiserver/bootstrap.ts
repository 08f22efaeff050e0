/** The objects that every cluster begins with. Existing ones are left as they are. */
import type { Core } from "./core.ts";
import type { ApiServerOptions } from "./index.ts";
import type { ApiObject } from "./object.ts";
import { keyOf } from "./registry.ts";
import { insert } from "./write.ts";

const systemNamespaces = ["default", "kube-system", "kube-public", "kube-node-lease"];

/** The identity of what the API server writes itself. */
export const apiServerUser = { name: "system:apiserver", groups: ["system:masters"] } as const;

export function bootstrap(core: Core, _options: ApiServerOptions): void {
  for (const name of systemNamespaces) {
    ensure(core, "", "namespaces", undefined, { apiVersion: "v1", kind: "Namespace", metadata: { name } });
  }
}

/** Creates an object unless one of its name is there. */
export function ensure(
  core: Core,
  group: string,
  plural: string,
  namespace: string | undefined,
  object: ApiObject,
): void {
  const type = core.registry.find(group, plural)!;
  if (core.store.bucket(type.bucket).objects.has(keyOf(namespace, object.metadata.name))) return;
  insert(core, type, namespace, object, {
    user: apiServerUser,
    dryRun: false,
    warnings: [],
    manager: "kube-apiserver",
  });
}
