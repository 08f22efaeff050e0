/** Where a finding is, and how labels are printed. */
import type { Origin } from "../model.ts";

/** The place of a field in one object. */
export type At = (field: string) => Origin;

/** Makes the places of fields in one object. */
export function originOf(kind: string, { metadata }: { metadata: { namespace?: string; name: string } }): At {
  return (field) => ({ kind, namespace: metadata.namespace ?? "", name: metadata.name, field });
}

/** `app=catalog,version=v1`. */
export function labelText(labels: Readonly<Record<string, string>> | undefined): string {
  return Object.entries(labels ?? {})
    .map(([name, value]) => `${name}=${value}`)
    .join(",");
}
