/** Pods with and without a sidecar, and what the patch makes of them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Container, MeshSettings, Pod } from "../api/index.ts";
import { jsonPatch } from "../lab/apiserver/patch/json.ts";
import { type InjectionContext, InjectionRefused, inject, webhook } from "./index.ts";

const mesh: MeshSettings = {
  name: "basic",
  namespace: "istio-system",
  cluster: "c1",
  trustDomain: "cluster.local",
  trustDomainAliases: [],
  clusterDomain: "cluster.local",
  mtls: { mode: "PERMISSIVE", auto: true },
  balancer: "ROUND_ROBIN",
  outboundPolicy: "ALLOW_ANY",
  traceSampling: 100,
  accessLog: true,
  proxy: {
    implementation: "embedded",
    image: "weft/control-plane:0.1.0",
    resources: { requests: { cpu: "100m", memory: "128Mi" }, limits: { cpu: "500m", memory: "128Mi" } },
    concurrency: 2,
  },
  discoveryHost: "istiod-basic.istio-system.svc",
};
const context: InjectionContext = { mesh, namespace: "coolapp", nativeSidecars: true };
const classic = { ...context, nativeSidecars: false };

/** The seed's pod, before it is a pod: as its ReplicaSet creates it. */
function catalog(
  more: { annotations?: Record<string, string>; labels?: Record<string, string>; spec?: object } = {},
): Pod {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: "",
      generateName: "catalog-v1-6d6b478456-",
      annotations: { "sidecar.istio.io/inject": "true", ...more.annotations },
      labels: {
        app: "catalog",
        application: "catalog",
        "pod-template-hash": "6d6b478456",
        version: "v1",
        ...more.labels,
      },
      ownerReferences: [
        {
          apiVersion: "apps/v1",
          kind: "ReplicaSet",
          name: "catalog-v1-6d6b478456",
          uid: "x",
          controller: true,
        },
      ],
    },
    spec: {
      serviceAccountName: "default",
      containers: [
        {
          name: "catalog",
          image: "docker.io/rhtgptetraining/foundation-catalog-service:1.0.0",
          ports: [{ name: "http", containerPort: 8080, protocol: "TCP" }],
          livenessProbe: {
            httpGet: { path: "/health", port: 8080, scheme: "HTTP" },
            initialDelaySeconds: 60,
            timeoutSeconds: 1,
          },
          readinessProbe: {
            httpGet: { path: "/health", port: "http", scheme: "HTTP" },
            initialDelaySeconds: 20,
          },
        },
      ],
      ...more.spec,
    },
  } as Pod;
}

function injected(pod: Pod, of = context): Pod {
  const result = inject(pod, of);
  assert.ok("patch" in result, `not injected: ${"reason" in result ? result.reason : ""}`);
  return jsonPatch(structuredClone(pod), result.patch) as Pod;
}

const names = (containers: readonly Container[] = []) => containers.map(({ name }) => name);
const proxyOf = (pod: Pod) =>
  [...(pod.spec.initContainers ?? []), ...pod.spec.containers].find(({ name }) => name === "istio-proxy")!;
const envOf = (container: Container, name: string) =>
  container.env?.find((each) => each.name === name)?.value;

test("with native sidecars the proxy comes before everything else, with the seed's resources", () => {
  const pod = injected(catalog({ spec: { initContainers: [{ name: "migrate", image: "x" }] } }));
  assert.deepEqual(names(pod.spec.initContainers), ["istio-init", "istio-proxy", "migrate"]);
  assert.deepEqual(names(pod.spec.containers), ["catalog"]);
  const proxy = proxyOf(pod) as Container & { restartPolicy?: string };
  assert.equal(proxy.restartPolicy, "Always");
  assert.deepEqual(proxy.args, ["proxy", "sidecar"]);
  assert.deepEqual(proxy.resources, mesh.proxy.resources);
  assert.equal(proxy.startupProbe?.httpGet?.path, "/healthz/ready");
  assert.equal(proxy.securityContext?.runAsUser, 1337);
  assert.deepEqual(proxy.securityContext?.capabilities, { drop: ["ALL"] });
  assert.ok(proxy.securityContext?.readOnlyRootFilesystem);
  assert.equal(envOf(proxy, "MINIMUM_DRAIN_DURATION"), "0s");
});

