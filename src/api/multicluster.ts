/**
 * multicluster.x-k8s.io: the Multi-Cluster Services API (KEP-1645; types of mcs-api v0.5.2).
 */
import type * as core from "kubernetes-types/core/v1";
import { type Condition, type KubeObject, resource } from "./meta.ts";

export interface ServiceExport extends KubeObject {
  spec?: {
    exportedLabels?: Record<string, string>;
    exportedAnnotations?: Record<string, string>;
  };
  status?: { conditions?: Condition[] };
}

export interface ServiceImportPort {
  name?: string;
  protocol?: "TCP" | "UDP" | "SCTP";
  appProtocol?: string;
  port: number;
}

export type ServiceImportType = "ClusterSetIP" | "Headless";

export interface ServiceImportSpec {
  ports: ServiceImportPort[];
  /** At most two, one per IP family. */
  ips?: string[];
  ipFamilies?: string[];
  type: ServiceImportType;
  sessionAffinity?: "None" | "ClientIP";
  sessionAffinityConfig?: core.SessionAffinityConfig;
  internalTrafficPolicy?: string;
  trafficDistribution?: string;
}

export interface ServiceImport extends KubeObject {
  spec: ServiceImportSpec;
  status?: {
    clusters?: { cluster: string }[];
    conditions?: Condition[];
    /** Whether EndpointSlices stand behind the import (KEP-1645 since 2026-05-26). */
    endpointSliceObjects?: "Present" | "Absent";
  };
}

export const serviceExports = resource<ServiceExport>(
  "multicluster.x-k8s.io",
  "v1beta1",
  "ServiceExport",
  "serviceexports",
);
export const serviceImports = resource<ServiceImport>(
  "multicluster.x-k8s.io",
  "v1beta1",
  "ServiceImport",
  "serviceimports",
);
