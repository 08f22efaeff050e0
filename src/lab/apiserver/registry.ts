/** Which kinds of objects the API server serves, by group, version and plural name. */
import { apiVersionOf } from "../../api/index.ts";
import type { ApiObject } from "./object.ts";
import type { Schema } from "./schema/index.ts";
import type { GroupName } from "./status.ts";
import type { PrinterColumn } from "./tables/index.ts";

export type Verb = "create" | "get" | "list" | "watch" | "update" | "patch" | "delete" | "deletecollection";

export const allVerbs: readonly Verb[] = [
  "create",
  "delete",
  "deletecollection",
  "get",
  "list",
  "patch",
  "update",
  "watch",
];

/** Where the numbers of `autoscaling/v1` Scale are in an object. */
export interface ScalePaths {
  specReplicas: readonly string[];
  statusReplicas: readonly string[];
  /** Path of a label selector, as text (CRDs) or as a `LabelSelector` (built-in kinds). */
  selector: readonly string[] | undefined;
}

/** A subresource as discovery lists it. Its kind may be of another group. */
export interface Subresource {
  kind: string;
  group?: string;
  version?: string;
  verbs: readonly string[];
}

/** What only a CRD's version has. */
export interface CustomVersion {
  /** `spec.versions[].schema.openAPIV3Schema`, as written. */
  rawSchema: Schema | undefined;
  /** `spec.versions[].additionalPrinterColumns`. */
  columns: readonly PrinterColumn[] | undefined;
  deprecationWarning: string | undefined;
  /** Name of the CustomResourceDefinition. */
  definition: string;
  /** Whether the definition is being deleted: no new objects. */
  terminating: boolean;
}

/** One kind in one version. */
export interface ResourceType {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly listKind: string;
  readonly plural: string;
  readonly singular: string;
  readonly namespaced: boolean;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly verbs: readonly string[];
  readonly subresources: ReadonlyMap<string, Subresource>;
  /** The bucket of the store that holds the objects; versions of a kind share it. */
  readonly bucket: string;
  /** API version that objects are stored with. */
  readonly storedAs: string;
  readonly scale: ScalePaths | undefined;
  /** Whether `metadata.generation` counts changes of the spec. */
  readonly generation: boolean;
  /** Fields beyond name and namespace that field selectors may name. */
  readonly fields: Readonly<Record<string, (object: ApiObject) => string>>;
  readonly custom: CustomVersion | undefined;
  /** From the stored version into this one, and back; absent where only `apiVersion` differs. */
  readonly fromStored?: (object: ApiObject) => ApiObject;
  readonly toStored?: (object: ApiObject) => ApiObject;
  /** A request without storage behind it (reviews): handled by name. */
  readonly review?: boolean;
}

/** `v1` or `apps/v1`. */
export function versionOf(type: ResourceType): string {
  return apiVersionOf(type);
}

/** How messages name the type: by plural. */
export function pluralName(type: ResourceType): GroupName {
  return { group: type.group, name: type.plural };
}

/** How messages about invalid objects name the type: by kind. */
export function kindName(type: ResourceType): GroupName {
  return { group: type.group, name: type.kind };
}

/** Fields that writes through an endpoint do not reach, and so nobody owns by them (`GetResetFields` in Kubernetes). */
export function resetFields(type: ResourceType, subresource: string | undefined): readonly string[] {
  if (subresource !== "status") return type.subresources.has("status") ? ["status"] : [];
  if (type.custom || type.plural === "customresourcedefinitions") return ["metadata", "spec"];
  if (type.bucket === "apps/deployments") return ["spec", "metadata.labels"];
  if (type.bucket === "/pods") return ["spec", "metadata.deletionTimestamp", "metadata.ownerReferences"];
  return ["spec"];
}

/** The key of an object in its bucket. */
export function keyOf(namespace: string | undefined, name: string): string {
  return namespace ? `${namespace}/${name}` : name;
}

/** An object of the store as this version of its kind shows it. */
export function shown(type: ResourceType, stored: ApiObject): ApiObject {
  if (type.fromStored) return type.fromStored(stored);
  const apiVersion = versionOf(type);
  return stored.apiVersion === apiVersion ? stored : { ...stored, apiVersion };
}

/** The opposite of `shown`. */
export function toStored(type: ResourceType, object: ApiObject): ApiObject {
  if (type.toStored) return type.toStored(object);
  return object.apiVersion === type.storedAs ? object : { ...object, apiVersion: type.storedAs };
}

/** All types that are served. CRDs come and go; everything else is there from the start. */
export class Registry {
  readonly #types = new Map<string, ResourceType>();
  #generation = 0;

  static #key(group: string, version: string, plural: string): string {
    return `${group}/${version}/${plural}`;
  }

  /** Grows with every change; what is derived from the registry (discovery, OpenAPI) is cached under it. */
  get generation(): number {
    return this.#generation;
  }

  add(...types: readonly ResourceType[]): void {
    for (const type of types) this.#types.set(Registry.#key(type.group, type.version, type.plural), type);
    this.#generation++;
  }

  /** Takes every version of a kind away. */
  remove(group: string, plural: string): void {
    for (const [key, type] of this.#types) {
      if (type.group === group && type.plural === plural) this.#types.delete(key);
    }
    this.#generation++;
  }

  get(group: string, version: string, plural: string): ResourceType | undefined {
    return this.#types.get(Registry.#key(group, version, plural));
  }

  /** Some version of a kind, for callers that name only group and plural. */
  find(group: string, plural: string): ResourceType | undefined {
    for (const type of this.#types.values()) {
      if (type.group === group && type.plural === plural) return type;
    }
    return undefined;
  }

  all(): ResourceType[] {
    return [...this.#types.values()];
  }

  /** One type per bucket: everything that is stored, each once. */
  stored(): ResourceType[] {
    const byBucket = new Map<string, ResourceType>();
    for (const type of this.#types.values()) {
      if (!type.review && !byBucket.has(type.bucket)) byBucket.set(type.bucket, type);
    }
    return [...byBucket.values()];
  }

  has(group: string, version?: string): boolean {
    for (const type of this.#types.values()) {
      if (type.group === group && (version === undefined || type.version === version)) return true;
    }
    return false;
  }
}
