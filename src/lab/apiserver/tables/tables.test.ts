import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { humanDuration } from "../../../api/index.ts";
import type { PrinterColumn } from "./index.ts";
import { ago, type Loose, row } from "./testing.ts";

describe("durations", () => {
  const second = 1000;
  const hour = 3600 * second;
  const day = 24 * hour;
  const cases: [number, string][] = [
    [-2 * second, "<invalid>"],
    [-1 * second, "0s"],
    [5 * second, "5s"],
    [92 * second, "92s"],
    [119.9 * second, "119s"],
    [120 * second, "2m"],
    [185 * second, "3m5s"],
    [1500 * second, "25m"],
    [179 * 60 * second, "179m"],
    [3 * hour, "3h"],
    [3 * hour + 20 * 60 * second, "3h20m"],
    [8 * hour + 20 * 60 * second, "8h"],
    [47 * hour, "47h"],
    [2 * day, "2d"],
    [2 * day + 3 * hour, "2d3h"],
    [8 * day + 3 * hour, "8d"],
    [729 * day, "729d"],
    [730 * day, "2y"],
    [760 * day, "2y30d"],
    [9 * 365 * day + 5 * day, "9y"],
  ];
  for (const [milliseconds, text] of cases) {
    test(`${milliseconds} ms reads ${text}`, () => assert.equal(humanDuration(milliseconds), text));
  }
});

