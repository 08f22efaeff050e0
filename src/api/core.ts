/** Kubernetes' own kinds that Weft reads or writes, with their published types. */
import type * as admission from "kubernetes-types/admissionregistration/v1";
import type * as crd from "kubernetes-types/apiextensions/v1";
import type * as apps from "kubernetes-types/apps/v1";
import type * as batch from "kubernetes-types/batch/v1";
import type * as coordination from "kubernetes-types/coordination/v1";
import type * as core from "kubernetes-types/core/v1";
import type * as discovery from "kubernetes-types/discovery/v1";
import type * as rbac from "kubernetes-types/rbac/v1";
import { resource, type Stored } from "./meta.ts";

export type Namespace = Stored<core.Namespace>;
export type Node = Stored<core.Node>;
export type Pod = Stored<core.Pod> & { spec: core.PodSpec };
export type PodTemplateSpec = core.PodTemplateSpec;
export type Container = core.Container;
export type Probe = core.Probe;
export type Volume = core.Volume;
export type Service = Stored<core.Service>;
export type ServicePort = core.ServicePort;
export type Endpoints = Stored<core.Endpoints>;
export type ConfigMap = Stored<core.ConfigMap>;
export type Secret = Stored<core.Secret>;
export type ServiceAccount = Stored<core.ServiceAccount>;
export type Event = Stored<core.Event>;
export type EndpointSlice = Stored<discovery.EndpointSlice>;
export type Endpoint = discovery.Endpoint;
export type EndpointPort = discovery.EndpointPort;
export type Deployment = Stored<apps.Deployment>;
export type ReplicaSet = Stored<apps.ReplicaSet>;
export type StatefulSet = Stored<apps.StatefulSet>;
export type DaemonSet = Stored<apps.DaemonSet>;
export type ControllerRevision = Stored<apps.ControllerRevision>;
export type Job = Stored<batch.Job>;
export type Lease = Stored<coordination.Lease>;
export type Role = Stored<rbac.Role>;
export type RoleBinding = Stored<rbac.RoleBinding>;
export type ClusterRole = Stored<rbac.ClusterRole>;
export type ClusterRoleBinding = Stored<rbac.ClusterRoleBinding>;
export type PolicyRule = rbac.PolicyRule;
export type CustomResourceDefinition = Stored<crd.CustomResourceDefinition>;
/** The published types leave the extensions out. */
export type JSONSchemaProps = crd.JSONSchemaProps & SchemaExtensions;
export interface SchemaExtensions {
  "x-kubernetes-embedded-resource"?: boolean;
  "x-kubernetes-int-or-string"?: boolean;
  "x-kubernetes-list-map-keys"?: string[];
  "x-kubernetes-list-type"?: "atomic" | "set" | "map";
  "x-kubernetes-map-type"?: "atomic" | "granular";
  "x-kubernetes-preserve-unknown-fields"?: boolean;
  "x-kubernetes-validations"?: crd.ValidationRule[];
}
export type MutatingWebhookConfiguration = Stored<admission.MutatingWebhookConfiguration>;

export const namespaces = resource<Namespace>("", "v1", "Namespace", "namespaces", "Cluster");
export const nodes = resource<Node>("", "v1", "Node", "nodes", "Cluster");
export const pods = resource<Pod>("", "v1", "Pod", "pods");
export const services = resource<Service>("", "v1", "Service", "services");
export const endpoints = resource<Endpoints>("", "v1", "Endpoints", "endpoints");
export const configMaps = resource<ConfigMap>("", "v1", "ConfigMap", "configmaps");
export const secrets = resource<Secret>("", "v1", "Secret", "secrets");
export const serviceAccounts = resource<ServiceAccount>("", "v1", "ServiceAccount", "serviceaccounts");
export const events = resource<Event>("", "v1", "Event", "events");
export const endpointSlices = resource<EndpointSlice>(
  "discovery.k8s.io",
  "v1",
  "EndpointSlice",
  "endpointslices",
);
export const deployments = resource<Deployment>("apps", "v1", "Deployment", "deployments");
export const replicaSets = resource<ReplicaSet>("apps", "v1", "ReplicaSet", "replicasets");
export const statefulSets = resource<StatefulSet>("apps", "v1", "StatefulSet", "statefulsets");
export const daemonSets = resource<DaemonSet>("apps", "v1", "DaemonSet", "daemonsets");
export const controllerRevisions = resource<ControllerRevision>(
  "apps",
  "v1",
  "ControllerRevision",
  "controllerrevisions",
);
export const jobs = resource<Job>("batch", "v1", "Job", "jobs");
export const leases = resource<Lease>("coordination.k8s.io", "v1", "Lease", "leases");
export const roles = resource<Role>("rbac.authorization.k8s.io", "v1", "Role", "roles");
export const roleBindings = resource<RoleBinding>(
  "rbac.authorization.k8s.io",
  "v1",
  "RoleBinding",
  "rolebindings",
);
export const clusterRoles = resource<ClusterRole>(
  "rbac.authorization.k8s.io",
  "v1",
  "ClusterRole",
  "clusterroles",
  "Cluster",
);
export const clusterRoleBindings = resource<ClusterRoleBinding>(
  "rbac.authorization.k8s.io",
  "v1",
  "ClusterRoleBinding",
  "clusterrolebindings",
  "Cluster",
);
export const customResourceDefinitions = resource<CustomResourceDefinition>(
  "apiextensions.k8s.io",
  "v1",
  "CustomResourceDefinition",
  "customresourcedefinitions",
  "Cluster",
);
export const mutatingWebhookConfigurations = resource<MutatingWebhookConfiguration>(
  "admissionregistration.k8s.io",
  "v1",
  "MutatingWebhookConfiguration",
  "mutatingwebhookconfigurations",
  "Cluster",
);
