import { fieldManager, type KubeObject, managedByLabel } from "../api/index.ts";

/**
 * What marks whole objects as ours (law 8): labels, or annotations where labels are for the user to read.
 * An object that lost a part of its mark is not ours any more: so a person can take it over.
 */
export interface Mark {
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
}

export const defaultMark: Mark = { labels: { [managedByLabel]: fieldManager } };

export function isMarked(object: KubeObject, mark: Mark): boolean {
  const { labels, annotations } = object.metadata;
  return carries(labels, mark.labels) && carries(annotations, mark.annotations);
}

function carries(has: Record<string, string> | undefined, wanted: Record<string, string> = {}): boolean {
  for (const name in wanted) if (has?.[name] !== wanted[name]) return false;
  return true;
}

/** For people: `labelled a=b` or `annotated a=b`. */
export function markText({ labels, annotations }: Mark): string {
  const list = (pairs: Record<string, string>) =>
    Object.entries(pairs)
      .map(([name, value]) => `${name}=${value}`)
      .join(", ");
  return [labels && `labelled ${list(labels)}`, annotations && `annotated ${list(annotations)}`]
    .filter(Boolean)
    .join(" and ");
}
