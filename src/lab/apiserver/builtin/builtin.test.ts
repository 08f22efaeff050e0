import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { errorText } from "../schema/index.ts";
import {
  canonicalQuantity,
  defaultBuiltin,
  normalizeBuiltin,
  parseQuantity,
  validateBuiltin,
} from "./index.ts";

// biome-ignore lint/suspicious/noExplicitAny: tests reach into objects of many kinds
type Any = any;

const pod = (spec: object = {}): Any => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: "p" },
  spec: { containers: [{ name: "a", image: "nginx:1.27" }], ...spec },
});

const workload = (apiVersion: string, kind: string, spec: object = {}, podSpec: object = {}): Any => ({
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
const deployment = (spec: object = {}, podSpec: object = {}) =>
  workload("apps/v1", "Deployment", spec, podSpec);

const service = (spec: object = {}): Any => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: "s" },
  spec: { ports: [{ port: 80 }], clusterIP: "10.11.0.7", clusterIPs: ["10.11.0.7"], ...spec },
});

function defaulted<T extends object>(object: T): T {
  defaultBuiltin(object);
  return object;
}

/** What the Status of an invalid object would say; empty when nothing is wrong. */
function wrong(object: object, old?: object): string {
  const errors = validateBuiltin(defaulted(object), old && defaulted(old));
  return errors.length === 0 ? "" : errorText(errors);
}

