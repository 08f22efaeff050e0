/**
 * multicluster.x-k8s.io, as mcs-api v0.5.2 defines it: fields, validation, list types, short names, columns.
 * Both versions have the same schema; v1beta1 is stored.
 */
import { ageColumn, atomicList, conditions, crd, int32, mapList, object, string, strings } from "./schema.ts";

const group = "multicluster.x-k8s.io";
const versions = ["v1alpha1", "v1beta1"];
const categories = ["multicluster"];

export const serviceExportDefinition = crd({
  group,
  versions,
  categories,
  kind: "ServiceExport",
  plural: "serviceexports",
  scope: "Namespaced",
  shortNames: ["svcex", "svcexport"],
  description:
    "Says that the Service of the same name and namespace can be used from every cluster of the set.",
  spec: object({
    exportedLabels: strings({ description: "Labels that the imports are given." }),
    exportedAnnotations: strings({ description: "Annotations that the imports are given." }),
  }),
  status: object({ conditions: conditions() }),
  columns: [ageColumn],
});

export const serviceImportDefinition = crd({
  group,
  versions,
  categories,
  kind: "ServiceImport",
  plural: "serviceimports",
  scope: "Namespaced",
  shortNames: ["svcim", "svcimport"],
  description: "A service that clusters of the set export together, as it is used from this cluster.",
  spec: object(
    {
      type: string({
        enum: ["ClusterSetIP", "Headless"],
        description:
          "ClusterSetIP: reached by the addresses in ips. Headless: reached by the names of its endpoints.",
      }),
      ports: atomicList(
        object(
          {
            name: string({ description: "Unique among the ports; may be empty when there is only one." }),
            protocol: string({ default: "TCP", description: "TCP, UDP or SCTP." }),
            appProtocol: string({ description: "The application protocol, as in a Service." }),
            port: int32({ description: "The port of the clusterset address." }),
          },
          { required: ["port"] },
        ),
      ),
      ips: atomicList(string(), {
        maxItems: 2,
        description: "The clusterset addresses, at most one per family; empty when the type is Headless.",
      }),
      ipFamilies: atomicList(string(), {
        maxItems: 2,
        description: "The families of the addresses, in the order of ips.",
      }),
      sessionAffinity: string({ description: "ClientIP or None; ignored when the type is Headless." }),
      sessionAffinityConfig: object({
        clientIP: object({ timeoutSeconds: int32({ description: "1 to 86400; 10800 when absent." }) }),
      }),
      internalTrafficPolicy: string({ description: "As in a Service." }),
      trafficDistribution: string({ description: "As in a Service." }),
    },
    { required: ["ports", "type"] },
  ),
  status: object({
    clusters: mapList(
      ["cluster"],
      object(
        { cluster: string({ description: "Id of a cluster that exports it." }) },
        { required: ["cluster"] },
      ),
    ),
    conditions: conditions(),
    endpointSliceObjects: string({
      enum: ["Present", "Absent"],
      description: "Whether EndpointSlices stand behind the import.",
    }),
  }),
  columns: [
    { name: "Type", type: "string", jsonPath: ".spec.type", description: "ClusterSetIP or Headless" },
    { name: "IP", type: "string", jsonPath: ".spec.ips", description: "The clusterset addresses" },
    ageColumn,
  ],
});
