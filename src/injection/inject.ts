/**
 * A pod → the same pod with a proxy and redirection, as a JSON patch. Pure.
 *
 * Where the cluster has native sidecars (Kubernetes 1.29), the proxy is an init container with restartPolicy Always:
 * it is ready before anything of the application starts (the user's own init containers among it), it ends after all
 * of it has ended, and Jobs come to their end. `kubectl get pods` counts it in READY as it does a container, so what
 * people see is the same 1/2 and 2/2. Elsewhere, and where a pod says `sidecar.istio.io/nativeSidecar: "false"`, it is
 * the first of the containers, and the next one starts when it is ready (`postStart`).
 */
import type { Container, MeshSettings, Pod } from "../api/index.ts";
import { tlsModeLabel } from "../api/index.ts";
import { defaultGrace, proxyContainer, proxyVolumes, readiness, usualDrain } from "./container.ts";
import {
  canonicalNameLabel,
  canonicalRevisionLabel,
  initContainerName,
  injectKey,
  paths,
  ports,
  proxyContainerName,
  proxyUid,
  reservedPorts,
  statusAnnotation,
} from "./names.ts";
import { probersVariable, rewriteProbes } from "./probes.ts";
import { flag, InjectionRefused, readSettings, type SidecarSettings } from "./settings.ts";
import { workloadOf } from "./workload.ts";

export interface InjectionContext {
  mesh: MeshSettings;
  /** The pod's; in a review the object itself may not say it. */
  namespace: string;
  /** Whether the cluster has native sidecars: its version is 1.29 or later. */
  nativeSidecars: boolean;
}

export type JsonPatch = { op: "add" | "replace"; path: string; value: unknown }[];

export interface PodPatch {
  patch: JsonPatch;
  /** For whoever creates the pod. */
  warnings: string[];
}

export interface NotInjected {
  /** Why the pod stays as it is. */
  reason: string;
  warnings: string[];
}

/** Throws InjectionRefused when the pod asks for a sidecar that it cannot have. */
export function inject(pod: Pod, context: InjectionContext): PodPatch | NotInjected {
  const reason = whyNot(pod);
  if (reason) return reason;
  const settings = readSettings(pod);
  const { containers, initContainers = [] } = pod.spec;
  const all = [...initContainers, ...containers];
  checkClashes(pod, all);

  const native = context.nativeSidecars && (settings.native ?? true);
  const workload = workloadOf(pod, context.namespace);
  const labels = labelsFor(pod, workload.name, settings.redirection !== undefined);
  const probes = settings.rewriteProbes ? rewriteProbes(all) : { probers: {}, rewritten: [], warnings: [] };
  const metrics = metricsOf(pod);
  const about = { workload, labels, probers: probes.probers, native, metrics };
  const proxy = sidecar(pod, context, settings, about);
  const init = settings.redirection && initContainer(context.mesh, proxy, settings.redirection);
  const added = { init: init ? [init] : [], proxy: native ? nativeForm(proxy) : heldForm(proxy, settings) };

  const patch: JsonPatch = [
    ...probes.rewritten.map(({ container, path, value }) => ({
      op: "replace" as const,
      path: `${pathOf(pod, container)}/${path}`,
      value,
    })),
    ...(native
      ? insertAt(pod.spec.initContainers, "/spec/initContainers", [...added.init, added.proxy], 0)
      : [
          // Last, for the user's own still have the network as it is; after it nothing but the proxy's way is left.
          ...insertAt(pod.spec.initContainers, "/spec/initContainers", added.init, initContainers.length),
          ...insertAt(containers, "/spec/containers", [added.proxy], settings.hold ? 0 : containers.length),
        ]),
    ...insertAt(
      pod.spec.volumes,
      "/spec/volumes",
      [...proxyVolumes(), ...settings.volumes],
      pod.spec.volumes?.length ?? 0,
    ),
    ...merge(pod.metadata.labels, "/metadata/labels", labels),
    ...merge(pod.metadata.annotations, "/metadata/annotations", annotationsFor(pod, about, init)),
  ];
  const warnings = [...settings.warnings, ...probes.warnings, ...portWarnings(all)];
  return { patch, warnings };
}

/** Whether a pod asks for a sidecar and has none: it was made while nobody injected. */
export function lacksSidecar(pod: Pod): boolean {
  try {
    return whyNot(pod) === undefined;
  } catch {
    return false; // what it asks for cannot be read
  }
}