test("without them it is the first container, and the next waits for it; the seed's yaml has it there", () => {
  const spec = { initContainers: [{ name: "migrate", image: "x" }] };
  for (const pod of [
    injected(catalog({ spec }), classic),
    injected(catalog({ spec, annotations: { "sidecar.istio.io/nativeSidecar": "false" } })),
  ]) {
    assert.deepEqual(names(pod.spec.initContainers), ["migrate", "istio-init"]);
    assert.deepEqual(names(pod.spec.containers), ["istio-proxy", "catalog"]);
    assert.match(proxyOf(pod).lifecycle?.postStart?.exec?.command?.[2] ?? "", /15021\/healthz\/ready/);
    assert.equal(pod.metadata.annotations?.["kubectl.kubernetes.io/default-container"], "catalog");
    assert.equal(envOf(proxyOf(pod), "MINIMUM_DRAIN_DURATION"), "5s");
    assert.equal(envOf(proxyOf(pod), "TERMINATION_DRAIN_DURATION_SECONDS"), "27");
  }
  const annotations = { "proxy.istio.io/config": "holdApplicationUntilProxyStarts: false" };
  const unheld = injected(catalog({ annotations }), classic);
  assert.deepEqual(names(unheld.spec.containers), ["catalog", "istio-proxy"]);
  assert.equal(proxyOf(unheld).lifecycle, undefined);
});

test("the pod says what it is: labels, status, identity, workload", () => {
  const pod = injected(catalog());
  assert.equal(pod.metadata.labels?.["security.istio.io/tlsMode"], "istio");
  assert.equal(pod.metadata.labels?.["service.istio.io/canonical-name"], "catalog");
  assert.equal(pod.metadata.labels?.["service.istio.io/canonical-revision"], "v1");
  assert.deepEqual(JSON.parse(pod.metadata.annotations!["sidecar.istio.io/status"]!), {
    initContainers: ["istio-init", "istio-proxy"],
    containers: [],
    volumes: ["istio-envoy", "istio-podinfo", "istio-token", "istiod-ca-cert"],
    imagePullSecrets: null,
  });
  const proxy = proxyOf(pod);
  assert.equal(envOf(proxy, "DISCOVERY_ADDRESS"), "istiod-basic.istio-system.svc:15012");
  assert.equal(envOf(proxy, "CA_ADDR"), "istiod-basic.istio-system.svc:15017");
  assert.equal(envOf(proxy, "ISTIO_META_WORKLOAD_NAME"), "catalog-v1");
  const owner = "kubernetes://apis/apps/v1/namespaces/coolapp/deployments/catalog-v1";
  assert.equal(envOf(proxy, "ISTIO_META_OWNER"), owner);
  assert.equal(JSON.parse(envOf(proxy, "ISTIO_METAJSON_LABELS")!).version, "v1");
  const token = pod.spec.volumes?.find(({ name }) => name === "istio-token")?.projected?.sources?.[0];
  assert.equal(token?.serviceAccountToken?.audience, "istio-ca");
});

test("whether a pod is injected: it has to ask, the label wins, and some never are", () => {
  const why = (pod: Pod) => {
    const result = inject(pod, context);
    return "patch" in result ? "injected" : result.reason;
  };
  const key = "sidecar.istio.io/inject";
  const plain = catalog();
  delete plain.metadata.annotations;
  assert.match(why(plain), /does not ask/);
  assert.equal(why(catalog()), "injected");
  assert.equal(why({ ...plain, metadata: { ...plain.metadata, labels: { [key]: "true" } } }), "injected");
  assert.match(why(catalog({ annotations: { [key]: "false" } })), /says no/);
  assert.match(why(catalog({ labels: { [key]: "false" } })), /says no/);
  assert.equal(why(catalog({ annotations: { [key]: "false" }, labels: { [key]: "true" } })), "injected");
  const host = inject(catalog({ spec: { hostNetwork: true } }), context);
  assert.ok("reason" in host && /hostNetwork/.test(host.warnings.join()));
  assert.match(why(injected(catalog())), /already/);
  assert.match(why(injected(catalog(), classic)), /already/);
  // Copied from a running pod, without its containers.
  assert.equal(why(catalog({ annotations: { "sidecar.istio.io/status": "{}" } })), "injected");
});

