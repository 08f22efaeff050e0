/** One cluster's API: credentials, a typed client, reflection of what is there, sinks for what should be. */
export * from "./client.ts";
export type { Conflict } from "./conflicts.ts";
export * from "./errors.ts";
export * from "./events.ts";
export * from "./field-sink.ts";
export * from "./https.ts";
export * from "./informer.ts";
export * from "./kubeconfig.ts";
export * from "./kubeconfig-write.ts";
export * from "./lease.ts";
export type { Mark } from "./mark.ts";
export * from "./object-sink.ts";
export { getFromPod, type PodAnswer } from "./port-forward.ts";
export * from "./reflector.ts";
export type { SinkOptions, SinkState } from "./sink.ts";
export * from "./source.ts";
export type * from "./transport.ts";
export { unreachableReason } from "./unreachable.ts";
