import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { errorText } from "../schema/index.ts";
import { validateBuiltin } from "./index.ts";
import { defaulted, deployment, pod, service, workload, wrong } from "./testing.ts";

describe("validation", () => {
  const label =
    "(e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
  const container = (more: object) => pod({ containers: [{ name: "a", image: "i", ...more }] });
  const cases: [string, object, string][] = [
    ["a good pod", pod(), ""],
    ["a good Deployment", deployment(), ""],
    ["a good Service", service(), ""],
    [
      "negative replicas",
      deployment({ replicas: -1 }),
      "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
    ],
    [
      "no selector, which selects nothing",
      deployment({ selector: undefined }),
      '[spec.selector: Required value, spec.template.metadata.labels: Invalid value: {"app":"w"}: `selector` does not match template `labels`]',
    ],
    [
      "an empty selector",
      deployment({ selector: {} }),
      "spec.selector: Invalid value: {}: empty selector is invalid for deployment",
    ],
    [
      "a selector that misses the template",
      deployment({ selector: { matchLabels: { app: "x" } } }),
      'spec.template.metadata.labels: Invalid value: {"app":"w"}: `selector` does not match template `labels`',
    ],
    [
      "a Deployment that does not restart",
      deployment({}, { restartPolicy: "Never" }),
      'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"',
    ],
    [
      "a strategy that never moves",
      deployment({ strategy: { rollingUpdate: { maxSurge: 0, maxUnavailable: "0%" } } }),
      'spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "0%": may not be 0 when `maxSurge` is 0',
    ],
    ["a pod without containers", pod({ containers: [] }), "spec.containers: Required value"],
    ["a container without image", container({ image: "" }), "spec.containers[0].image: Required value"],
    [
      "a bad container name",
      container({ name: "A_b" }),
      `spec.containers[0].name: Invalid value: "A_b": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character ${label}`,
    ],
    [
      "two containers of one name",
      pod({
        containers: [
          { name: "a", image: "i" },
          { name: "a", image: "i" },
        ],
      }),
      'spec.containers[1].name: Duplicate value: "a"',
    ],
    [
      "a port out of range",
      container({ ports: [{ containerPort: 70000 }] }),
      "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
    ],
    [
      "an unknown protocol",
      container({ ports: [{ containerPort: 1, protocol: "ICMP" }] }),
      'spec.containers[0].ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"',
    ],
    [
      "a mount of no volume",
      container({ volumeMounts: [{ name: "v", mountPath: "/v" }] }),
      'spec.containers[0].volumeMounts[0].name: Not found: "v"',
    ],
    [
      "an unknown volume of a secret",
      pod({ volumes: [{ name: "v", secret: {} }] }),
      "spec.volumes[0].secret.secretName: Required value",
    ],
    [
      "two volumes in one",
      pod({ volumes: [{ name: "v", emptyDir: {}, hostPath: { path: "/" } }] }),
      "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
    ],
    [
      "an unknown pull policy",
      container({ imagePullPolicy: "Maybe" }),
      'spec.containers[0].imagePullPolicy: Unsupported value: "Maybe": supported values: "Always", "IfNotPresent", "Never"',
    ],
    [
      "a variable without source",
      container({ env: [{ name: "A", valueFrom: {} }] }),
      'spec.containers[0].env[0].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`',
    ],
    [
      "requests above limits",
      container({ resources: { requests: { cpu: "2" }, limits: { cpu: "1" } } }),
      'spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1',
    ],
    [
      "a probe without handler",
      container({ livenessProbe: {} }),
      "spec.containers[0].livenessProbe: Required value: must specify a handler type",
    ],
    [
      "a liveness probe that wants two successes",
      container({ livenessProbe: { exec: { command: ["x"] }, successThreshold: 2 } }),
      "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
    ],
    ["a Service without ports", service({ ports: [] }), "spec.ports: Required value"],
    [
      "unnamed ports of a Service",
      service({ ports: [{ port: 1 }, { port: 2 }] }),
      "[spec.ports[0].name: Required value, spec.ports[1].name: Required value]",
    ],
    [
      "an unknown type of Service",
      service({ type: "Magic" }),
      'spec.type: Unsupported value: "Magic": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"',
    ],
    [
      "an address that is none",
      service({ clusterIP: "x", clusterIPs: ["x"] }),
      'spec.clusterIPs[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)',
    ],
    [
      "a Job that always restarts",
      { ...workload("batch/v1", "Job", { manualSelector: true }) },
      'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"',
    ],
    [
      "a bad key of a ConfigMap",
      { apiVersion: "v1", kind: "ConfigMap", data: { "a/b": "" } },
      `data[a/b]: Invalid value: "a/b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')`,
    ],
    [
      "a TLS secret without a key",
      { apiVersion: "v1", kind: "Secret", type: "kubernetes.io/tls", data: { "tls.crt": "" } },
      "data[tls.key]: Required value",
    ],
    [
      "a slice without addresses",
      { apiVersion: "discovery.k8s.io/v1", kind: "EndpointSlice", addressType: "IPv4", endpoints: [{}] },
      "endpoints[0].addresses: Required value: must contain at least 1 address",
    ],
    [
      "a slice with a loopback address",
      {
        apiVersion: "discovery.k8s.io/v1",
        kind: "EndpointSlice",
        addressType: "IPv4",
        endpoints: [{ addresses: ["127.0.0.1"] }],
      },
      'endpoints[0].addresses[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)',
    ],
    [
      "a rule without verbs",
      {
        apiVersion: "rbac.authorization.k8s.io/v1",
        kind: "Role",
        rules: [{ apiGroups: [""], resources: ["pods"] }],
      },
      "rules[0].verbs: Required value: verbs must contain at least one value",
    ],
    [
      "a lease without a term",
      { apiVersion: "coordination.k8s.io/v1", kind: "Lease", spec: { leaseDurationSeconds: 0 } },
      "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
    ],
  ];
  for (const [name, object, text] of cases)
    test(name, () => assert.equal(wrong(structuredClone(object)), text));

  test("a definition's name is made of its plural and its group", () => {
    const crd = (name: string) => ({
      apiVersion: "apiextensions.k8s.io/v1",
      kind: "CustomResourceDefinition",
      metadata: { name },
      spec: {
        group: "example.com",
        scope: "Namespaced",
        names: { plural: "things", kind: "Thing" },
        versions: [
          { name: "v1", served: true, storage: true, schema: { openAPIV3Schema: { type: "object" } } },
        ],
      },
    });
    assert.equal(wrong(crd("things.example.com")), "");
    assert.equal(
      wrong(crd("thing.example.com")),
      'metadata.name: Invalid value: "thing.example.com": must be spec.names.plural+"."+spec.group',
    );
  });

  const updates: [string, object, object, string][] = [
    [
      "a Deployment's selector",
      deployment({ selector: { matchExpressions: [{ key: "app", operator: "Exists" }] } }),
      deployment(),
      'spec.selector: Invalid value: {"matchExpressions":[{"key":"app","operator":"Exists"}]}: field is immutable',
    ],
    [
      "a Service's address",
      service({ clusterIP: "10.11.0.8", clusterIPs: ["10.11.0.8"] }),
      service(),
      'spec.clusterIPs[0]: Invalid value: ["10.11.0.8"]: may not change once set',
    ],
    [
      "a slice's kind of addresses",
      { apiVersion: "discovery.k8s.io/v1", kind: "EndpointSlice", addressType: "IPv6" },
      { apiVersion: "discovery.k8s.io/v1", kind: "EndpointSlice", addressType: "IPv4" },
      'addressType: Invalid value: "IPv6": field is immutable',
    ],
    [
      "an immutable ConfigMap's data",
      { apiVersion: "v1", kind: "ConfigMap", immutable: true, data: { a: "2" } },
      { apiVersion: "v1", kind: "ConfigMap", immutable: true, data: { a: "1" } },
      "data: Forbidden: field is immutable when `immutable` is set",
    ],
    [
      "a Secret's type",
      { apiVersion: "v1", kind: "Secret", type: "x/y" },
      { apiVersion: "v1", kind: "Secret" },
      'type: Invalid value: "x/y": field is immutable',
    ],
    [
      "a StatefulSet's service",
      workload("apps/v1", "StatefulSet", { serviceName: "b" }),
      workload("apps/v1", "StatefulSet", { serviceName: "a" }),
      "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
    ],
    [
      "a binding's role",
      {
        apiVersion: "rbac.authorization.k8s.io/v1",
        kind: "RoleBinding",
        roleRef: { kind: "Role", name: "b" },
      },
      {
        apiVersion: "rbac.authorization.k8s.io/v1",
        kind: "RoleBinding",
        roleRef: { kind: "Role", name: "a" },
      },
      'roleRef: Invalid value: {"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"b"}: cannot change roleRef',
    ],
  ];
  for (const [name, next, old, text] of updates) {
    test(`${name} may not change`, () =>
      assert.equal(wrong(structuredClone(next), structuredClone(old)), text));
  }

  test("a pod may get another image, not another command", () => {
    assert.equal(
      wrong(pod({ containers: [{ name: "a", image: "nginx:2", imagePullPolicy: "IfNotPresent" }] }), pod()),
      "",
    );
    assert.match(
      wrong(pod({ containers: [{ name: "a", image: "nginx:1.27", command: ["x"] }] }), pod()),
      /^spec: Forbidden: pod updates may not change fields other than `spec\.containers\[\*\]\.image`,/,
    );
    assert.equal(
      wrong(pod({ containers: [] }), pod()),
      "[spec.containers: Required value, spec.containers: Forbidden: pod updates may not add or remove containers]",
    );
    assert.equal(wrong(pod({ tolerations: [{ operator: "Exists" }] }), pod()), "");
  });

  test("a StatefulSet's claims are volumes of its pods", () => {
    const mount = { volumeMounts: [{ name: "data", mountPath: "/data" }] };
    const claims = { volumeClaimTemplates: [{ metadata: { name: "data" }, spec: {} }] };
    assert.equal(
      wrong(
        workload("apps/v1", "StatefulSet", claims, { containers: [{ name: "a", image: "i", ...mount }] }),
      ),
      "",
    );
  });

  test("a status says nothing impossible", () => {
    const live = defaulted(deployment());
    const next = { ...live, status: { replicas: 1, readyReplicas: 2 } };
    assert.equal(
      errorText(validateBuiltin(next, live)),
      "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
    );
  });
});
