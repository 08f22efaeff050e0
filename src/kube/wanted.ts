/** What a sink sends: the parts of a desired row, with the conditions' transition times filled in. */
import type { Condition, KubeObject } from "../api/index.ts";
import { timestamp, type World } from "../world/index.ts";
import type { Mark } from "./mark.ts";
import type { Applied } from "./objects.ts";

type Wanted = {
  metadata: { namespace?: string; name: string; labels?: object; annotations?: object };
} & Record<string, unknown>;

/** The row without its status and without what is not for us to say, plus the mark. */
export function mainPart<T extends KubeObject>(row: Applied<T>, mark: Mark = {}): Wanted {
  const { status: _, metadata, ...rest } = row as unknown as Wanted;
  const { uid: _u, resourceVersion: _r, managedFields: _m, ...kept } = metadata as Record<string, unknown>;
  return {
    ...rest,
    metadata: {
      ...(kept as Wanted["metadata"]),
      ...(mark.labels && { labels: { ...metadata.labels, ...mark.labels } }),
      ...(mark.annotations && { annotations: { ...metadata.annotations, ...mark.annotations } }),
    },
  };
}

/**
 * The row's status, if it has one. A condition's `lastTransitionTime` is now when its status differs from what
 * the object has, and what the object has otherwise (apimachinery `meta.SetStatusCondition`). Conditions may also be
 * those of items of the status: of a Gateway's listeners, of a route's parents.
 */
export function statusPart<T extends KubeObject>(
  world: World,
  row: Applied<T> | undefined,
  current: T,
): { status?: unknown } {
  const status = (row as { status?: object } | undefined)?.status;
  if (status === undefined) return {};
  return { status: timed(world, status, (current as { status?: object }).status) };
}

interface Conditioned {
  conditions?: Condition[];
  name?: string;
}

function timed(world: World, status: object, current: object | undefined): object {
  const { conditions } = status as Conditioned;
  const before = (current as Conditioned | undefined)?.conditions ?? [];
  const items = Object.entries(status).flatMap(([field, list]) => {
    if (field === "conditions" || !Array.isArray(list)) return [];
    if (!list.some((item: Conditioned | undefined) => Array.isArray(item?.conditions))) return [];
    const old = ((current as Record<string, unknown> | undefined)?.[field] ?? []) as Conditioned[];
    const same = (item: Conditioned, i: number) =>
      item.name === undefined ? old[i] : old.find(({ name }) => name === item.name);
    return [[field, list.map((item: Conditioned, i) => timed(world, item, same(item, i)))]];
  });
  if (!conditions && items.length === 0) return status;
  return {
    ...status,
    ...Object.fromEntries(items),
    ...(conditions && {
      conditions: conditions.map((condition) => {
        const same = before.find(
          ({ type, status }) => type === condition.type && status === condition.status,
        );
        return { ...condition, lastTransitionTime: same?.lastTransitionTime ?? timestamp(world) };
      }),
    }),
  };
}

/** The least that names an object and no other of the same name, with fields to apply to it. */
export function ofObject(current: KubeObject, fields: object): Wanted {
  const { metadata = {}, ...rest } = fields as { metadata?: object };
  const { namespace, name, uid } = current.metadata;
  return { ...rest, metadata: { ...metadata, ...(namespace && { namespace }), name, ...(uid && { uid }) } };
}

/** As `ofObject`, and only while the object is as we saw it. */
export function ofVersion(current: KubeObject, fields: object): Wanted {
  const body = ofObject(current, fields);
  const { resourceVersion } = current.metadata;
  return { ...body, metadata: { ...body.metadata, ...(resourceVersion && { resourceVersion }) } };
}
