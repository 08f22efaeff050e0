/** One cluster's API: credentials, a typed client, reflection of what is there. */
export * from "./client.ts";
export * from "./errors.ts";
export * from "./https.ts";
export * from "./informer.ts";
export * from "./kubeconfig.ts";
export * from "./reflector.ts";
export type * from "./transport.ts";
