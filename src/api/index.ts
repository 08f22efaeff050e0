/** The words: kinds, their types and URLs, names of labels, the table of errors. */
export * from "./about.ts";
export * from "./access-log-format.ts";
export * from "./core.ts";
export * from "./crds/index.ts";
export * from "./duration.ts";
export * from "./errors.ts";
export * as gatewayApi from "./gateway-api.ts";
export * from "./istio.ts";
export * from "./maistra.ts";
export * from "./mesh-settings.ts";
export * from "./meta.ts";
export * from "./multicluster.ts";
export * from "./names.ts";
export * from "./offer.ts";
export * from "./offered-workloads.ts";
export * from "./re2.ts";
export * from "./security.ts";
export * from "./weft-mesh.ts";