/** Istio's order: what can never be, then what the label says, then the annotation; a pod has to ask for it. */
function whyNot(pod: Pod): NotInjected | undefined {
  const left = (reason: string, ...warnings: string[]) => ({ reason, warnings });
  const { labels = {}, annotations = {} } = pod.metadata;
  const wanted = labels[injectKey] !== undefined ? flag(labels, injectKey) : flag(annotations, injectKey);
  if (!wanted) {
    return left(
      wanted === false ? `${injectKey} says no` : `it does not ask for a sidecar (${injectKey}: "true")`,
    );
  }
  if (pod.spec.hostNetwork) {
    const reason = "it uses its node's network (hostNetwork), where nothing can be redirected for it alone";
    return left(reason, `no sidecar: ${reason}`);
  }
  const all = [...(pod.spec.initContainers ?? []), ...pod.spec.containers];
  const there = all.some(({ name }) => name === proxyContainerName);
  return there && annotations[statusAnnotation] ? left("it has its sidecar already") : undefined;
}

/** What would go wrong later, and hard to see, is refused here. */
function checkClashes(pod: Pod, containers: readonly Container[]): void {
  for (const name of [proxyContainerName, initContainerName]) {
    if (containers.some((each) => each.name === name)) {
      throw new InjectionRefused(`it has a container '${name}' of its own, which is the sidecar's name`);
    }
  }
  const volumes = new Set(proxyVolumes().map(({ name }) => name));
  const taken = pod.spec.volumes?.find(({ name }) => volumes.has(name));
  if (taken) {
    throw new InjectionRefused(
      `it has a volume '${taken.name}' of its own, which is the name of one of the sidecar's`,
    );
  }
  for (const { name, securityContext } of containers) {
    if ((securityContext?.runAsUser ?? pod.spec.securityContext?.runAsUser) === proxyUid) {
      throw new InjectionRefused(
        `container '${name}' runs as uid ${proxyUid}, which is the proxy's: what it sends would pass the proxy by`,
      );
    }
  }
}

function portWarnings(containers: readonly Container[]): string[] {
  return containers.flatMap(({ name, ports: own = [] }) =>
    own
      .filter(({ containerPort }) => reservedPorts.includes(containerPort))
      .map(({ containerPort }) => `container ${name}: port ${containerPort} is the sidecar's own`),
  );
}

interface About {
  workload: ReturnType<typeof workloadOf>;
  labels: Record<string, string>;
  probers: object;
  native: boolean;
  metrics: Metrics | undefined;
}

/** Where Prometheus would find the application's metrics: the agent asks there, and hands out all in one. */
interface Metrics {
  scrape: string;
  path: string;
  port: string;
}

const metricsVariable = "ISTIO_PROMETHEUS_ANNOTATIONS";

function metricsOf({ metadata: { annotations = {} } }: Pod): Metrics | undefined {
  if (annotations["prometheus.istio.io/merge-metrics"] === "false") return undefined;
  const scrape = annotations["prometheus.io/scrape"] ?? "";
  const [path, port] = [annotations["prometheus.io/path"] ?? "", annotations["prometheus.io/port"] ?? ""];
  return { scrape, path, port };
}

function sidecar(pod: Pod, { mesh }: InjectionContext, settings: SidecarSettings, about: About): Container {
  const { containers } = pod.spec;
  const portsOf = containers.flatMap((each) =>
    (each.ports ?? []).map(({ name, containerPort, protocol }) => ({
      ...(name && { name }),
      containerPort,
      protocol,
    })),
  );
  const { implementation, resources, concurrency, drainSeconds, redirection } = settings;
  const usual = usualDrain(pod.spec.terminationGracePeriodSeconds ?? defaultGrace);
  // A native sidecar is told to end when the application has ended: there is nobody left to go on for.
  const least = about.native ? 0 : Math.min(usual.least, drainSeconds ?? usual.least);
  const proxy = proxyContainer({
    role: "sidecar",
    mesh,
    workload: about.workload,
    labels: { ...pod.metadata.labels, ...about.labels },
    ...(implementation && { implementation }),
    ...(resources && { resources }),
    ...(concurrency !== undefined && { concurrency }),
    drain: { least, most: drainSeconds ?? usual.most },
    env: [
      { name: "ISTIO_META_APP_CONTAINERS", value: containers.map(({ name }) => name).join(",") },
      { name: "ISTIO_META_POD_PORTS", value: JSON.stringify(portsOf) },
      ...(redirection ? [] : [{ name: "ISTIO_META_INTERCEPTION_MODE", value: "NONE" }]),
      ...(about.metrics ? [{ name: metricsVariable, value: JSON.stringify(about.metrics) }] : []),
      { name: probersVariable, value: JSON.stringify(about.probers) },
      ...settings.env,
    ],
  });
  return { ...proxy, volumeMounts: [...(proxy.volumeMounts ?? []), ...settings.mounts] };
}

