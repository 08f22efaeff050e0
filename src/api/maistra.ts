/**
 * maistra.io: how OpenShift Service Mesh makes meshes (maistra/istio-operator, maistra-2.6 `pkg/apis/maistra`). Of the
 * ServiceMeshControlPlane there are two forms, v1 (Helm values below `spec.istio`) and v2; one stored object may be
 * read as either, so its form is told by its fields, see `mesh/`.
 */
import type * as core from "kubernetes-types/core/v1";
import { type KubeObject, resource } from "./meta.ts";

export interface ServiceMeshControlPlane extends KubeObject {
  spec?: ControlPlaneSpecV1 & ControlPlaneSpecV2;
  status?: ControlPlaneStatus;
}

/** Free-form Helm values: what we read of them is checked where it is read. */
export type Values = { readonly [key: string]: unknown };

export interface ControlPlaneSpecV1 {
  version?: string;
  template?: string;
  profiles?: string[];
  networkType?: string;
  istio?: Values;
  threeScale?: Values;
}

export interface ControlPlaneSpecV2 {
  profiles?: string[];
  version?: string;
  mode?: "MultiTenant" | "ClusterWide";
  cluster?: Values & { name?: string; network?: string };
  general?: Values;
  policy?: Values & { type?: string };
  proxy?: Values & {
    logging?: Values;
    accessLogging?: { file?: { name?: string; format?: string; encoding?: string } };
    networking?: Values & {
      trafficControl?: Values & { outbound?: Values & { policy?: "ALLOW_ANY" | "REGISTRY_ONLY" } };
    };
    runtime?: Values & { container?: Values & { resources?: core.ResourceRequirements } };
    injection?: Values & { autoInject?: boolean };
    concurrency?: number;
  };
  security?: Values & {
    trust?: { domain?: string; additionalDomains?: string[] };
    controlPlane?: Values & { mtls?: boolean };
    dataPlane?: Values & { mtls?: boolean; automtls?: boolean };
  };
  telemetry?: Values & { type?: string };
  /** `sampling` in hundredths of a percent: 0 to 10000. */
  tracing?: Values & { type?: string; sampling?: number };
  gateways?: GatewaysSpec;
  runtime?: Values & { components?: Record<string, ComponentRuntimeSpec> };
  addons?: Values;
  extensionProviders?: Values[];
  meshConfig?: Values;
  techPreview?: Values;
}

export interface GatewaysSpec {
  /** false: none of them. */
  enabled?: boolean;
  ingress?: GatewayDeploymentSpec;
  egress?: GatewayDeploymentSpec;
  additionalIngress?: Record<string, GatewayDeploymentSpec>;
  additionalEgress?: Record<string, GatewayDeploymentSpec>;
  openshiftRoute?: { enabled?: boolean };
}

export interface GatewayDeploymentSpec extends Values {
  enabled?: boolean;
  namespace?: string;
  service?: Values & {
    type?: "ClusterIP" | "NodePort" | "LoadBalancer";
    ports?: core.ServicePort[];
    metadata?: { labels?: Record<string, string>; annotations?: Record<string, string> };
    loadBalancerIP?: string;
  };
  runtime?: ComponentRuntimeSpec;
}

export interface ComponentRuntimeSpec extends Values {
  deployment?: Values & { replicas?: number; autoScaling?: Values & { enabled?: boolean } };
  pod?: Values;
  container?: Values & { resources?: core.ResourceRequirements };
}

/** Maistra's conditions have no observedGeneration, and a reason of their own list. */
export interface MaistraCondition {
  type: string;
  status: "True" | "False" | "Unknown";
  reason?: string;
  message?: string;
  lastTransitionTime?: string;
}

export interface ControlPlaneStatus {
  /** `readyComponentCount: 3/3`. */
  annotations?: Record<string, string>;
  conditions?: MaistraCondition[];
  observedGeneration?: number;
  operatorVersion?: string;
  chartVersion?: string;
  readiness?: { components?: { ready?: string[]; pending?: string[]; unready?: string[] } };
  appliedSpec?: { profiles?: string[] };
}

/** Namespaces that are members of the mesh whose control plane is in the roll's namespace. Its name is `default`. */
export interface ServiceMeshMemberRoll extends KubeObject {
  spec?: {
    /** Names of namespaces, or `*`. */
    members?: string[] | null;
    memberSelectors?: { matchLabels?: Record<string, string>; matchExpressions?: LabelRequirement[] }[];
  };
  status?: {
    /** `configuredMemberCount: 1/1`. */
    annotations?: Record<string, string>;
    observedGeneration?: number;
    meshGeneration?: number;
    meshReconciledVersion?: string;
    members?: string[];
    configuredMembers?: string[];
    pendingMembers?: string[];
    terminatingMembers?: string[];
    conditions?: MaistraCondition[];
  };
}

interface LabelRequirement {
  key: string;
  operator: string;
  values?: string[];
}

/** A namespace's own wish to be a member. Its name is `default`. */
export interface ServiceMeshMember extends KubeObject {
  spec?: { controlPlaneRef?: { name?: string; namespace?: string } };
  status?: {
    /** `controlPlaneRef: namespace/name`. */
    annotations?: Record<string, string>;
    observedGeneration?: number;
    conditions?: MaistraCondition[];
  };
}

const group = "maistra.io";

export const serviceMeshControlPlanes = resource<ServiceMeshControlPlane>(
  group,
  "v2",
  "ServiceMeshControlPlane",
  "servicemeshcontrolplanes",
);
export const serviceMeshMemberRolls = resource<ServiceMeshMemberRoll>(
  group,
  "v1",
  "ServiceMeshMemberRoll",
  "servicemeshmemberrolls",
);
export const serviceMeshMembers = resource<ServiceMeshMember>(
  group,
  "v1",
  "ServiceMeshMember",
  "servicemeshmembers",
);
