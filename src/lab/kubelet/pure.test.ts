import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { Container, Pod, Service } from "../../api/index.ts";
import { SimulatedWorld } from "../../world/index.ts";
import { defaultCluster } from "../spec.ts";
import { Backoff } from "./backoff.ts";
import { capabilitiesOf } from "./container-config.ts";
import { ConfigError, expand, makeEnvironment, serviceVariables } from "./env.ts";
import { hostnameOf, hostsFile, resolvConf } from "./etc.ts";
import { mapsOneId } from "./exec.ts";
import { fieldValue, parseQuantity, resourceValue } from "./fields.ts";
import { fstab, parseMountInfo } from "./mounts.ts";
import { type ContainerStatus, conditionsOf, phaseOf, qosClassOf } from "./status.ts";

const pod = (spec: Partial<Pod["spec"]> = {}): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { namespace: "demo", name: "web-0", uid: "u", labels: { b: "2", a: '1"' } },
  spec: { containers: [{ name: "main" }], ...spec },
});

describe("the environment", () => {
  const noSources = {
    configMap: () => undefined,
    secret: () => undefined,
    fieldRef: () => "field",
    resourceFieldRef: () => "1",
  };

  test("expands references to what is known before, and leaves the rest alone", () => {
    const known = new Map([["A", "1"]]);
    assert.equal(expand("$(A) $$(A) $(B) $A $ $$ $(A", known), "1 $(A) $(B) $A $ $ $(A");
  });

  test("expansion never throws and text without a dollar never changes", () => {
    fc.assert(fc.property(fc.string(), (text) => typeof expand(text, new Map([["A", "$(A)"]])) === "string"));
    fc.assert(
      fc.property(
        fc.string().filter((text) => !text.includes("$")),
        (text) => expand(text, new Map()) === text,
      ),
    );
  });

  test("lets what comes later win: image, services, envFrom, env", () => {
    const container: Container = {
      name: "x",
      envFrom: [
        { prefix: "P_", configMapRef: { name: "m" } },
        { secretRef: { name: "none", optional: true } },
      ],
      env: [
        { name: "A", value: "own" },
        { name: "B", value: "$(A) $(P_K) $(S)" },
        { name: "F", valueFrom: { fieldRef: { fieldPath: "metadata.name" } } },
        { name: "O", valueFrom: { configMapKeyRef: { name: "m", key: "none", optional: true } } },
      ],
    };
    const sources = { ...noSources, configMap: (name: string) => (name === "m" ? { K: "v" } : undefined) };
    assert.deepEqual(
      Object.fromEntries(makeEnvironment(container, [["A", "image"]], [["S", "svc"]], sources)),
      {
        A: "own",
        S: "svc",
        P_K: "v",
        B: "own v svc",
        F: "field",
      },
    );
  });

  test("is not made where something that it needs is missing", () => {
    const of = (env: Container["env"], envFrom?: Container["envFrom"]) => () =>
      makeEnvironment({ name: "x", ...(env && { env }), ...(envFrom && { envFrom }) }, [], [], {
        ...noSources,
        secret: (name: string) => (name === "s" ? {} : undefined),
      });
    const message = (text: string) => (error: Error) =>
      error instanceof ConfigError && error.message === text;
    assert.throws(of([], [{ configMapRef: { name: "m" } }]), message('configmap "m" not found'));
    assert.throws(
      of([{ name: "A", valueFrom: { secretKeyRef: { name: "s", key: "k" } } }]),
      message("couldn't find key k in Secret s"),
    );
  });

  test("tells of services as Docker links did", () => {
    const service = (
      namespace: string,
      name: string,
      clusterIP: string,
      ports: NonNullable<Service["spec"]>["ports"],
    ) =>
      ({
        apiVersion: "v1",
        kind: "Service",
        metadata: { namespace, name },
        spec: { clusterIP, ports },
      }) as Service;
    const services = [
      service("default", "kubernetes", "10.11.0.1", [{ name: "https", port: 443 }]),
      service("demo", "my-db", "10.11.0.7", [{ port: 5432 }]),
      service("demo", "headless", "None", [{ port: 1 }]),
      service("other", "far", "10.11.0.8", [{ port: 1 }]),
    ];
    const variables = Object.fromEntries(serviceVariables(pod(), services));
    assert.equal(variables.KUBERNETES_SERVICE_HOST, "10.11.0.1");
    assert.equal(variables.KUBERNETES_SERVICE_PORT_HTTPS, "443");
    assert.equal(variables.MY_DB_PORT, "tcp://10.11.0.7:5432");
    assert.equal(variables.MY_DB_PORT_5432_TCP_ADDR, "10.11.0.7");
    assert.ok(!("HEADLESS_SERVICE_HOST" in variables) && !("FAR_SERVICE_HOST" in variables));
    const unlinked = Object.fromEntries(serviceVariables(pod({ enableServiceLinks: false }), services));
    assert.ok("KUBERNETES_SERVICE_HOST" in unlinked && !("MY_DB_SERVICE_HOST" in unlinked));
  });
});