describe("defaults", () => {
  test("of a Deployment are Kubernetes' own", () => {
    const { spec } = defaulted(deployment());
    assert.equal(spec.replicas, 1);
    assert.deepEqual(spec.strategy, {
      type: "RollingUpdate",
      rollingUpdate: { maxUnavailable: "25%", maxSurge: "25%" },
    });
    assert.equal(spec.revisionHistoryLimit, 10);
    assert.equal(spec.progressDeadlineSeconds, 600);
    const template = spec.template.spec;
    assert.equal(template.restartPolicy, "Always");
    assert.equal(template.dnsPolicy, "ClusterFirst");
    assert.equal(template.terminationGracePeriodSeconds, 30);
    assert.deepEqual(template.securityContext, {});
    assert.equal(template.schedulerName, "default-scheduler");
    assert.equal(template.enableServiceLinks, undefined, "that one is for pods alone");
    assert.deepEqual(template.containers[0], {
      name: "a",
      image: "nginx",
      resources: {},
      terminationMessagePath: "/dev/termination-log",
      terminationMessagePolicy: "File",
      imagePullPolicy: "Always",
    });
  });

  test("pull an image always when its tag is latest, and when it has none", () => {
    const policies: [string, string][] = [
      ["nginx", "Always"],
      ["nginx:latest", "Always"],
      ["nginx:1.27", "IfNotPresent"],
      ["localhost:5000/nginx", "Always"],
      ["localhost:5000/nginx:1", "IfNotPresent"],
      ["nginx@sha256:0123", "IfNotPresent"],
    ];
    for (const [image, policy] of policies) {
      assert.equal(
        defaulted(pod({ containers: [{ name: "a", image }] })).spec.containers[0].imagePullPolicy,
        policy,
        image,
      );
    }
  });

  test("of probes, ports and volumes", () => {
    const { spec } = defaulted(
      pod({
        hostNetwork: true,
        containers: [
          {
            name: "a",
            image: "i:1",
            ports: [{ containerPort: 80 }],
            livenessProbe: { httpGet: { port: 80 } },
            resources: { limits: { cpu: "1" } },
          },
        ],
        volumes: [
          { name: "e" },
          { name: "c", configMap: { name: "x" } },
          { name: "h", hostPath: { path: "/x" } },
        ],
      }),
    );
    assert.deepEqual(spec.containers[0].ports, [{ containerPort: 80, protocol: "TCP", hostPort: 80 }]);
    assert.deepEqual(spec.containers[0].livenessProbe, {
      httpGet: { port: 80, path: "/", scheme: "HTTP" },
      timeoutSeconds: 1,
      periodSeconds: 10,
      successThreshold: 1,
      failureThreshold: 3,
    });
    assert.deepEqual(spec.containers[0].resources, { limits: { cpu: "1" }, requests: { cpu: "1" } });
    assert.deepEqual(spec.volumes, [
      { name: "e", emptyDir: {} },
      { name: "c", configMap: { name: "x", defaultMode: 420 } },
      { name: "h", hostPath: { path: "/x", type: "" } },
    ]);
    assert.equal(spec.enableServiceLinks, true);
  });

  test("of a Service", () => {
    const { spec, status } = defaulted(service());
    assert.deepEqual(spec.ports, [{ port: 80, protocol: "TCP", targetPort: 80 }]);
    assert.equal(spec.type, "ClusterIP");
    assert.equal(spec.sessionAffinity, "None");
    assert.equal(spec.internalTrafficPolicy, "Cluster");
    assert.deepEqual(status, { loadBalancer: {} });
    const sticky = defaulted(service({ sessionAffinity: "ClientIP", type: "NodePort" })).spec;
    assert.deepEqual(sticky.sessionAffinityConfig, { clientIP: { timeoutSeconds: 10800 } });
    assert.equal(sticky.externalTrafficPolicy, "Cluster");
  });

  test("turn a Secret's text into data", () => {
    const secret: Any = defaulted({
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: "s" },
      data: { a: "eA==", b: "eQ==" },
      stringData: { b: "ü" },
    });
    assert.deepEqual(secret.data, { a: "eA==", b: "w7w=" });
    assert.equal(secret.stringData, undefined);
    assert.equal(secret.type, "Opaque");
  });

  test("of the other workloads", () => {
    const set = defaulted(workload("apps/v1", "StatefulSet")).spec;
    assert.equal(set.podManagementPolicy, "OrderedReady");
    assert.deepEqual(set.updateStrategy, { type: "RollingUpdate", rollingUpdate: { partition: 0 } });
    assert.deepEqual(set.persistentVolumeClaimRetentionPolicy, {
      whenDeleted: "Retain",
      whenScaled: "Retain",
    });
    const daemons = defaulted(workload("apps/v1", "DaemonSet")).spec;
    assert.deepEqual(daemons.updateStrategy, {
      type: "RollingUpdate",
      rollingUpdate: { maxUnavailable: 1, maxSurge: 0 },
    });
    const job = defaulted(workload("batch/v1", "Job"));
    assert.deepEqual(
      [job.spec.completions, job.spec.parallelism, job.spec.backoffLimit, job.spec.completionMode],
      [1, 1, 6, "NonIndexed"],
    );
    assert.deepEqual(job.metadata.labels, { app: "w" });
  });

  test("of definitions, bindings and slices", () => {
    const crd: Any = defaulted({
      apiVersion: "apiextensions.k8s.io/v1",
      kind: "CustomResourceDefinition",
      metadata: { name: "things.example.com" },
      spec: {
        group: "example.com",
        names: { plural: "things", kind: "Thing" },
        scope: "Namespaced",
        versions: [{ name: "v1", served: true, storage: true }],
      },
    });
    assert.equal(crd.spec.names.singular, "thing");
    assert.equal(crd.spec.names.listKind, "ThingList");
    assert.deepEqual(crd.spec.conversion, { strategy: "None" });
    assert.deepEqual(crd.status.storedVersions, ["v1"]);
    const slice: Any = defaulted({
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: {},
      addressType: "IPv4",
      ports: [{ port: 1 }],
    });
    assert.deepEqual(slice.ports, [{ port: 1, name: "", protocol: "TCP" }]);
  });

  test("twice are the defaults once, and touch nothing that is so already", () => {
    for (const make of [pod, deployment, service, () => workload("batch/v1", "Job")]) {
      const once = defaulted(make());
      const frozen = freeze(structuredClone(once));
      assert.doesNotThrow(() => defaultBuiltin(frozen as object));
      assert.deepEqual(frozen, once);
    }
  });

  test("do not stumble over garbage, and validation refuses it", () => {
    const kinds: [string, string][] = [
      ["v1", "Pod"],
      ["v1", "Service"],
      ["v1", "Secret"],
      ["v1", "ConfigMap"],
      ["v1", "Namespace"],
      ["v1", "Node"],
      ["v1", "Endpoints"],
      ["apps/v1", "Deployment"],
      ["apps/v1", "StatefulSet"],
      ["apps/v1", "DaemonSet"],
      ["batch/v1", "Job"],
      ["batch/v1", "CronJob"],
      ["discovery.k8s.io/v1", "EndpointSlice"],
      ["rbac.authorization.k8s.io/v1", "RoleBinding"],
      ["apiextensions.k8s.io/v1", "CustomResourceDefinition"],
      ["admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"],
    ];
    const json = fc.jsonValue({ maxDepth: 3 });
    const names = fc.constantFrom(
      "spec",
      "status",
      "data",
      "metadata",
      "template",
      "containers",
      "ports",
      "webhooks",
      "rules",
      "roleRef",
    );
    const garbage = fc.dictionary(names, fc.oneof(json, fc.dictionary(names, json)), {
      noNullPrototype: true,
    });
    fc.assert(
      fc.property(fc.constantFrom(...kinds), garbage, ([apiVersion, kind], rest) => {
        const object = { ...structuredClone(rest), apiVersion, kind };
        defaultBuiltin(object);
        validateBuiltin(object);
        validateBuiltin(object, { apiVersion, kind });
      }),
      { numRuns: 300 },
    );
    assert.match(
      wrong(deployment({ replicas: "3" })),
      /^spec\.replicas: Invalid value: json: cannot unmarshal string into Go struct field DeploymentSpec\.spec\.replicas of type int32$/,
    );
  });
});

