import { nameOf, type OwnerReference } from "../../api/index.ts";
import { isConflict, isNotFound } from "../../kube/index.ts";
import type { ControllerContext } from "./context.ts";
import type { GraphNode, ObjectGraph } from "./graph.ts";
import type { ReconcileQueue, ReconcileResult } from "./queue.ts";

const orphanFinalizer = "orphan";
const foregroundFinalizer = "foregroundDeletion";

/** What has become of an owner. */
type OwnerState = "there" | "waiting" | "gone" | "unknown";

/**
 * Deletes what nobody owns any more. An owner that is deleted in the foreground goes after its dependents; one
 * that is deleted with orphaning first lets them go. Source: pkg/controller/garbagecollector/garbagecollector.go.
 */
export function garbageCollector(context: ControllerContext, graph: ObjectGraph): ReconcileQueue {
  const synced = Promise.withResolvers<void>();
  const queue = context.queue("garbage collector", reconcile, 8);

  graph.onChange((before, after) => {
    if (after) {
      if (after.owners.length > 0 || after.deleting) queue.add(after.uid);
      // Dependents may have to go before an owner that waits for them.
      if (after.deleting && !before?.deleting) wakeDependents(after);
    } else if (before) {
      wakeDependents(before);
    }
    if (before && (!after || after.deleting !== before.deleting || after.owners !== before.owners)) {
      for (const owner of before.owners) if (graph.get(owner.uid)?.deleting) queue.add(owner.uid);
    }
  });
  void context.synced.then(() => graph.start()).then(synced.resolve);
  return queue;

  function wakeDependents(owner: GraphNode): void {
    for (const dependent of graph.dependentsOf(owner.uid)) queue.add(dependent.uid);
  }

  async function reconcile(uid: string): Promise<ReconcileResult> {
    await synced.promise;
    const node = graph.get(uid);
    if (!node) return undefined;
    if (node.deleting) {
      if (node.finalizers.includes(orphanFinalizer)) await orphan(node);
      else if (node.finalizers.includes(foregroundFinalizer)) await releaseAfterDependents(node);
      return undefined;
    }
    if (node.owners.length > 0) await collect(node);
    return undefined;
  }

  /** Deletes the object if all of its owners are gone or wait for it; forgets those owners if others remain. */
  async function collect(node: GraphNode): Promise<void> {
    const states = await Promise.all(node.owners.map((owner) => stateOf(owner, node)));
    if (states.every((state) => state === "there" || state === "unknown")) return;
    if (states.some((state) => state === "there" || state === "unknown")) {
      await setOwners(
        node,
        node.owners.filter((_, i) => states[i] === "there" || states[i] === "unknown"),
      );
      return;
    }
    const hasDependents = graph.dependentsOf(node.uid).length > 0;
    const foreground =
      node.finalizers.includes(foregroundFinalizer) || (states.includes("waiting") && hasDependents);
    const policy = node.finalizers.includes(orphanFinalizer)
      ? "Orphan"
      : foreground
        ? "Foreground"
        : "Background";
    try {
      await context.client.delete(node.resource, ref(node), { uid: node.uid, propagationPolicy: policy });
    } catch (error) {
      if (!isConflict(error)) throw error;
    }
  }

  /** Asks the server itself before it calls an owner gone: the graph may be behind. */
  async function stateOf(owner: OwnerReference, dependent: GraphNode): Promise<OwnerState> {
    const known = graph.get(owner.uid);
    if (known) {
      const misplaced = known.namespace !== undefined && known.namespace !== dependent.namespace;
      if (misplaced) return "gone";
      return known.deleting && known.finalizers.includes(foregroundFinalizer) ? "waiting" : "there";
    }
    const resource = graph.resourceOf(owner);
    if (!resource) return "unknown";
    const namespace = resource.namespaced ? dependent.namespace : undefined;
    if (resource.namespaced && namespace === undefined) return "gone";
    const found = await context.client.get(resource, nameOf({ metadata: { namespace, name: owner.name } }));
    return found?.metadata.uid === owner.uid ? "there" : "gone";
  }

  async function releaseAfterDependents(node: GraphNode): Promise<void> {
    const blocking = graph
      .dependentsOf(node.uid)
      .filter((one) =>
        one.owners.some((owner) => owner.uid === node.uid && owner.blockOwnerDeletion === true),
      );
    if (blocking.length > 0) {
      for (const dependent of blocking) if (!dependent.deleting) queue.add(dependent.uid);
      return;
    }
    wakeDependents(node);
    await dropFinalizer(node, foregroundFinalizer);
  }

  async function orphan(node: GraphNode): Promise<void> {
    for (const dependent of graph.dependentsOf(node.uid)) {
      await setOwners(
        dependent,
        dependent.owners.filter((owner) => owner.uid !== node.uid),
      );
    }
    await dropFinalizer(node, orphanFinalizer);
  }

  async function setOwners(node: GraphNode, ownerReferences: OwnerReference[]): Promise<void> {
    await patchMetadata(node, { ownerReferences });
  }

  async function dropFinalizer(node: GraphNode, finalizer: string): Promise<void> {
    await patchMetadata(node, { finalizers: node.finalizers.filter((one) => one !== finalizer) });
  }

  async function patchMetadata(node: GraphNode, metadata: object): Promise<void> {
    const { uid, resourceVersion } = node;
    const patch = { metadata: { ...metadata, uid, resourceVersion } };
    try {
      await context.client.patch(node.resource, ref(node), patch, { manager: "kube-controller-manager" });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }
}

function ref(node: GraphNode): string {
  return nameOf({ metadata: { namespace: node.namespace, name: node.name } });
}