/** Started before everything else, which waits for the startup probe; ended after everything else. */
function nativeForm(proxy: Container): Container {
  return {
    ...proxy,
    restartPolicy: "Always",
    // As long as it takes: without certificate and configuration the application does not start (never fail open).
    startupProbe: readiness({ initialDelaySeconds: 1, failureThreshold: 600 }),
  } as Container;
}

/** First of the containers, and the kubelet starts the next when this hook has returned. */
function heldForm(proxy: Container, { hold }: SidecarSettings): Container {
  if (!hold) return proxy;
  return { ...proxy, lifecycle: { postStart: { exec: { command: ["node", "-e", waitForProxy] } } } };
}

/** Ends when the proxy is ready. The image has no shell and no curl, but it has Node. */
const waitForProxy = `const { setTimeout: after } = require("timers");
const ask = () => require("http").get("http://127.0.0.1:${ports.health}/healthz/ready", ({ statusCode }) =>
  statusCode === 200 ? process.exit(0) : after(ask, 100)).on("error", () => after(ask, 100));
ask();`;

/** The only one with rights over the pod's network, and it ends before anything else runs. */
function initContainer(mesh: MeshSettings, proxy: Container, redirection: readonly string[]): Container {
  return {
    name: initContainerName,
    image: mesh.proxy.image,
    imagePullPolicy: "IfNotPresent",
    args: ["proxy-init", ...redirection],
    env: [{ name: "INSTANCE_IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } }],
    ...(proxy.resources && { resources: proxy.resources }),
    securityContext: {
      allowPrivilegeEscalation: false,
      capabilities: { add: ["NET_ADMIN", "NET_RAW"], drop: ["ALL"] },
      privileged: false,
      readOnlyRootFilesystem: true,
      runAsGroup: 0,
      runAsNonRoot: false,
      runAsUser: 0,
      seccompProfile: { type: "RuntimeDefault" },
    },
    volumeMounts: [{ name: "istio-envoy", mountPath: paths.proxy }],
  };
}

function labelsFor(pod: Pod, workload: string, redirected: boolean): Record<string, string> {
  const { labels = {} } = pod.metadata;
  const first = (...names: string[]) => names.map((name) => labels[name]).find((value) => value);
  const name = first(canonicalNameLabel, "app.kubernetes.io/name", "app") ?? workload;
  const revision = first(canonicalRevisionLabel, "app.kubernetes.io/version", "version") ?? "latest";
  return {
    // What is not redirected meets the application itself, which does not speak the mesh's mTLS.
    [tlsModeLabel]: labels[tlsModeLabel] ?? (redirected ? "istio" : "disabled"),
    [canonicalNameLabel]: name.slice(0, 63).replace(/[^A-Za-z0-9]+$/, ""),
    [canonicalRevisionLabel]: revision,
  };
}

function annotationsFor(
  pod: Pod,
  { native, metrics }: About,
  init: Container | undefined,
): Record<string, string> {
  const status = {
    initContainers: [...(init ? [initContainerName] : []), ...(native ? [proxyContainerName] : [])],
    containers: native ? [] : [proxyContainerName],
    volumes: proxyVolumes().map(({ name }) => name),
    imagePullSecrets: null,
  };
  const [first] = pod.spec.containers;
  const chosen = pod.metadata.annotations?.[defaultContainer];
  return {
    [statusAnnotation]: JSON.stringify(status),
    // `kubectl logs` and `exec` mean the application, not the proxy.
    ...(first && !chosen && { [defaultContainer]: first.name }),
    ...(metrics &&
      metrics.scrape !== "false" && {
        "prometheus.io/scrape": "true",
        "prometheus.io/path": "/stats/prometheus",
        "prometheus.io/port": String(ports.agent),
      }),
  };
}

const defaultContainer = "kubectl.kubernetes.io/default-container";

/** Where a container stands before anything is inserted. */
function pathOf(pod: Pod, name: string): string {
  const at = pod.spec.containers.findIndex((each) => each.name === name);
  if (at >= 0) return `/spec/containers/${at}`;
  return `/spec/initContainers/${pod.spec.initContainers!.findIndex((each) => each.name === name)}`;
}

function insertAt(
  list: readonly unknown[] | undefined,
  path: string,
  values: unknown[],
  at: number,
): JsonPatch {
  if (values.length === 0) return [];
  if (!list || list.length === 0) return [{ op: "add", path, value: values }];
  return values.map((value, i) => ({ op: "add", path: `${path}/${at + i}`, value }));
}

function merge(map: object | undefined, path: string, values: Record<string, string>): JsonPatch {
  if (!map) return [{ op: "add", path, value: values }];
  return Object.entries(values).map(([key, value]) => ({
    op: "add",
    path: `${path}/${key.replaceAll("~", "~0").replaceAll("/", "~1")}`,
    value,
  }));
}
