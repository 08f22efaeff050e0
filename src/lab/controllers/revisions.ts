/**
 * The template history of StatefulSets and DaemonSets: one ControllerRevision per template, which is what
 * `kubectl rollout history|undo` reads. Source: pkg/controller/history/controller_history.go.
 */
import {
  type ControllerRevision,
  controllerRevisions,
  type KubeObject,
  type Pod,
  type PodTemplateSpec,
} from "../../api/index.ts";
import { isAlreadyExists } from "../../kube/index.ts";
import type { ControllerContext } from "./context.ts";
import { sameTemplate, templateHash } from "./hash.ts";
import { controllerOf, controllerReference } from "./pods.ts";

/** On revisions and pods: the hash of the template (apps/v1, ControllerRevisionHashLabelKey). */
export const revisionHashLabel = "controller-revision-hash";

/** The data of a revision is a strategic merge patch that puts the template back. */
interface RevisionData {
  spec: { template: PodTemplateSpec & { $patch?: string } };
}

/** All revisions of a set, oldest first. */
export function revisionsOf(context: ControllerContext, set: KubeObject): ControllerRevision[] {
  return context
    .cache(controllerRevisions)
    .ownedBy(set.metadata.uid!)
    .filter((one) => controllerOf(one)?.uid === set.metadata.uid)
    .sort((a, b) => a.revision - b.revision);
}

export function templateOf(revision: ControllerRevision): PodTemplateSpec {
  const { $patch: _, ...template } = (revision.data as unknown as RevisionData).spec.template;
  return template;
}

/** The revision of the template as it is now: made if it is new, made the newest if it is an old one again. */
export async function currentRevision(
  context: ControllerContext,
  set: KubeObject,
  template: PodTemplateSpec,
): Promise<ControllerRevision> {
  const known = revisionsOf(context, set);
  const newest = known.at(-1);
  const same = known.findLast((one) => sameTemplate(templateOf(one), template));
  if (same && same === newest) return same;
  const revision = (newest?.revision ?? 0) + 1;
  if (same) return context.patch(controllerRevisions, same, { revision });
  for (let collisions = 0; ; collisions++) {
    const hash = templateHash(template, collisions);
    try {
      return await context.create(controllerRevisions, {
        metadata: {
          name: `${set.metadata.name}-${hash}`,
          namespace: set.metadata.namespace,
          labels: { ...template.metadata?.labels, [revisionHashLabel]: hash },
          ownerReferences: [controllerReference(set)],
        },
        data: { spec: { template: { ...template, $patch: "replace" } } } as never,
        revision,
      });
    } catch (error) {
      if (!isAlreadyExists(error) || collisions > 8) throw error;
    }
  }
}

/** Deletes the oldest revisions beyond `keep` that no pod is of. */
export async function dropRevisions(
  context: ControllerContext,
  set: KubeObject,
  inUse: ControllerRevision[],
  keep: number,
  pods: Pod[],
): Promise<void> {
  // DaemonSets label pods with the hash, StatefulSets with the name of the revision.
  const live = new Set<string | undefined>(pods.map((pod) => pod.metadata.labels?.[revisionHashLabel]));
  for (const { metadata } of inUse) live.add(metadata.name);
  const old = revisionsOf(context, set).filter(
    ({ metadata }) => !live.has(metadata.name) && !live.has(metadata.labels?.[revisionHashLabel]),
  );
  for (const one of old.slice(0, Math.max(0, old.length - keep))) {
    await context.remove(controllerRevisions, one);
  }
}
