/** about.k8s.io, as about-api defines it (KEP-2149). */
import { ageColumn, crd, object, string } from "./schema.ts";

export const clusterPropertyDefinition = crd({
  group: "about.k8s.io",
  versions: ["v1alpha1", "v1beta1"],
  kind: "ClusterProperty",
  plural: "clusterproperties",
  scope: "Cluster",
  description: "A fact about this cluster, for tools that work with many.",
  required: ["spec"],
  spec: object({ value: string({ minLength: 1, maxLength: 128_000 }) }, { required: ["value"] }),
  columns: [{ name: "value", type: "string", jsonPath: ".spec.value" }, ageColumn],
  // API servers refuse CRDs of *.k8s.io groups that do not name their approval.
  annotations: { "api-approved.kubernetes.io": "https://github.com/kubernetes/enhancements/pull/3084" },
});