describe("the last table of seed 001", () => {
  test("pod", () => {
    const pod = {
      metadata: { name: "serve-9b5b94f65-tb4cx" },
      spec: { nodeName: "c1-control-plane", containers: [{ name: "serve" }] },
      status: {
        phase: "Running",
        podIPs: [{ ip: "10.10.0.7" }],
        containerStatuses: [{ name: "serve", ready: true, restartCount: 0, state: { running: {} } }],
      },
    };
    assert.deepEqual(row("", "Pod", pod), {
      NAME: "serve-9b5b94f65-tb4cx",
      READY: "1/1",
      STATUS: "Running",
      RESTARTS: "0",
      AGE: "25m",
      IP: "10.10.0.7",
      NODE: "c1-control-plane",
      "NOMINATED NODE": "<none>",
      "READINESS GATES": "<none>",
    });
  });

  test("services", () => {
    const spec = { type: "ClusterIP", clusterIPs: ["10.11.35.216"], ports: [{ port: 80, protocol: "TCP" }] };
    const expected = {
      NAME: "serve",
      TYPE: "ClusterIP",
      "CLUSTER-IP": "10.11.35.216",
      "EXTERNAL-IP": "<none>",
      "PORT(S)": "80/TCP",
      AGE: "25m",
    };
    assert.deepEqual(row("", "Service", { spec }), { ...expected, SELECTOR: "<none>" });
    const selecting = { spec: { ...spec, selector: { app: "serve" } } };
    assert.deepEqual(row("", "Service", selecting), { ...expected, SELECTOR: "app=serve" });
  });

  test("endpoints and endpointslices", () => {
    const subsets = [{ addresses: [{ ip: "10.10.0.7" }], ports: [{ port: 8080 }] }];
    assert.deepEqual(row("", "Endpoints", { subsets }), {
      NAME: "serve",
      ENDPOINTS: "10.10.0.7:8080",
      AGE: "25m",
    });
    const slice = {
      metadata: { name: "imported-serve-jlj65" },
      addressType: "IPv4",
      ports: [{ port: 8080 }],
      endpoints: [{ addresses: ["10.12.0.7"] }],
    };
    assert.deepEqual(row("discovery.k8s.io", "EndpointSlice", slice), {
      NAME: "imported-serve-jlj65",
      ADDRESSTYPE: "IPv4",
      PORTS: "8080",
      ENDPOINTS: "10.12.0.7",
      AGE: "25m",
    });
  });

  test("serviceimports, by the columns of their CRD", () => {
    const columns: PrinterColumn[] = [
      { name: "Type", type: "string", jsonPath: ".spec.type" },
      { name: "IP", type: "string", jsonPath: ".spec.ips" },
      { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp" },
    ];
    const serviceImport = { spec: { type: "ClusterSetIP", ips: ["10.11.144.114"] } };
    assert.deepEqual(row("multicluster.x-k8s.io", "ServiceImport", serviceImport, columns), {
      NAME: "serve",
      TYPE: "ClusterSetIP",
      IP: '["10.11.144.114"]',
      AGE: "25m",
    });
  });
});

describe("services", () => {
  const service = (spec: Loose, status: Loose = {}) => row("", "Service", { spec, status });

  test("headless", () => assert.equal(service({ clusterIPs: ["None"] })["CLUSTER-IP"], "None"));
  test("node ports", () =>
    assert.equal(
      service({
        type: "NodePort",
        ports: [
          { port: 80, nodePort: 30080, protocol: "TCP" },
          { port: 53, protocol: "UDP" },
        ],
      })["PORT(S)"],
      "80:30080/TCP,53/UDP",
    ));
  test("a load balancer's address is pending until it is there", () => {
    const spec = { type: "LoadBalancer", clusterIPs: ["10.11.0.9"] };
    assert.equal(service(spec)["EXTERNAL-IP"], "<pending>");
    const status = { loadBalancer: { ingress: [{ ip: "1.1.1.1" }, { hostname: "lb.example" }] } };
    assert.equal(service(spec, status)["EXTERNAL-IP"], "1.1.1.1,lb.example");
  });
  test("an external name", () => {
    const shown = service({ type: "ExternalName", externalName: "example.org" });
    assert.equal(shown["EXTERNAL-IP"], "example.org");
    assert.equal(shown["CLUSTER-IP"], "<none>");
    assert.equal(shown["PORT(S)"], "<none>");
  });
});

describe("endpoints", () => {
  const addresses = (count: number) => Array.from({ length: count }, (_, i) => ({ ip: `10.10.0.${i + 1}` }));
  const shown = (subsets: Loose[]) => row("", "Endpoints", { subsets }).ENDPOINTS;

  test("none", () => assert.equal(shown([]), "<none>"));
  test("three are listed, more are counted", () => {
    assert.equal(
      shown([{ addresses: addresses(5), ports: [{ port: 80 }] }]),
      "10.10.0.1:80,10.10.0.2:80,10.10.0.3:80 + 2 more...",
    );
  });
  test("every port counts", () => {
    assert.equal(
      shown([{ addresses: addresses(2), ports: [{ port: 80 }, { port: 90 }] }]),
      "10.10.0.1:80,10.10.0.2:80,10.10.0.1:90 + 1 more...",
    );
  });
  test("without ports, and in IPv6", () => {
    assert.equal(shown([{ addresses: addresses(1) }]), "10.10.0.1");
    assert.equal(shown([{ addresses: [{ ip: "fd00::1" }], ports: [{ port: 80 }] }]), "[fd00::1]:80");
  });
  test("slices: unset, many, any port", () => {
    const slice = (object: Loose) =>
      row("discovery.k8s.io", "EndpointSlice", { addressType: "IPv4", ...object });
    const empty = slice({ ports: null, endpoints: null });
    assert.equal(empty.PORTS, "<unset>");
    assert.equal(empty.ENDPOINTS, "<unset>");
    const many = slice({
      ports: [{ name: "all" }, {}],
      endpoints: addresses(4).map(({ ip }) => ({ addresses: [ip] })),
    });
    assert.equal(many.PORTS, "all,*");
    assert.equal(many.ENDPOINTS, "10.10.0.1,10.10.0.2,10.10.0.3 + 1 more...");
  });
});

describe("workloads", () => {
  const template = {
    spec: {
      containers: [
        { name: "a", image: "x:1" },
        { name: "b", image: "y:2" },
      ],
    },
  };
  const selector = { matchLabels: { app: "serve" } };

  test("deployment", () => {
    const status = { readyReplicas: 1, updatedReplicas: 2, availableReplicas: 1 };
    assert.deepEqual(row("apps", "Deployment", { spec: { replicas: 3, selector, template }, status }), {
      NAME: "serve",
      READY: "1/3",
      "UP-TO-DATE": 2,
      AVAILABLE: 1,
      AGE: "25m",
      CONTAINERS: "a,b",
      IMAGES: "x:1,y:2",
      SELECTOR: "app=serve",
    });
  });

  test("replicaset, scaled to nothing", () => {
    const shown = row("apps", "ReplicaSet", { spec: { replicas: 0, selector, template } });
    assert.deepEqual([shown.DESIRED, shown.CURRENT, shown.READY], [0, 0, 0]);
  });

  test("selectors with expressions", () => {
    const expressions = {
      matchLabels: { b: "2", a: "1" },
      matchExpressions: [
        { key: "c", operator: "In", values: ["y", "x"] },
        { key: "d", operator: "DoesNotExist" },
      ],
    };
    const shown = row("apps", "ReplicaSet", { spec: { selector: expressions, template } });
    assert.equal(shown.SELECTOR, "a=1,b=2,c in (x,y),!d");
  });

  const jobs: [string, Loose, string, string, string][] = [
    [
      "running",
      { spec: { completions: 3 }, status: { startTime: ago(60), succeeded: 1 } },
      "Running",
      "1/3",
      "60s",
    ],
    [
      "complete",
      {
        spec: { completions: 1 },
        status: {
          startTime: ago(60),
          completionTime: ago(50),
          succeeded: 1,
          conditions: [{ type: "Complete", status: "True" }],
        },
      },
      "Complete",
      "1/1",
      "10s",
    ],
    [
      "failed",
      { spec: { completions: 1 }, status: { conditions: [{ type: "Failed", status: "True" }] } },
      "Failed",
      "0/1",
      "",
    ],
    [
      "suspended",
      { status: { conditions: [{ type: "Suspended", status: "True" }] } },
      "Suspended",
      "0/1",
      "",
    ],
    ["a work queue", { spec: { parallelism: 4 }, status: { succeeded: 2 } }, "Running", "2/1 of 4", ""],
  ];
  for (const [state, object, status, completions, duration] of jobs) {
    test(`job: ${state}`, () => {
      const shown = row("batch", "Job", { ...object, spec: { ...(object.spec as Loose), template } });
      assert.deepEqual([shown.STATUS, shown.COMPLETIONS, shown.DURATION], [status, completions, duration]);
    });
  }

  test("controller revisions name their owner", () => {
    const owner = { apiVersion: "apps/v1", kind: "StatefulSet", name: "db", controller: true };
    const shown = row("apps", "ControllerRevision", { metadata: { ownerReferences: [owner] }, revision: 2 });
    assert.equal(shown.CONTROLLER, "statefulset.apps/db");
    assert.equal(shown.REVISION, 2);
  });
});

describe("cluster objects", () => {
  test("nodes", () => {
    const node = {
      metadata: { labels: { "node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "edge" } },
      spec: { unschedulable: true },
      status: {
        conditions: [{ type: "Ready", status: "True" }],
        addresses: [{ type: "InternalIP", address: "172.18.0.2" }],
        nodeInfo: { kubeletVersion: "v1.36.3", kernelVersion: "6.1", architecture: "amd64", osImage: "Lab" },
      },
    };
    assert.deepEqual(row("", "Node", node), {
      NAME: "serve",
      STATUS: "Ready,SchedulingDisabled",
      ROLES: "control-plane,edge",
      AGE: "25m",
      VERSION: "v1.36.3",
      "INTERNAL-IP": "172.18.0.2",
      "EXTERNAL-IP": "<none>",
      "OS-IMAGE": "Lab",
      "KERNEL-VERSION": "6.1 (amd64)",
      "CONTAINER-RUNTIME": "<unknown>",
    });
    const silent = row("", "Node", { status: { conditions: [{ type: "Ready", status: "Unknown" }] } });
    assert.deepEqual([silent.STATUS, silent.ROLES], ["NotReady", "<none>"]);
    assert.equal(row("", "Node", {}).STATUS, "Unknown");
  });

  test("configmaps and secrets are counted", () => {
    assert.equal(row("", "ConfigMap", { data: { a: "", b: "" }, binaryData: { c: "" } }).DATA, 3);
    const secret = row("", "Secret", { type: "Opaque", data: { a: "" } });
    assert.deepEqual([secret.TYPE, secret.DATA], ["Opaque", 1]);
  });

  test("quotas, with limits apart", () => {
    const hard = { pods: "10", "limits.cpu": "2", "requests.cpu": "1" };
    const used = { pods: "3", "limits.cpu": "500m" };
    const quota = row("", "ResourceQuota", { status: { hard, used } });
    assert.equal(quota.REQUEST, "pods: 3/10, requests.cpu: 0/1");
    assert.equal(quota.LIMIT, "limits.cpu: 500m/2");
  });

  test("events, old and new", () => {
    const common = { type: "Normal", reason: "Started" };
    const old = row("", "Event", {
      ...common,
      involvedObject: { kind: "Pod", name: "x", fieldPath: "spec.containers{a}" },
      source: { component: "kubelet", host: "n1" },
      message: " ran\n",
      firstTimestamp: ago(100),
      lastTimestamp: ago(10),
      count: 4,
    });
    assert.deepEqual(
      [old["LAST SEEN"], old.OBJECT, old.SUBOBJECT, old.SOURCE, old.MESSAGE, old["FIRST SEEN"], old.COUNT],
      ["10s", "pod/x", "spec.containers{a}", "kubelet, n1", "ran", "100s", 4],
    );
    const recent = row("events.k8s.io", "Event", {
      ...common,
      regarding: { kind: "Pod", name: "x" },
      note: "ran",
      eventTime: "2026-11-20T11:59:30.000000Z",
      reportingController: "weft",
      deprecatedFirstTimestamp: null,
    });
    assert.deepEqual(
      [recent["LAST SEEN"], recent.OBJECT, recent.MESSAGE, recent.SOURCE, recent.COUNT],
      ["30s", "pod/x", "ran", "weft", 1],
    );
  });

  test("rbac", () => {
    assert.deepEqual(row("rbac.authorization.k8s.io", "ClusterRole", {}), {
      NAME: "serve",
      "CREATED AT": ago(1500),
    });
    const binding = row("rbac.authorization.k8s.io", "ClusterRoleBinding", {
      roleRef: { kind: "ClusterRole", name: "view" },
      subjects: [
        { kind: "User", name: "ada" },
        { kind: "ServiceAccount", name: "weft", namespace: "weft-system" },
      ],
    });
    assert.equal(binding.ROLE, "ClusterRole/view");
    assert.equal(binding.USERS, "ada");
    assert.equal(binding.SERVICEACCOUNTS, "weft-system/weft");
  });

  test("a kind that nobody knows has a name and an age", () => {
    assert.deepEqual(row("example.org", "Widget", {}), { NAME: "serve", AGE: "25m" });
  });
});
