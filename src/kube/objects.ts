/** Objects as callers of the client name and write them. */
import type { KubeObject, ObjectMeta } from "../api/index.ts";

/** An object's name: `namespace/name` as collections key it, or an object's metadata. */
export type Ref = string | { namespace?: string; name: string };

/** An object to write: apiVersion and kind are filled in from the resource; `generateName` may stand for the name. */
export type Draft<T extends KubeObject> = Omit<T, "apiVersion" | "kind" | "metadata"> & {
  apiVersion?: string;
  kind?: string;
  metadata: Partial<ObjectMeta>;
};

export type DeepPartial<T> = T extends readonly (infer U)[]
  ? DeepPartial<U>[]
  : T extends object
    ? { [K in keyof T]?: DeepPartial<T[K]> }
    : T;

/** The fields of an object that one manager has an opinion about (server-side apply). */
export type Applied<T extends KubeObject> = DeepPartial<Omit<T, "metadata">> & {
  metadata: DeepPartial<ObjectMeta> & { name: string };
};

export type JsonPatch = {
  op: "add" | "remove" | "replace" | "test" | "move" | "copy";
  path: string;
  value?: unknown;
  from?: string;
}[];