test("probes go by the agent, exec and other hosts stay", () => {
  const spec = {
    containers: [
      ...catalog().spec.containers,
      {
        name: "other",
        image: "x",
        ports: [{ containerPort: 9000, name: "grpc" }],
        livenessProbe: { tcpSocket: { port: "grpc" }, periodSeconds: 7 },
        readinessProbe: { exec: { command: ["true"] } },
        startupProbe: { grpc: { port: 9000, service: "ready" }, failureThreshold: 9 },
      },
      { name: "third", image: "x", livenessProbe: { httpGet: { port: 80, host: "example.com" } } },
      { name: "fourth", image: "x", livenessProbe: { httpGet: { port: "nosuch" } } },
    ],
  };
  for (const where of [context, classic]) {
    const pod = injected(catalog({ spec }), where);
    const [first, other, third] = pod.spec.containers.filter(({ name }) => name !== "istio-proxy");
    assert.deepEqual(first?.livenessProbe, {
      httpGet: { path: "/app-health/catalog/livez", port: 15020, scheme: "HTTP" },
      initialDelaySeconds: 60,
      timeoutSeconds: 1,
    });
    assert.equal(other?.livenessProbe?.periodSeconds, 7);
    assert.equal(other?.livenessProbe?.httpGet?.path, "/app-health/other/livez");
    assert.equal(other?.livenessProbe?.tcpSocket, undefined);
    assert.ok(other?.readinessProbe?.exec);
    assert.equal(other?.startupProbe?.httpGet?.path, "/app-health/other/startupz");
    assert.equal(third?.livenessProbe?.httpGet?.host, "example.com");
    assert.deepEqual(JSON.parse(envOf(proxyOf(pod), "ISTIO_KUBE_APP_PROBERS")!), {
      "/app-health/catalog/livez": {
        httpGet: { path: "/health", port: 8080, scheme: "HTTP" },
        timeoutSeconds: 1,
      },
      "/app-health/catalog/readyz": { httpGet: { path: "/health", port: 8080, scheme: "HTTP" } },
      "/app-health/other/livez": { tcpSocket: { port: 9000 } },
      "/app-health/other/startupz": { grpc: { port: 9000, service: "ready" } },
    });
  }
  const result = inject(catalog({ spec }), context);
  assert.match(result.warnings.join(), /livenessProbe of container fourth names port 'nosuch'/);
  const off = catalog({ annotations: { "sidecar.istio.io/rewriteAppHTTPProbers": "false" } });
  assert.equal(injected(off).spec.containers[0]?.livenessProbe?.httpGet?.path, "/health");
});

