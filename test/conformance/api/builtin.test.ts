/** Defaults and rules of the built-in kinds that a lab serves. */
import { deployment, deployments, pods, secrets, service, services } from "./objects.ts";
import { type Api, type Scenario, suite } from "./suite.ts";

const apps = "/apis/apps/v1/namespaces/{ns}";
const jobs = "/apis/batch/v1/namespaces/{ns}/jobs";
const slices = "/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices";
const leases = "/apis/coordination.k8s.io/v1/namespaces/{ns}/leases";
const networking = "/apis/networking.k8s.io/v1";
const template = (spec: object = {}, labels: object = { app: "a" }) => ({
  metadata: { labels },
  spec: { containers: [{ name: "c", image: "example.com/c:1" }], ...spec },
});
const workload = (name: string, spec: object = {}) => ({
  metadata: { name },
  spec: { selector: { matchLabels: { app: "a" } }, template: template(), ...spec },
});

async function withAccount(api: Api): Promise<void> {
  await api.ask("POST", "/api/v1/namespaces/{ns}/serviceaccounts", { metadata: { name: "default" } });
}

const pod = (name: string, spec: object = {}, container: object = {}) => ({
  metadata: { name },
  spec: {
    containers: [{ name: "c", image: "i", ...container }],
    automountServiceAccountToken: false,
    ...spec,
  },
});

