/** Pods of members that are outside of the mesh all the same. */
import { type KubeObject, type Pod, pods } from "../api/index.ts";
import { lacksSidecar } from "../injection/index.ts";
import { type Finding, finding } from "../traffic/index.ts";

/** Of a member's object as a cluster has it; none for other kinds, and for pods that are over. */
export function podFindings(object: KubeObject): Finding[] {
  if (object.kind !== pods.kind || object.apiVersion !== "v1") return [];
  const pod = object as Pod;
  const { metadata, status } = pod;
  const over = status?.phase === "Succeeded" || status?.phase === "Failed" || metadata.deletionTimestamp;
  if (over || !lacksSidecar(pod)) return [];
  const { name, namespace = "" } = metadata;
  return [finding("WEFT0103", { kind: pods.kind, namespace, name, field: "" })];
}
