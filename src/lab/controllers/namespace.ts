import {
  customResourceDefinitions,
  type KubeObject,
  type Namespace,
  namespaces,
  pathOf,
  type Resource,
} from "../../api/index.ts";
import { isNotFound } from "../../kube/index.ts";
import { type ControllerContext, messageOf } from "./context.ts";
import { discover } from "./discovery.ts";
import type { ObjectGraph } from "./graph.ts";
import type { ReconcileQueue, ReconcileResult } from "./queue.ts";

/** How long to wait when what remains gives no sign, in milliseconds. */
const recheck = 5_000;

/**
 * Empties a namespace that is Terminating, of every kind that the server offers, and then lets it go.
 * Source: pkg/controller/namespace/deletion/namespaced_resources_deleter.go.
 */
export function namespaceController(context: ControllerContext, graph: ObjectGraph): ReconcileQueue {
  const spaces = context.cache(namespaces);
  context.cache(customResourceDefinitions);
  const queue = context.queue("namespace", reconcile);
  spaces.onChange((_, after) => {
    if (after?.metadata.deletionTimestamp) queue.add(after.metadata.name);
  });
  graph.onChange((before, after) => {
    if (after || !before?.namespace) return;
    if (spaces.get(before.namespace)?.metadata.deletionTimestamp) queue.add(before.namespace);
  });
  return queue;

  async function reconcile(name: string): Promise<ReconcileResult> {
    const space = spaces.get(name);
    if (!space?.metadata.deletionTimestamp) return undefined;
    if (!(space.spec?.finalizers ?? []).includes("kubernetes")) return undefined;

    const served = await discover(context.client);
    const remaining = new Map<string, number>();
    const finalizers = new Map<string, number>();
    const failures: string[] = [];
    for (const { resource, verbs } of served) {
      if (!resource.namespaced || !verbs.includes("list") || !verbs.includes("delete")) continue;
      try {
        const left = await empty(resource, name, verbs);
        if (left.length > 0) {
          remaining.set(
            resource.group ? `${resource.plural}.${resource.group}` : resource.plural,
            left.length,
          );
        }
        for (const finalizer of left.flatMap((one) => one.metadata.finalizers ?? [])) {
          finalizers.set(finalizer, (finalizers.get(finalizer) ?? 0) + 1);
        }
      } catch (error) {
        // Its definition went meanwhile, and all of its objects with it.
        if (!isNotFound(error)) failures.push(`${resource.plural}: ${messageOf(error)}`);
      }
    }
    const latest = spaces.get(name);
    if (!latest?.metadata.deletionTimestamp) return undefined;
    if (remaining.size === 0 && failures.length === 0) {
      await finalize(latest);
      return undefined;
    }
    await report(latest, remaining, finalizers, failures);
    return { after: recheck };
  }

  /** Deletes all objects of a kind and returns those that are still there: they end gracefully or have finalizers. */
  async function empty(
    resource: Resource<KubeObject>,
    namespace: string,
    verbs: string[],
  ): Promise<KubeObject[]> {
    const { items } = await context.client.list(resource, { namespace });
    const alive = items.filter((one) => !one.metadata.deletionTimestamp);
    if (alive.length === 0) return items;
    if (verbs.includes("deletecollection")) {
      await context.client.deleteCollection(resource, { namespace, propagationPolicy: "Background" });
    } else {
      for (const one of alive) await context.remove(resource, one, { propagationPolicy: "Background" });
    }
    return (await context.client.list(resource, { namespace })).items;
  }

  async function finalize(space: Namespace): Promise<void> {
    const finalizers = (space.spec?.finalizers ?? []).filter((one) => one !== "kubernetes");
    await context.client.json("PUT", pathOf(namespaces, undefined, space.metadata.name, "finalize"), {
      body: { ...space, spec: { ...space.spec, finalizers } },
    });
  }

  async function report(
    space: Namespace,
    remaining: Map<string, number>,
    finalizers: Map<string, number>,
    failures: string[],
  ): Promise<void> {
    const counted = (counts: Map<string, number>, words: string) =>
      [...counts].map(([name, count]) => `${name} ${words} ${count} resource instances`).join(", ");
    const failed = failures.length > 0;
    const said = [
      failed
        ? ["NamespaceDeletionContentFailure", "True", "ContentDeletionFailed", failures.join("; ")]
        : [
            "NamespaceDeletionContentFailure",
            "False",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
          ],
      remaining.size > 0
        ? [
            "NamespaceContentRemaining",
            "True",
            "SomeResourcesRemain",
            `Some resources are remaining: ${counted(remaining, "has")}`,
          ]
        : ["NamespaceContentRemaining", "False", "ContentRemoved", "All content successfully removed"],
      finalizers.size > 0
        ? [
            "NamespaceFinalizersRemaining",
            "True",
            "SomeFinalizersRemain",
            `Some content in the namespace has finalizers remaining: ${counted(finalizers, "in")}`,
          ]
        : [
            "NamespaceFinalizersRemaining",
            "False",
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished",
          ],
    ] as [string, string, string, string][];
    const known = space.status?.conditions ?? [];
    const conditions = said.map(([type, status, reason, message]) => {
      const before = known.find((one) => one.type === type);
      const same = before?.status === status;
      const lastTransitionTime = (same && before?.lastTransitionTime) || context.timestamp();
      return { type, status, reason, message, lastTransitionTime };
    });
    const others = known.filter((one) => !said.some(([type]) => type === one.type));
    await context.replaceStatus(namespaces, space, {
      ...space.status,
      conditions: [...others, ...conditions],
    });
  }
}