test("HTTP lifecycle hooks go by the agent and have all the time they need; exec and other hosts stay", () => {
  const hooked = (lifecycle: object, annotations = {}) =>
    injected(
      catalog({
        annotations,
        spec: {
          containers: [
            { name: "app", image: "x", ports: [{ containerPort: 8080, name: "http" }], lifecycle },
          ] as never,
        },
      }),
    );
  const both = {
    postStart: { httpGet: { path: "/started", port: "http" } },
    preStop: { httpGet: { path: "/drain", port: 8080, httpHeaders: [{ name: "x-a", value: "1" }] } },
  };
  const pod = hooked(both);
  const app = pod.spec.containers.find(({ name }) => name === "app");
  assert.deepEqual(app?.lifecycle, {
    postStart: { httpGet: { path: "/app-lifecycle/app/poststartz", port: 15020, scheme: "HTTP" } },
    preStop: { httpGet: { path: "/app-lifecycle/app/prestopz", port: 15020, scheme: "HTTP" } },
  });
  assert.deepEqual(JSON.parse(envOf(proxyOf(pod), "ISTIO_KUBE_APP_PROBERS")!), {
    "/app-lifecycle/app/poststartz": { httpGet: { path: "/started", port: 8080 }, timeoutSeconds: 0 },
    "/app-lifecycle/app/prestopz": { httpGet: both.preStop.httpGet, timeoutSeconds: 0 },
  });
  const left = {
    postStart: { exec: { command: ["true"] } },
    preStop: { httpGet: { path: "/", port: 80, host: "example.com" } },
  };
  const lifecycleOf = (pod: Pod) => pod.spec.containers.find(({ name }) => name === "app")?.lifecycle;
  assert.deepEqual(lifecycleOf(hooked(left)), left);
  assert.deepEqual(lifecycleOf(hooked(both, { "sidecar.istio.io/rewriteAppHTTPProbers": "false" })), both);
});

test("annotations of traffic become flags of proxy-init", () => {
  const init = (annotations: Record<string, string>) =>
    injected(catalog({ annotations })).spec.initContainers?.find(({ name }) => name === "istio-init");
  assert.deepEqual(init({})?.args, [
    "proxy-init",
    "--include-inbound-ports=*",
    "--include-outbound-ip-ranges=*",
  ]);
  assert.deepEqual(init({})?.securityContext?.capabilities?.add, ["NET_ADMIN", "NET_RAW"]);
  const t = "traffic.sidecar.istio.io";
  assert.deepEqual(
    init({
      [`${t}/includeInboundPorts`]: "",
      [`${t}/excludeOutboundPorts`]: "5432, 6379-6380",
      [`${t}/includeOutboundIPRanges`]: "10.0.0.0/8,192.168.1.1",
    })?.args,
    [
      "proxy-init",
      "--include-outbound-ip-ranges=10.0.0.0/8,192.168.1.1",
      "--exclude-outbound-ports=5432,6379-6380",
    ],
  );
  const none = injected(catalog({ annotations: { "sidecar.istio.io/interceptionMode": "NONE" } }));
  assert.deepEqual(names(none.spec.initContainers), ["istio-proxy"]);
  assert.equal(envOf(proxyOf(none), "ISTIO_META_INTERCEPTION_MODE"), "NONE");
  assert.equal(none.metadata.labels?.["security.istio.io/tlsMode"], "disabled");
});

test("a pod chooses its proxy, its resources, threads and environment", () => {
  const proxy = proxyOf(
    injected(
      catalog({
        annotations: {
          "proxy.weft.dev/implementation": "envoy",
          "sidecar.istio.io/proxyCPU": "50m",
          "sidecar.istio.io/proxyMemoryLimit": "256Mi",
          "proxy.istio.io/config":
            "concurrency: 4\nterminationDrainDuration: 20s\nproxyMetadata:\n  DNS_CAPTURE: true\n",
        },
      }),
    ),
  );
  assert.equal(envOf(proxy, "PROXY_IMPLEMENTATION"), "envoy");
  assert.deepEqual(proxy.resources, { requests: { cpu: "50m" }, limits: { memory: "256Mi" } });
  assert.equal(envOf(proxy, "PROXY_CONCURRENCY"), "4");
  assert.equal(envOf(proxy, "TERMINATION_DRAIN_DURATION_SECONDS"), "20");
  assert.equal(envOf(proxy, "DNS_CAPTURE"), "true");
});

test("metrics of the application are asked for by the agent", () => {
  const annotations = { "prometheus.io/scrape": "true", "prometheus.io/port": "9100" };
  const pod = injected(catalog({ annotations }));
  assert.equal(pod.metadata.annotations?.["prometheus.io/port"], "15020");
  const asked = JSON.parse(envOf(proxyOf(pod), "ISTIO_PROMETHEUS_ANNOTATIONS")!);
  assert.deepEqual(asked, { scrape: "true", path: "", port: "9100" });
});