function freeze(value: unknown): unknown {
  if (typeof value === "object" && value !== null) {
    for (const member of Object.values(value)) freeze(member);
    Object.freeze(value);
  }
  return value;
}

describe("objects as Go writes them", () => {
  test("have no nulls and no empty optional fields", () => {
    const object: Any = pod({
      nodeSelector: {},
      hostNetwork: false,
      volumes: null,
      activeDeadlineSeconds: null,
    });
    object.metadata = { name: "p", creationTimestamp: null, labels: {}, annotations: { a: "" } };
    assert.equal(normalizeBuiltin(object), undefined);
    assert.deepEqual(object.metadata, { name: "p", annotations: { a: "" } });
    assert.deepEqual(Object.keys(object.spec), ["containers"]);
  });

  test("keep a zero behind a pointer", () => {
    const object = deployment({ replicas: 0, paused: false });
    normalizeBuiltin(object);
    assert.equal(object.spec.replicas, 0);
    assert.equal("paused" in object.spec, false);
  });

  test("have one spelling for quantities and times", () => {
    const object: Any = pod({
      containers: [{ name: "a", image: "i", resources: { limits: { cpu: 0.5, memory: "1024Mi" } } }],
    });
    object.metadata.creationTimestamp = "2026-01-01T02:00:00.5+02:00";
    normalizeBuiltin(object);
    assert.deepEqual(object.spec.containers[0].resources.limits, { cpu: "500m", memory: "1Gi" });
    assert.equal(object.metadata.creationTimestamp, "2026-01-01T00:00:00Z");
  });

  test("of a wrong type are refused in encoding/json's words", () => {
    const problems: [object, string][] = [
      [
        deployment({ replicas: "3" }),
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
      ],
      [
        deployment({}, { containers: {} }),
        "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
      ],
      [
        deployment({}, { containers: [{ name: "a", env: [{ name: "x", value: 1 }] }] }),
        "json: cannot unmarshal number into Go struct field EnvVar.spec.template.spec.containers.env.value of type string",
      ],
      [
        pod({ containers: [{ name: "a", resources: { limits: { cpu: "lots" } } }] }),
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
      ],
      [{ apiVersion: "v1", kind: "Secret", data: { a: "*" } }, "illegal base64 data at input byte 0"],
      [
        { apiVersion: "v1", kind: "ConfigMap", data: { a: 1 } },
        "json: cannot unmarshal number into Go struct field ConfigMap.data of type string",
      ],
    ];
    for (const [object, message] of problems) assert.equal(normalizeBuiltin(object)?.message, message);
  });

  test("of custom kinds are left alone", () => {
    const object = { apiVersion: "example.com/v1", kind: "Pod", spec: null };
    assert.equal(normalizeBuiltin(object), undefined);
    assert.equal(object.spec, null);
  });
});

describe("quantities", () => {
  const cases: [string, string][] = [
    ["0", "0"],
    ["0.5", "500m"],
    ["1000m", "1"],
    ["1500m", "1500m"],
    ["1024Mi", "1Gi"],
    ["1.5Gi", "1536Mi"],
    ["1000Ki", "1000Ki"],
    ["1000M", "1G"],
    ["100Mi", "100Mi"],
    ["1e3", "1e3"],
    ["12e6", "12e6"],
    ["-1", "-1"],
    ["0.1", "100m"],
    ["1n", "1n"],
    ["0.0000000001", "1n"],
    ["512", "512"],
  ];
  for (const [text, canonical] of cases)
    test(`${text} is ${canonical}`, () => assert.equal(canonicalQuantity(text), canonical));

  test("that are none are undefined", () => {
    for (const text of ["", "x", "1 Gi", "1gi", "--1", "1.2.3", "."])
      assert.equal(parseQuantity(text), undefined, text);
  });

  test("in their one spelling are the same amount, and stay as they are", () => {
    const suffix = fc.constantFrom("", "n", "u", "m", "k", "M", "G", "Ki", "Mi", "Gi", "e3");
    fc.assert(
      fc.property(fc.integer({ min: -100000, max: 100000 }), suffix, (amount, unit) => {
        const written = canonicalQuantity(`${amount}${unit}`)!;
        assert.equal(parseQuantity(written)!.nano, parseQuantity(`${amount}${unit}`)!.nano);
        assert.equal(canonicalQuantity(written), written);
      }),
    );
  });
});

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
