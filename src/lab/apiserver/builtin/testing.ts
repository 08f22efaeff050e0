/** Objects of built-in kinds for tests, and what is said of them. */
import { errorText } from "../schema/index.ts";
import { defaultBuiltin, validateBuiltin } from "./index.ts";

// biome-ignore lint/suspicious/noExplicitAny: tests reach into objects of many kinds
export type Any = any;

/** A Pod of one container. */
export const pod = (spec: object = {}): Any => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: "p" },
  spec: { containers: [{ name: "a", image: "nginx:1.27" }], ...spec },
});

/** A workload of one container. */
export const workload = (apiVersion: string, kind: string, spec: object = {}, podSpec: object = {}): Any => ({
  apiVersion,
  kind,
  metadata: { name: "w" },
  spec: {
    selector: { matchLabels: { app: "w" } },
    template: {
      metadata: { labels: { app: "w" } },
      spec: { containers: [{ name: "a", image: "nginx" }], ...podSpec },
    },
    ...spec,
  },
});
export const deployment = (spec: object = {}, podSpec: object = {}) =>
  workload("apps/v1", "Deployment", spec, podSpec);

export const service = (spec: object = {}): Any => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: "s" },
  spec: { ports: [{ port: 80 }], clusterIP: "10.11.0.7", clusterIPs: ["10.11.0.7"], ...spec },
});

/** The object with its defaults, which are set in place. */
export function defaulted<T extends object>(object: T): T {
  defaultBuiltin(object);
  return object;
}

/** What the Status of an invalid object would say; empty when nothing is wrong. */
export function wrong(object: object, old?: object): string {
  const errors = validateBuiltin(defaulted(object), old && defaulted(old));
  return errors.length === 0 ? "" : errorText(errors);
}
