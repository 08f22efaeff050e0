/** Of which objects a mesh's discovery speaks: several meshes of a cluster watch the same ones. */
import {
  discoveryComponent,
  type KubeObject,
  memberOfLabel,
  meshLabel,
  type Namespace,
  type Service,
} from "../api/index.ts";
import { type Collection, derive, index, type Read } from "../collections/index.ts";

/** Of a namespace: this mesh's, another's, or no mesh's. */
export interface Standing {
  of(object: KubeObject, read: Read): "ours" | "theirs" | "nobody's";
  /**
   * The objects that are ours to write a status of, or to take one back: all but those of other meshes, whose own
   * discovery does. What is nobody's may have left this mesh.
   */
  without<T extends KubeObject>(theirs: Collection<T>, name: string): Collection<T>;
}

/** For the mesh of the namespace `home`. */
export function standingIn(
  home: string,
  { namespaces, services }: { namespaces: Collection<Namespace>; services: Collection<Service> },
): Standing {
  // A mesh's own namespace carries no label of members: that a discovery is called there says it.
  const homes = index(
    services,
    ({ metadata: { namespace, labels = {} } }) =>
      namespace && labels[meshLabel] && labels["app.kubernetes.io/component"] === discoveryComponent
        ? [namespace]
        : [],
    { name: "homes of meshes" },
  );
  const standings = derive(
    namespaces,
    ({ metadata: { name, labels } }, read) => {
      const mesh = labels?.[memberOfLabel];
      if (name === home || mesh === home) return "ours";
      return mesh !== undefined || read.all(homes, name).length > 0 ? "theirs" : undefined;
    },
    { name: "standings" },
  );
  const of: Standing["of"] = ({ metadata }, read) =>
    read.get(standings, metadata.namespace ?? "") ?? "nobody's";
  return {
    of,
    without: (objects, name) =>
      derive(objects, (object, read) => (of(object, read) === "theirs" ? undefined : object), {
        name: `${name} of no other mesh`,
      }),
  };
}
