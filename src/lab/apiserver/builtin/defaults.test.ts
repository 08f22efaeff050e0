import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { defaultBuiltin, validateBuiltin } from "./index.ts";
import { type Any, defaulted, deployment, pod, service, workload, wrong } from "./testing.ts";

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
