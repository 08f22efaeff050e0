/** What a ServiceMeshControlPlane asks for and does not get: what its conditions say, also before it is applied. */
import { type KubeObject, type ServiceMeshControlPlane, serviceMeshControlPlanes } from "../api/index.ts";
import { invalidFields, notServed } from "../mesh/index.ts";
import { type Finding, finding } from "../traffic/index.ts";

/** None for objects of other kinds. */
export function controlPlaneFindings(object: KubeObject): Finding[] {
  const { group, kind } = serviceMeshControlPlanes;
  if (object.kind !== kind || object.apiVersion.split("/")[0] !== group) return [];
  const owner = object as ServiceMeshControlPlane;
  const { name, namespace = "" } = owner.metadata;
  const at = (field: string) => ({ kind, namespace, name, field });
  return [
    ...invalidFields(owner).map(({ field, reason }) => finding("WEFT0106", at(field), { reason })),
    ...notServed(owner.spec).map((field) => finding("WEFT0901", at(field), { reason: "not served yet" })),
  ];
}