describe("fields and resources", () => {
  test("are read as the downward API offers them", () => {
    const place = { podIP: "10.10.0.7", hostIP: "172.18.0.2" };
    const of = (path: string) => fieldValue(pod({ nodeName: "n" }), path, place);
    assert.equal(of("metadata.labels['b']"), "2");
    assert.equal(of("metadata.labels"), 'a="1\\""\nb="2"');
    assert.equal(of("status.podIP"), "10.10.0.7");
    assert.equal(of("spec.nodeName"), "n");
    assert.throws(() => of("spec.containers"), RangeError);
  });

  test("quantities are numbers, and unlimited is what the node has", () => {
    assert.equal(parseQuantity("1500m"), 1.5);
    assert.equal(parseQuantity("128Mi"), 134217728);
    assert.equal(parseQuantity("1e3"), 1000);
    assert.ok(Number.isNaN(parseQuantity("many")));
    const capacity = { cpu: 4, memory: 1024, "ephemeral-storage": 0 };
    const container: Container = { name: "x", resources: { limits: { cpu: "1500m", memory: "64Mi" } } };
    assert.equal(resourceValue(container, "limits.cpu", "0", capacity), "2");
    assert.equal(resourceValue(container, "limits.cpu", "1m", capacity), "1500");
    assert.equal(resourceValue(container, "requests.memory", "1Mi", capacity), "64");
    assert.equal(resourceValue({ name: "x" }, "limits.cpu", "", capacity), "4");
  });
});

describe("files of /etc", () => {
  const cluster = defaultCluster("c1", 0);
  const machine = "nameserver 192.168.1.1\nsearch home.lan\noptions edns0 trust-ad\n";

  test("resolv.conf leads to the cluster's DNS and nowhere else", () => {
    assert.equal(
      resolvConf(pod(), cluster, machine),
      "search demo.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.11.0.10\noptions ndots:5\n",
    );
  });

  test("resolv.conf follows dnsPolicy and dnsConfig", () => {
    assert.equal(
      resolvConf(pod({ dnsPolicy: "Default" }), cluster, machine),
      "search home.lan\nnameserver 192.168.1.1\noptions edns0 trust-ad\n",
    );
    assert.equal(
      resolvConf(pod({ hostNetwork: true }), cluster, machine),
      "search home.lan\nnameserver 192.168.1.1\noptions edns0 trust-ad\n",
    );
    const dnsConfig = {
      nameservers: ["1.1.1.1"],
      searches: ["a.b"],
      options: [{ name: "ndots", value: "2" }, { name: "rotate" }],
    };
    assert.equal(
      resolvConf(pod({ dnsPolicy: "None", dnsConfig }), cluster, machine),
      "search a.b\nnameserver 1.1.1.1\noptions ndots:2 rotate\n",
    );
    assert.match(
      resolvConf(pod({ dnsConfig }), cluster, machine),
      /^search .* a\.b\nnameserver .*\nnameserver 1\.1\.1\.1\noptions ndots:2 rotate\n$/,
    );
  });

  test("hosts names the pod, and what hostAliases add", () => {
    const aliases = { hostAliases: [{ ip: "1.2.3.4", hostnames: ["a", "b"] }] };
    const text = hostsFile(pod({ hostname: "h", subdomain: "s", ...aliases }), "10.10.0.7", "cluster.local");
    assert.ok(text.includes("\n10.10.0.7\th.s.demo.svc.cluster.local\th\n"));
    assert.ok(text.endsWith("\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"));
    assert.ok(hostsFile(pod(), "10.10.0.7", "cluster.local").includes("\n10.10.0.7\tweb-0\n"));
  });

  test("a host name fits the kernel", () => {
    const long = pod();
    long.metadata.name = `${"x".repeat(62)}-${"y".repeat(40)}`;
    assert.equal(hostnameOf(long), "x".repeat(62));
  });
});

