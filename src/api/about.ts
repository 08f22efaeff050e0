/** about.k8s.io: facts about a cluster (KEP-2149; published versions of about-api: v1alpha1, v1beta1). */
import { type KubeObject, resource } from "./meta.ts";

export interface ClusterProperty extends KubeObject {
  spec: { value: string };
}

export const clusterProperties = resource<ClusterProperty>(
  "about.k8s.io",
  "v1beta1",
  "ClusterProperty",
  "clusterproperties",
  "Cluster",
);
