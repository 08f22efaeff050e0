/** The sidecar webhook: a pod becomes the same pod with a proxy and redirection. */
export * from "./container.ts";
export * from "./inject.ts";
export * from "./names.ts";
export { type Prober, probersVariable } from "./probes.ts";
export { InjectionRefused } from "./settings.ts";
export * from "./webhook.ts";
