/** Who belongs to the mesh, and what holds for all of it. */
import { type MeshSettings, memberOfLabel } from "../../api/index.ts";
import { derive, flatDerive, type Read } from "../../collections/index.ts";
import type { TrafficInputs } from "../inputs.ts";

/** Settings are read under this key, whatever the source's key is. */
const meshKey = "mesh";

/** A member is an object of the mesh's own namespace, or of one that carries its label. */
export function meshGraph(inputs: TrafficInputs) {
  const settings = flatDerive(inputs.mesh, (mesh) => [mesh], { name: "settings", key: () => meshKey });
  const meshOf = (read: Read): MeshSettings | undefined => read.get(settings, meshKey);

  // Who belongs to the mesh: its own namespace, and those that carry its label.
  const members = derive(
    inputs.namespaces,
    ({ metadata }, read) => {
      const mesh = meshOf(read);
      const { name, labels } = metadata;
      return mesh && (name === mesh.namespace || labels?.[memberOfLabel] === mesh.namespace)
        ? { name }
        : undefined;
    },
    { name: "members" },
  );
  /** The mesh's settings for an object of a member; undefined for others. */
  const meshFor = (object: { metadata: { namespace?: string } }, read: Read): MeshSettings | undefined => {
    const mesh = meshOf(read);
    return mesh && read.get(members, object.metadata.namespace ?? "") ? mesh : undefined;
  };

  return { meshOf, meshFor, members };
}

/** What it hands on. */
export type MeshGraph = ReturnType<typeof meshGraph>;