const scenarios: Scenario[] = [
  [
    "workloads get their defaults",
    async (api) => {
      await api.post(deployments, deployment("d"));
      await api.post(`${apps}/replicasets`, workload("r"));
      await api.post(`${apps}/statefulsets`, workload("s", { serviceName: "s" }));
      await api.post(`${apps}/daemonsets`, workload("d"));
      await api.post(jobs, {
        metadata: { name: "j" },
        spec: { template: template({ restartPolicy: "Never" }) },
      });
      await api.post(`${apps}/controllerrevisions`, { metadata: { name: "c" }, revision: 1 });
    },
  ],
  [
    "workloads that cannot be are told why",
    async (api) => {
      for (const kind of ["deployments", "replicasets", "statefulsets", "daemonsets"]) {
        const post = (spec: object) => api.post(`${apps}/${kind}`, { metadata: { name: "x" }, spec });
        await post({});
        await post({ template: template() });
        await post({ selector: { matchLabels: { app: "a" } } });
        await post({ selector: { matchLabels: { app: "b" } }, template: template() });
        await post({ selector: {}, template: template() });
        await post({
          selector: { matchLabels: { app: "a" } },
          replicas: -1,
          minReadySeconds: -1,
          template: template({ restartPolicy: "Never" }),
        });
      }
      await api.post(deployments, deployment("d", { strategy: { type: "Recreate", rollingUpdate: {} } }));
      await api.post(deployments, deployment("d", { strategy: { type: "Odd" } }));
      await api.post(
        deployments,
        deployment("d", { strategy: { rollingUpdate: { maxSurge: 0, maxUnavailable: 0 } } }),
      );
      await api.post(deployments, deployment("d", { strategy: { rollingUpdate: { maxSurge: "150x" } } }));
      await api.post(deployments, deployment("d", { progressDeadlineSeconds: 5, minReadySeconds: 9 }));
      await api.post(deployments, deployment("d"));
      await api.patch(`${deployments}/d`, { spec: { selector: { matchLabels: { app: "other" } } } });
      await api.post(jobs, { metadata: { name: "j" }, spec: { template: template() } });
      await api.post(jobs, {
        metadata: { name: "j" },
        spec: {
          parallelism: -1,
          completions: -1,
          backoffLimit: -1,
          template: template({ restartPolicy: "Never" }),
        },
      });
    },
  ],
  [
    "Services get defaults and addresses",
    async (api) => {
      await api.post(services, service("plain"));
      await api.post(services, service("headless", { clusterIP: "None" }));
      await api.post(services, service("node", { type: "NodePort" }));
      await api.post(services, service("balanced", { type: "LoadBalancer" }));
      await api.post(services, {
        metadata: { name: "external" },
        spec: { type: "ExternalName", externalName: "example.com" },
      });
      await api.post(services, service("sticky", { sessionAffinity: "ClientIP" }));
      await api.patch(`${services}/plain`, { spec: { type: "NodePort" } });
      await api.patch(`${services}/plain`, { spec: { type: "ClusterIP" } });
      await api.put(`${services}/plain`, service("plain", { ports: [{ port: 81 }] }));
      await api.patch(`${services}/plain`, { spec: { type: "ExternalName", externalName: "example.com" } });
    },
  ],
  [
    "Services that cannot be are told why",
    async (api) => {
      const refused = (spec: object) => api.post(services, service("x", spec));
      await refused({ ports: [] });
      await refused({ ports: [{ port: 0 }] });
      await refused({ ports: [{ port: 80 }, { port: 81 }] });
      await refused({
        ports: [
          { name: "a", port: 80 },
          { name: "a", port: 81 },
        ],
      });
      await refused({
        ports: [
          { name: "a", port: 80 },
          { name: "b", port: 80 },
        ],
      });
      await refused({
        ports: [{ name: "Not A Name", port: 80, protocol: "ICMP", targetPort: "toolongforaportname" }],
      });
      await refused({ ports: [{ port: 80, targetPort: 70000 }] });
      await refused({ clusterIP: "10.1.2.3.4" });
      await refused({ clusterIP: "192.0.2.1" });
      await refused({ type: "Odd" });
      await refused({ type: "NodePort", ports: [{ port: 80, nodePort: 80 }] });
      await refused({ type: "ExternalName" });
      await refused({ type: "ExternalName", externalName: "-bad-" });
      await refused({ sessionAffinity: "Odd" });
      await refused({ externalIPs: ["127.0.0.1", "x"] });
      await refused({ externalTrafficPolicy: "Local" });
      await refused({ internalTrafficPolicy: "Odd" });
      await refused({ type: "NodePort", clusterIP: "None" });
      await refused({ selector: { "a b": "c" } });
      await refused({ ipFamilyPolicy: "Odd" });
      await refused({ ipFamilies: ["IPv7"] });
      await api.post(services, { metadata: { name: "1abc" }, spec: { ports: [{ port: 80 }] } });
      await api.post(services, service("y"));
      await api.patch(`${services}/y`, { spec: { clusterIP: "10.96.7.7" } });
      await api.patch(`${services}/y`, { spec: { clusterIP: null } });
      const { body } = await api.ask("GET", `${services}/y`);
      await api.post(services, service("z", { clusterIP: body.spec.clusterIP }));
    },
  ],
  [
    "pods get defaults",
    async (api) => {
      await withAccount(api);
      await api.post(pods, pod("plain"));
      await api.post(
        pods,
        pod(
          "probes",
          {},
          {
            image: "example.com/c:latest",
            ports: [{ containerPort: 80 }],
            readinessProbe: { httpGet: { port: 80 } },
            livenessProbe: { tcpSocket: { port: 80 } },
            lifecycle: { preStop: { exec: { command: ["x"] } } },
          },
        ),
      );
      await api.post(
        pods,
        pod("volumes", {
          volumes: [
            { name: "e" },
            { name: "s", secret: { secretName: "x" } },
            { name: "m", configMap: { name: "x" } },
            { name: "h", hostPath: { path: "/x" } },
            { name: "p", projected: { sources: [{ serviceAccountToken: { path: "t" } }] } },
            {
              name: "d",
              downwardAPI: { items: [{ path: "l", fieldRef: { fieldPath: "metadata.labels" } }] },
            },
          ],
        }),
      );
      await api.post(pods, pod("resources", {}, { resources: { limits: { cpu: "0.5", memory: "1024Mi" } } }));
      await api.post(pods, pod("network", { hostNetwork: true }, { ports: [{ containerPort: 80 }] }));
      await api.post(
        pods,
        pod("env", {}, { env: [{ name: "A", valueFrom: { fieldRef: { fieldPath: "metadata.name" } } }] }),
      );
    },
  ],
  [
    "pods that cannot be are told why",
    async (api) => {
      // What differs is shown in a form of Go's own.
      api.mask(/if it was previously negative\)[\s\S]*/, "if it was previously negative)…");
      await api.post(pods, pod("x"));
      await withAccount(api);
      const refused = (spec: object, container: object = {}) => api.post(pods, pod("x", spec, container));
      await refused({ containers: [] });
      await refused({}, { name: "" });
      await refused({}, { name: "Not A Name" });
      await refused({}, { image: "" });
      await refused({}, { imagePullPolicy: "Odd" });
      await refused({
        containers: [
          { name: "a", image: "i" },
          { name: "a", image: "i" },
        ],
      });
      await refused({ restartPolicy: "Odd", dnsPolicy: "Odd" });
      await refused({}, { ports: [{ containerPort: 0 }, { containerPort: 80, protocol: "X", name: "BAD" }] });
      await refused(
        {},
        {
          env: [
            { name: "" },
            { name: "A", value: "1", valueFrom: { fieldRef: { fieldPath: "metadata.name" } } },
            { name: "B", valueFrom: { fieldRef: { fieldPath: "spec.odd" } } },
          ],
        },
      );
      await refused(
        {},
        {
          volumeMounts: [
            { name: "none", mountPath: "/x" },
            { name: "", mountPath: "" },
          ],
        },
      );
      await refused({
        volumes: [
          { name: "v", emptyDir: {}, hostPath: { path: "/x" } },
          { name: "v", emptyDir: {} },
          { name: "w", configMap: {} },
        ],
      });
      await refused(
        {},
        { readinessProbe: {}, livenessProbe: { httpGet: { port: 80 }, successThreshold: 2 } },
      );
      await refused({}, { readinessProbe: { httpGet: { port: 0, scheme: "X" }, tcpSocket: { port: 1 } } });
      await refused({}, { resources: { limits: { cpu: "1" }, requests: { cpu: "2" } } });
      await refused({}, { resources: { limits: { cpu: "-1" } } });
      await refused({}, { resources: { limits: { cpu: "x" } } });
      await refused({ nodeSelector: { "a b": "c" }, hostname: "Not A Name" });
      await refused({ terminationGracePeriodSeconds: -1, activeDeadlineSeconds: -1 });
      await refused({ serviceAccountName: "none" });
      await refused({ priorityClassName: "none" });
      await api.ask("POST", pods, pod("y"));
      await api.patch(`${pods}/y`, { spec: { containers: [{ name: "c", image: "j" }] } });
      await api.patch(
        `${pods}/y`,
        { spec: { containers: [{ name: "c", image: "j", command: ["x"] }] } },
        "strategic",
      );
      await api.patch(`${pods}/y`, { spec: { nodeName: "n" } });
      await api.post(`${pods}/y/binding`, { target: { kind: "Node", name: "n" } });
      await api.post(`${pods}/y/binding`, { target: { kind: "Node", name: "m" } });
      await api.get(`${pods}/y`);
    },
  ],
  [
    "other kinds get defaults and are judged",
    async (api) => {
      await api.post(secrets, {
        metadata: { name: "s" },
        stringData: { a: "b" },
        data: { a: "eA==", c: "eQ==" },
      });
      await api.post(secrets, { metadata: { name: "t" }, type: "kubernetes.io/tls", data: {} });
      await api.patch(`${secrets}/s`, { type: "other" });
      await api.post(secrets, {
        metadata: { name: "d" },
        type: "kubernetes.io/dockerconfigjson",
        data: { ".dockerconfigjson": "eA==" },
      });
      await api.post(slices, {
        metadata: { name: "e" },
        addressType: "IPv4",
        endpoints: [{ addresses: ["10.0.0.1"], conditions: {} }],
        ports: [{ port: 80 }],
      });
      await api.post(slices, { metadata: { name: "f" }, addressType: "Odd", endpoints: [] });
      await api.post(slices, { metadata: { name: "f" }, endpoints: [] });
      await api.post(slices, {
        metadata: { name: "f" },
        addressType: "IPv4",
        endpoints: [{ addresses: [] }, { addresses: ["::1", "127.0.0.1", "x"] }],
        ports: [{ name: "BAD", protocol: "X", port: 0 }],
      });
      await api.patch(`${slices}/e`, { addressType: "IPv6" });
      await api.post(leases, {
        metadata: { name: "l" },
        spec: { leaseDurationSeconds: 0, leaseTransitions: -1 },
      });
      await api.post(leases, {
        metadata: { name: "l" },
        spec: { renewTime: "2020-01-01T00:00:00.123456789Z" },
      });
      await api.post(leases, { metadata: { name: "m" }, spec: { renewTime: "yesterday" } });
      await api.post(`${networking}/namespaces/{ns}/ingresses`, {
        metadata: { name: "i" },
        spec: {
          rules: [
            {
              host: "example.com",
              http: {
                paths: [
                  {
                    path: "/",
                    pathType: "Prefix",
                    backend: { service: { name: "s", port: { number: 80 } } },
                  },
                ],
              },
            },
          ],
        },
      });
      await api.post(`${networking}/namespaces/{ns}/networkpolicies`, {
        metadata: { name: "n" },
        spec: { podSelector: {}, ingress: [{ ports: [{ port: 80 }] }] },
      });
      await api.post("/api/v1/namespaces/{ns}/endpoints", {
        metadata: { name: "e" },
        subsets: [
          { addresses: [{ ip: "10.0.0.2" }, { ip: "10.0.0.1" }], ports: [{ port: 80 }] },
          { addresses: [{ ip: "10.0.0.3" }], ports: [{ port: 80 }] },
        ],
      });
      await api.post("/api/v1/namespaces/{ns}/endpoints", {
        metadata: { name: "f" },
        subsets: [{ addresses: [{ ip: "127.0.0.1" }, { ip: "x" }], ports: [{ port: 0 }, { port: 1 }] }],
      });
      await api.post("/api/v1/namespaces/{ns}/serviceaccounts", {
        metadata: { name: "a" },
        imagePullSecrets: [{ name: "x" }],
      });
      await api.post("/apis/scheduling.k8s.io/v1/priorityclasses", {
        metadata: { name: "{ns}-p" },
        value: 7,
      });
      await api.ask("DELETE", "/apis/scheduling.k8s.io/v1/priorityclasses/{ns}-p");
      await api.post("/apis/scheduling.k8s.io/v1/priorityclasses", {
        metadata: { name: "system-mine" },
        value: 7,
      });
      await api.post("/apis/policy/v1/namespaces/{ns}/poddisruptionbudgets", {
        metadata: { name: "p" },
        spec: { minAvailable: 1, maxUnavailable: 1, selector: {} },
      });
    },
  ],
];

suite("built-in kinds", import.meta.filename, scenarios);
