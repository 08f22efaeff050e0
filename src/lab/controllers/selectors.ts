import type { LabelSelector } from "../../api/index.ts";

export type Labels = Record<string, string>;

/** Whether the labels satisfy a selector as ReplicaSets have it; an absent selector matches nothing. */
export function selects(selector: LabelSelector | undefined, labels: Labels | undefined): boolean {
  if (!selector) return false;
  return (
    selectsMap(selector.matchLabels ?? {}, labels) &&
    (selector.matchExpressions ?? []).every((one) => satisfies(one.operator, labels?.[one.key], one.values))
  );
}

/** Whether every wanted label is there with the wanted value: a Service's selector, a pod's nodeSelector. */
export function selectsMap(wanted: Labels, labels: Labels | undefined): boolean {
  for (const key in wanted) if (labels?.[key] !== wanted[key]) return false;
  return true;
}

/**
 * One requirement of a label or node selector. `Gt` and `Lt` are of node selectors only.
 * Source: apimachinery pkg/labels/selector.go: an absent label satisfies `NotIn` and `DoesNotExist`.
 */
export function satisfies(operator: string, value: string | undefined, values: string[] = []): boolean {
  switch (operator) {
    case "In":
      return value !== undefined && values.includes(value);
    case "NotIn":
      return value === undefined || !values.includes(value);
    case "Exists":
      return value !== undefined;
    case "DoesNotExist":
      return value === undefined;
    case "Gt":
      return value !== undefined && Number(value) > Number(values[0]);
    case "Lt":
      return value !== undefined && Number(value) < Number(values[0]);
    default:
      return false;
  }
}
