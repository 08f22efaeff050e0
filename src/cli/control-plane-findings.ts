/** What a control plane asks for and does not get, and whether an authority can be made of `cacerts`; also of files. */
import {
  type KubeObject,
  type Secret,
  type ServiceMeshControlPlane,
  secrets,
  serviceMeshControlPlanes,
} from "../api/index.ts";
import { authorityProblem } from "../identity/index.ts";
import { invalidFields, notServed } from "../mesh/index.ts";
import { type Finding, finding } from "../traffic/index.ts";

/** None for objects of other kinds. `now` in ms. */
export function controlPlaneFindings(object: KubeObject, now: number): Finding[] {
  const { group } = serviceMeshControlPlanes;
  if (object.kind === serviceMeshControlPlanes.kind && object.apiVersion.split("/")[0] === group)
    return fieldFindings(object as ServiceMeshControlPlane);
  if (object.kind === secrets.kind && object.metadata.name === "cacerts")
    return authorityFindings(object as Secret, now);
  return [];
}

function fieldFindings(owner: ServiceMeshControlPlane): Finding[] {
  const { name, namespace = "" } = owner.metadata;
  const at = (field: string) => ({ kind: owner.kind, namespace, name, field });
  return [
    ...invalidFields(owner).map(({ field, reason }) => finding("WEFT0106", at(field), { reason })),
    ...notServed(owner.spec).map((field) => finding("WEFT0901", at(field), { reason: "not served yet" })),
  ];
}

function authorityFindings({ kind, metadata, data = {} }: Secret, now: number): Finding[] {
  const entries = Object.entries(data).map(([key, text]) => [key, Buffer.from(text, "base64").toString()]);
  const reason = authorityProblem(Object.fromEntries(entries) as Record<string, string>, now);
  if (reason === undefined) return [];
  const { name, namespace = "" } = metadata;
  return [finding("WEFT0912", { kind, namespace, name, field: "data" }, { reason })];
}
