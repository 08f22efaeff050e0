/** The routing model as Envoy's resources, each encoded once, and the server that hands them out (delta ADS). */
export * from "./encode/index.ts";
