/** Objects that several scenarios use. */

export const maps = "/api/v1/namespaces/{ns}/configmaps";
export const services = "/api/v1/namespaces/{ns}/services";
export const secrets = "/api/v1/namespaces/{ns}/secrets";
export const pods = "/api/v1/namespaces/{ns}/pods";
export const deployments = "/apis/apps/v1/namespaces/{ns}/deployments";
export const leases = "/apis/coordination.k8s.io/v1/namespaces/{ns}/leases";

export const configMap = (name: string, data: object = {}, metadata: object = {}) => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name, ...metadata },
  data,
});

export const deployment = (name: string, spec: object = {}, container: object = {}) => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name },
  spec: {
    selector: { matchLabels: { app: name } },
    template: {
      metadata: { labels: { app: name } },
      spec: { containers: [{ name: "c", image: "example.com/c:1", ...container }] },
    },
    ...spec,
  },
});

export const service = (name: string, spec: object = {}) => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name },
  spec: { ports: [{ port: 80 }], selector: { app: name }, ...spec },
});