test("volumes of the author's own are mounted in the proxy: certificates that a DestinationRule names as files", () => {
  const volume = { name: "client-certs", secret: { secretName: "client-certs" } };
  const mount = { name: "client-certs", mountPath: "/etc/client-certs", readOnly: true };
  const { name, ...rest } = volume;
  // Both forms that Istio's users write: a list, or objects by name.
  for (const userVolume of [[volume], { [name]: rest }]) {
    const pod = injected(
      catalog({
        annotations: {
          "sidecar.istio.io/userVolume": JSON.stringify(userVolume),
          "sidecar.istio.io/userVolumeMount": JSON.stringify([mount]),
        },
      }),
    );
    assert.deepEqual(pod.spec.volumes?.at(-1), volume);
    const proxy = pod.spec.initContainers?.find((each) => each.name === "istio-proxy");
    assert.deepEqual(proxy?.volumeMounts?.at(-1), mount);
  }
});

test("what cannot be is refused with a sentence that names it; what is not served is a warning", () => {
  const t = "traffic.sidecar.istio.io";
  const cases: [Parameters<typeof catalog>[0], RegExp][] = [
    [{ annotations: { "sidecar.istio.io/inject": "maybe" } }, /inject: 'maybe' cannot be; true or false/],
    [{ annotations: { "proxy.weft.dev/implementation": "nginx" } }, /'nginx' cannot be; envoy or embedded/],
    [{ annotations: { [`${t}/excludeInboundPorts`]: "80,http" } }, /excludeInboundPorts: 'http'/],
    [{ annotations: { [`${t}/includeOutboundPorts`]: "70000" } }, /includeOutboundPorts: '70000'/],
    [{ annotations: { [`${t}/excludeOutboundIPRanges`]: "10.0.0.0/99" } }, /'10.0.0.0\/99'/],
    [{ annotations: { "sidecar.istio.io/proxyCPU": "much" } }, /proxyCPU: 'much' cannot be; a quantity/],
    [{ annotations: { "sidecar.istio.io/interceptionMode": "TPROXY" } }, /TPROXY/],
    [{ annotations: { "proxy.istio.io/config": "concurrency: -1" } }, /concurrency: '-1'/],
    [{ annotations: { "proxy.istio.io/config": "a: [" } }, /no YAML/],
    [{ annotations: { "sidecar.istio.io/userVolume": "[" } }, /userVolume: '\[' cannot be; no JSON/],
    [{ annotations: { "sidecar.istio.io/userVolumeMount": "[1]" } }, /a list of objects with a name/],
    [{ annotations: { "proxy.istio.io/config": "terminationDrainDuration: soon" } }, /'soon'/],
    [{ spec: { containers: [{ name: "istio-proxy", image: "x" }] } }, /a container 'istio-proxy' of its own/],
    [{ spec: { volumes: [{ name: "istio-token" }] } }, /a volume 'istio-token' of its own/],
    [{ spec: { securityContext: { runAsUser: 1337 } } }, /container 'catalog' runs as uid 1337/],
  ];
  for (const [more, says] of cases) {
    assert.throws(
      () => inject(catalog(more), context),
      (error: unknown) => {
        assert.ok(error instanceof InjectionRefused);
        assert.match(error.message, says);
        return true;
      },
    );
  }
  const annotations = {
    "sidecar.istio.io/logLevel": "debug",
    "readiness.status.sidecar.istio.io/periodSeconds": "2",
    "inject.istio.io/templates": "sidecar",
    "proxy.istio.io/config": "tracing: {}",
  };
  const spec = { containers: [{ name: "a", image: "x", ports: [{ containerPort: 15021 }] }] };
  assert.deepEqual(inject(catalog({ annotations, spec }), context).warnings, [
    "annotation sidecar.istio.io/logLevel is not served: it has no effect",
    "annotation readiness.status.sidecar.istio.io/periodSeconds is not served: it has no effect",
    "annotation inject.istio.io/templates is not served: it has no effect",
    "annotation proxy.istio.io/config: tracing is not served: it has no effect",
    "container a: port 15021 is the sidecar's own",
  ]);
});