describe("back-off", () => {
  test("doubles from 10 s to 5 min and starts over after a long good time", () => {
    const world = new SimulatedWorld(1);
    const backoff = new Backoff();
    const pauses: number[] = [];
    let now = world.now();
    assert.equal(backoff.until(now), now);
    for (let n = 0; n < 7; n++) {
      backoff.next(now);
      pauses.push((backoff.until(now) - now) / 1000);
      now = backoff.until(now);
    }
    assert.deepEqual(pauses, [10, 20, 40, 80, 160, 300, 300]);
    assert.equal(backoff.text, "5m0s");
    backoff.next(now + 600_001);
    assert.equal(backoff.text, "10s");
  });
});

describe("a pod's phase", () => {
  const state = {
    waiting: { state: { waiting: { reason: "ContainerCreating" } } },
    crashing: {
      state: { waiting: { reason: "CrashLoopBackOff" } },
      lastState: { terminated: { exitCode: 1 } },
    },
    running: { state: { running: {} }, started: true, ready: true },
    good: { state: { terminated: { exitCode: 0 } } },
    bad: { state: { terminated: { exitCode: 1 } } },
  };
  const status = (name: string, of: keyof typeof state): ContainerStatus => ({
    name,
    image: "",
    imageID: "",
    ready: false,
    restartCount: 0,
    ...state[of],
  });

  test("follows its containers and its restart policy", () => {
    for (const [policy, states, phase] of [
      ["Always", ["waiting"], "Pending"],
      ["Always", ["running", "waiting"], "Pending"],
      ["Always", ["running", "crashing"], "Running"],
      ["Always", ["crashing"], "Running"],
      ["Always", ["good"], "Running"],
      ["OnFailure", ["bad"], "Running"],
      ["OnFailure", ["good"], "Succeeded"],
      ["Never", ["good", "running"], "Running"],
      ["Never", ["good", "bad"], "Failed"],
      ["Never", ["good", "good"], "Succeeded"],
    ] as const) {
      const containers = states.map((_, n) => ({ name: `c${n}` }));
      const statuses = states.map((of, n) => status(`c${n}`, of));
      assert.equal(
        phaseOf({ containers, restartPolicy: policy }, [], statuses),
        phase,
        `${policy} ${states}`,
      );
    }
  });

  test("is Pending while init containers run, and Failed when one fails for good", () => {
    const spec = (restartPolicy: "Always" | "Never", more = {}) => ({
      restartPolicy,
      initContainers: [{ name: "i", ...more }],
      containers: [{ name: "c" }],
    });
    assert.equal(phaseOf(spec("Always"), [status("i", "running")], [status("c", "waiting")]), "Pending");
    assert.equal(phaseOf(spec("Always"), [status("i", "bad")], [status("c", "waiting")]), "Pending");
    assert.equal(phaseOf(spec("Never"), [status("i", "bad")], [status("c", "waiting")]), "Failed");
    const sidecar = { restartPolicy: "Always" };
    assert.equal(
      phaseOf(spec("Always", sidecar), [status("i", "crashing")], [status("c", "running")]),
      "Running",
    );
  });

  test("conditions keep the time of their last change, and those of others", () => {
    const before = "2026-01-01T00:00:00Z";
    const now = "2026-01-02T00:00:00Z";
    const previous = [
      { type: "ContainersReady", status: "True", lastTransitionTime: before },
      { type: "Ready", status: "True", lastTransitionTime: before },
      { type: "x/y", status: "False", lastTransitionTime: before },
    ];
    const of: Pod = {
      ...pod({ readinessGates: [{ conditionType: "x/y" }] }),
      status: { conditions: previous },
    };
    const input = {
      pod: of,
      phase: "Running" as const,
      init: [],
      statuses: [status("main", "running")],
      hasNetwork: true,
      now,
    };
    const conditions = conditionsOf(input);
    const get = (name: string) => conditions.find(({ type }) => type === name);
    assert.equal(get("ContainersReady")?.lastTransitionTime, before);
    assert.equal(get("Ready")?.status, "False");
    assert.equal(get("Ready")?.lastTransitionTime, now);
    assert.match(get("Ready")?.message ?? "", /gate "x\/y" is not "True", but False/);
    assert.equal(get("x/y")?.lastTransitionTime, before);
    assert.deepEqual(
      conditionsOf({ ...input, pod: { ...of, status: { conditions } }, now: "later" }),
      conditions,
    );
  });

  test("quality of service is told from requests and limits", () => {
    const with_ = (resources: Container["resources"]) => ({
      containers: [{ name: "c", ...(resources && { resources }) }],
    });
    assert.equal(qosClassOf(with_(undefined)), "BestEffort");
    assert.equal(qosClassOf(with_({ requests: { cpu: "1" } })), "Burstable");
    assert.equal(qosClassOf(with_({ limits: { cpu: "1", memory: "1Gi" } })), "Guaranteed");
    assert.equal(
      qosClassOf(with_({ limits: { cpu: "1", memory: "1Gi" }, requests: { cpu: "500m" } })),
      "Burstable",
    );
  });
});

