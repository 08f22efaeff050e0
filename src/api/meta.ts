/**
 * What every Kubernetes object has, and how a kind of objects is named in URLs.
 * Source: apimachinery `pkg/apis/meta/v1/types.go`.
 */
import type * as meta from "kubernetes-types/meta/v1";

export type Condition = meta.Condition;
export type OwnerReference = meta.OwnerReference;
export type Status = meta.Status;
export type ManagedFieldsEntry = meta.ManagedFieldsEntry;
export type LabelSelector = meta.LabelSelector;

/** Metadata of an object; `name` is always there once an API server has seen it. */
export type ObjectMeta = Omit<meta.ObjectMeta, "name"> & { name: string };

/** The least that is known of any object. */
export interface KubeObject {
  apiVersion: string;
  kind: string;
  metadata: ObjectMeta;
}

/** A typed kind as the API server stores it: the published type with the envelope always present. */
export type Stored<T> = Omit<T, "apiVersion" | "kind" | "metadata"> & KubeObject;

/** A kind of objects: its group, version and plural name (the URL), and its TypeScript type (`T`, a phantom). */
export interface Resource<T extends KubeObject = KubeObject> {
  /** API group; empty for the core group. */
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
  readonly namespaced: boolean;
  readonly _type?: T;
}

export function resource<T extends KubeObject>(
  group: string,
  version: string,
  kind: string,
  plural: string,
  scope: "Namespaced" | "Cluster" = "Namespaced",
): Resource<T> {
  return { group, version, kind, plural, namespaced: scope === "Namespaced" };
}

/** `v1` or `group/version`. */
export function apiVersionOf(of: Pick<Resource, "group" | "version">): string {
  return of.group === "" ? of.version : `${of.group}/${of.version}`;
}

/**
 * The URL path of a collection (no name), an object, or a subresource.
 * Without `namespace` a namespaced resource's path is the list over all namespaces.
 */
export function pathOf(of: Resource, namespace?: string, name?: string, subresource?: string): string {
  const root = of.group === "" ? `/api/${of.version}` : `/apis/${of.group}/${of.version}`;
  const scope =
    of.namespaced && namespace !== undefined ? `/namespaces/${encodeURIComponent(namespace)}` : "";
  const object = name === undefined ? "" : `/${encodeURIComponent(name)}`;
  return `${root}${scope}/${of.plural}${object}${subresource ? `/${subresource}` : ""}`;
}

/** The name that an object has in collections: `namespace/name`, or `name` where there are no namespaces. */
export function nameOf(object: { metadata: { namespace?: string; name: string } }): string {
  const { namespace, name } = object.metadata;
  return namespace ? `${namespace}/${name}` : name;
}

/** Splits what `nameOf` made. */
export function splitName(key: string): { namespace: string | undefined; name: string } {
  const slash = key.indexOf("/");
  return slash < 0
    ? { namespace: undefined, name: key }
    : { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
}