test("whatever the pod has stays: the patch adds, and changes nothing but probes and metrics' annotations", () => {
  const name = fc.stringMatching(/^[a-z]{1,8}$/);
  const containers = fc.uniqueArray(name, { minLength: 1, maxLength: 4 });
  const map = fc.option(
    fc.dictionary(fc.stringMatching(/^[a-z~/.]{1,10}$/), name, { noNullPrototype: true }),
    { nil: undefined },
  );
  const pods = fc.record({
    containers,
    init: containers,
    volumes: containers,
    labels: map,
    annotations: map,
    native: fc.boolean(),
  });
  fc.assert(
    fc.property(pods, ({ containers, init, volumes, labels, annotations, native }) => {
      const images = (list: string[], prefix: string) =>
        list.map((each) => ({ name: `${prefix}${each}`, image: each }));
      const pod = {
        apiVersion: "v1",
        kind: "Pod",
        metadata: {
          name: "p",
          labels: { ...labels, "sidecar.istio.io/inject": "true" },
          ...(annotations && { annotations }),
        },
        spec: {
          containers: images(containers, "c"),
          ...(init.length > 1 && { initContainers: images(init, "i") }),
          ...(volumes.length > 1 && { volumes: volumes.map((each) => ({ name: each })) }),
        },
      } as unknown as Pod;
      const before = structuredClone(pod);
      const after = injected(pod, native ? context : classic);
      assert.deepEqual(pod, before, "inject is pure");
      const ours = new Set(["istio-init", "istio-proxy"]);
      const theirs = (list?: readonly Container[]) => (list ?? []).filter((each) => !ours.has(each.name));
      assert.deepEqual(theirs(after.spec.containers), pod.spec.containers);
      assert.deepEqual(theirs(after.spec.initContainers), pod.spec.initContainers ?? []);
      assert.deepEqual(after.spec.volumes?.slice(0, pod.spec.volumes?.length ?? 0), pod.spec.volumes ?? []);
      for (const map of ["labels", "annotations"] as const) {
        for (const [key, value] of Object.entries(pod.metadata[map] ?? {})) {
          assert.equal(after.metadata[map]?.[key], value);
        }
      }
    }),
  );
});

test("the webhook answers reviews, refusals with 400, and lets nobody in before it knows its mesh", async () => {
  let known: { mesh: MeshSettings; nativeSidecars: boolean } | undefined = context;
  const handle = webhook({ context: () => known });
  const ask = async (object: unknown, kind = "Pod") => {
    const request = { uid: "u1", kind: { kind }, namespace: "coolapp", operation: "CREATE", object };
    const review = { apiVersion: "admission.k8s.io/v1", kind: "AdmissionReview", request };
    const { status, body } = await handle({ method: "POST", body: JSON.stringify(review) });
    assert.equal(status, 200);
    const { response } = JSON.parse(body);
    assert.equal(response.uid, "u1");
    return response;
  };
  const good = await ask(catalog());
  assert.ok(good.allowed && good.patchType === "JSONPatch");
  const patch = JSON.parse(Buffer.from(good.patch, "base64").toString());
  assert.ok((jsonPatch(catalog(), patch) as Pod).spec.initContainers?.length);
  assert.deepEqual(await ask({ spec: { containers: [{ name: "a", image: "x" }] } }), {
    uid: "u1",
    allowed: true,
  });
  const refused = await ask(catalog({ spec: { volumes: [{ name: "istio-envoy" }] } }));
  assert.equal(refused.allowed, false);
  assert.equal(refused.status.code, 400);
  assert.match(refused.status.message, /^no sidecar for this pod: it has a volume 'istio-envoy'/);
  assert.equal((await ask({}, "Service")).allowed, false);
  known = undefined;
  assert.equal((await ask(catalog())).status.code, 503);
  for (const [method, body, status] of [
    ["GET", "", 405],
    ["POST", "{", 400],
    ["POST", "{}", 400],
  ] as const) {
    assert.equal((await handle({ method, body })).status, status);
  }
});