describe("capabilities", () => {
  const of = (securityContext: Container["securityContext"]) =>
    capabilitiesOf({ name: "c", ...(securityContext && { securityContext }) });

  test("are what was asked for, and never what could uncover the machine", () => {
    assert.ok(of(undefined).includes("net_raw") && !of(undefined).includes("net_admin"));
    assert.deepEqual(of({ capabilities: { drop: ["ALL"], add: ["NET_BIND_SERVICE"] } }), [
      "net_bind_service",
    ]);
    assert.ok(of({ capabilities: { add: ["CAP_NET_ADMIN"] } }).includes("net_admin"));
    for (const context of [
      { privileged: true },
      { capabilities: { add: ["ALL"] } },
      { capabilities: { add: ["SYS_ADMIN", "NO_SUCH"] } },
    ]) {
      const capabilities = of(context);
      assert.ok(
        !capabilities.includes("sys_admin") &&
          !capabilities.includes("no_such") &&
          !capabilities.includes("all"),
      );
    }
  });
});

test("mount tables survive blanks in paths", () => {
  assert.equal(
    fstab([{ source: "/a b", target: "/c\\d", options: ["rbind", "ro"] }]),
    "/a\\040b /c\\134d none rbind,ro 0 0\n",
  );
  const line = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n";
  assert.deepEqual(parseMountInfo(line), [{ target: "/mnt 2", options: ["rw", "noatime"], type: "ext3" }]);
});

test("one id alone in a user namespace has nobody to give files to", () => {
  assert.equal(mapsOneId("         0       1000          1\n"), true);
  assert.equal(mapsOneId("         0          0 4294967295\n"), false);
  assert.equal(mapsOneId("         0       1000          1\n         1     100000      65536\n"), false);
});
