/**
 * What a pod's annotations say about its sidecar, read and checked. What is wrong is refused with a sentence that
 * names the annotation; what is not served is a warning, never silence.
 * Source: istio.io "Resource Annotations"; Istio `pkg/kube/inject/validate.go`.
 */
import { parse } from "yaml";
import { isRange } from "../addresses/index.ts";
import type { Container, MeshSettings, Pod, Volume } from "../api/index.ts";
import type { Resources } from "./container.ts";
import { implementationAnnotation, injectKey, statusAnnotation } from "./names.ts";

/** The pod cannot get the sidecar that it asks for: the sentence is for whoever creates it. */
export class InjectionRefused extends Error {}

export interface SidecarSettings {
  implementation?: MeshSettings["proxy"]["implementation"];
  resources?: Resources;
  concurrency?: number;
  drainSeconds?: number;
  /** Where the cluster has native sidecars; undefined: yes. */
  native?: boolean;
  /** Without native sidecars: whether the application waits for the proxy. */
  hold: boolean;
  rewriteProbes: boolean;
  /** None where the pod wants no redirection (interceptionMode NONE). */
  redirection?: string[];
  env: { name: string; value: string }[];
  /** The pod's author's, beside our own: files that DestinationRules name, for example. */
  volumes: Volume[];
  mounts: VolumeMount[];
  warnings: string[];
}

type VolumeMount = NonNullable<Container["volumeMounts"]>[number];

const sidecar = (name: string) => `sidecar.istio.io/${name}`;
const traffic = (name: string) => `traffic.sidecar.istio.io/${name}`;
const configAnnotation = "proxy.istio.io/config";
const resourceAnnotations = {
  [sidecar("proxyCPU")]: ["requests", "cpu"],
  [sidecar("proxyMemory")]: ["requests", "memory"],
  [sidecar("proxyCPULimit")]: ["limits", "cpu"],
  [sidecar("proxyMemoryLimit")]: ["limits", "memory"],
} as const;

/** Annotations of traffic and the flags of `weft proxy-init` that they become. */
const redirections: Record<string, { flag: string; of: "ports" | "ranges"; usually: string }> = {
  [traffic("includeInboundPorts")]: { flag: "--include-inbound-ports", of: "ports", usually: "*" },
  [traffic("excludeInboundPorts")]: { flag: "--exclude-inbound-ports", of: "ports", usually: "" },
  [traffic("includeOutboundIPRanges")]: { flag: "--include-outbound-ip-ranges", of: "ranges", usually: "*" },
  [traffic("excludeOutboundIPRanges")]: { flag: "--exclude-outbound-ip-ranges", of: "ranges", usually: "" },
  [traffic("includeOutboundPorts")]: { flag: "--include-outbound-ports", of: "ports", usually: "" },
  [traffic("excludeOutboundPorts")]: { flag: "--exclude-outbound-ports", of: "ports", usually: "" },
};

const served = new Set([
  injectKey,
  statusAnnotation,
  implementationAnnotation,
  configAnnotation,
  sidecar("nativeSidecar"),
  sidecar("interceptionMode"),
  sidecar("rewriteAppHTTPProbers"),
  sidecar("userVolume"),
  sidecar("userVolumeMount"),
  ...Object.keys(resourceAnnotations),
  ...Object.keys(redirections),
]);

/** Throws InjectionRefused for values that cannot be. */
export function readSettings(pod: Pick<Pod, "metadata">): SidecarSettings {
  const annotations = pod.metadata.annotations ?? {};
  const warnings = Object.keys(annotations)
    .filter((key) => /^(?:[a-z]+\.)*sidecar\.istio\.io\/|^(?:proxy|inject)\.istio\.io\//.test(key))
    .filter((key) => !served.has(key))
    .map((key) => `annotation ${key} is not served: it has no effect`);
  const config = readConfig(annotations[configAnnotation], warnings);
  const implementation = choice(annotations, implementationAnnotation, ["envoy", "embedded"] as const);
  const native = flag(annotations, sidecar("nativeSidecar"));
  const mode = choice(annotations, sidecar("interceptionMode"), ["REDIRECT", "NONE", "TPROXY"] as const);
  if (mode === "TPROXY") refuse(sidecar("interceptionMode"), "TPROXY", "REDIRECT or NONE is served");
  const resources = readResources(annotations);
  return {
    ...config,
    ...(implementation && { implementation }),
    ...(resources && { resources }),
    ...(native !== undefined && { native }),
    hold: config.hold ?? true,
    volumes: readVolumes<Volume>(annotations, sidecar("userVolume")),
    mounts: readVolumes<VolumeMount>(annotations, sidecar("userVolumeMount")),
    rewriteProbes: flag(annotations, sidecar("rewriteAppHTTPProbers")) ?? true,
    ...(mode !== "NONE" && { redirection: readRedirection(annotations) }),
    warnings,
  };
}

/** The fields of ProxyConfig that count. Source: istio/api `mesh/v1alpha1/proxy.proto`. */
function readConfig(
  text: string | undefined,
  warnings: string[],
): Pick<SidecarSettings, "concurrency" | "drainSeconds" | "env"> & { hold?: boolean } {
  if (text === undefined) return { env: [] };
  let config: unknown;
  try {
    config = parse(text);
  } catch (error) {
    refuse(configAnnotation, text, `no YAML: ${error instanceof Error ? error.message.split("\n")[0] : ""}`);
  }
  if (typeof config !== "object" || config === null || Array.isArray(config)) {
    refuse(configAnnotation, text, "it holds fields of ProxyConfig");
  }
  const {
    concurrency,
    holdApplicationUntilProxyStarts: hold,
    terminationDrainDuration: drain,
    proxyMetadata: metadata,
    ...others
  } = config as Record<string, unknown>;
  for (const name of Object.keys(others)) {
    warnings.push(`annotation ${configAnnotation}: ${name} is not served: it has no effect`);
  }
  const wrong = (name: string, value: unknown, says: string) =>
    refuse(`${configAnnotation}: ${name}`, value, says);
  if (concurrency !== undefined && (!Number.isInteger(concurrency) || Number(concurrency) < 0)) {
    wrong("concurrency", concurrency, "a number of threads, 0 for one on each CPU");
  }
  if (hold !== undefined && typeof hold !== "boolean") {
    wrong("holdApplicationUntilProxyStarts", hold, "true or false");
  }
  const seconds = typeof drain === "string" ? secondsOf(drain) : undefined;
  if (drain !== undefined && seconds === undefined) {
    wrong("terminationDrainDuration", drain, "a duration as 5s or 1m30s");
  }
  if (metadata !== undefined && (typeof metadata !== "object" || metadata === null)) {
    wrong("proxyMetadata", metadata, "names and values of environment variables");
  }
  return {
    ...(concurrency !== undefined && { concurrency: Number(concurrency) }),
    ...(hold !== undefined && { hold: Boolean(hold) }),
    ...(seconds !== undefined && { drainSeconds: seconds }),
    env: Object.entries(metadata ?? {}).map(([name, value]) => ({ name, value: String(value) })),
  };
}

/** Go's durations, as far as they are whole seconds or more. */
function secondsOf(text: string): number | undefined {
  const [, hours = 0, minutes = 0, seconds = 0] =
    /^(?=\d)(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?$/.exec(text) ?? [];
  const sum = Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds);
  return /^(?=\d)(?:\d+h)?(?:\d+m)?(?:\d+(?:\.\d+)?s)?$/.test(text) ? Math.ceil(sum) : undefined;
}

type Annotations = Readonly<Record<string, string>>;

/** When one is given, none of the mesh's count (as in Istio's template). */
function readResources(annotations: Annotations): Resources | undefined {
  const given = Object.entries(resourceAnnotations).filter(([key]) => annotations[key] !== undefined);
  if (given.length === 0) return undefined;
  const resources: { requests?: Record<string, string>; limits?: Record<string, string> } = {};
  for (const [key, [kind, name]] of given) {
    const value = annotations[key]!;
    if (!/^\d+(?:\.\d+)?(?:[numkMGTPE]|[KMGTPE]i)?$/.test(value)) {
      refuse(key, value, "a quantity as 100m or 128Mi");
    }
    resources[kind] = { ...resources[kind], [name]: value };
  }
  return resources;
}

function readRedirection(annotations: Annotations): string[] {
  return Object.entries(redirections).flatMap(([key, { flag, of, usually }]) => {
    const value = (annotations[key] ?? usually).replace(/\s/g, "");
    const entries = value === "" ? [] : value.split(",").filter((entry) => entry !== "");
    for (const entry of entries) {
      const all = entry === "*" && entries.length === 1;
      if (!all && !(of === "ports" ? isPort(entry) : isRange(entry))) {
        refuse(key, entry, of === "ports" ? "ports as 8080,9090 or *" : "ranges as 10.0.0.0/8 or *");
      }
    }
    return value === "" ? [] : [`${flag}=${entries.join(",")}`];
  });
}

/**
 * A list of volumes or of mounts, as JSON; volumes may also be an object by name. Source: Istio's template, `userVolume`
 * and `userVolumeMount`. What a volume holds is for the API server to check.
 */
function readVolumes<T extends { name: string }>(annotations: Annotations, key: string): T[] {
  const text = annotations[key];
  if (!text) return [];
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    refuse(key, text, `no JSON: ${error instanceof Error ? error.message : ""}`);
  }
  const list = Array.isArray(value)
    ? value
    : Object.entries(value ?? {}).map(([name, each]) => ({ name, ...(each as object) }));
  const ours = list.every((each: unknown) => typeof (each as { name?: unknown } | null)?.name === "string");
  return ours ? (list as T[]) : refuse(key, text, "a list of objects with a name");
}

function isPort(text: string): boolean {
  const [from = 0, to = from, ...more] = text
    .split("-")
    .map((part) => (/^\d+$/.test(part) ? Number(part) : -1));
  return more.length === 0 && from > 0 && to >= from && to <= 65_535;
}

/** Go's and YAML's words for true and false (Istio takes both). */
const words: Record<string, boolean> = {
  ...{ true: true, yes: true, y: true, on: true, "1": true, t: true },
  ...{ false: false, no: false, n: false, off: false, "0": false, f: false },
};

/** Undefined where the pod does not say. Throws InjectionRefused for a word that is neither. */
export function flag(annotations: Annotations, key: string): boolean | undefined {
  const value = annotations[key];
  if (value === undefined || value === "") return undefined;
  const known = words[value.toLowerCase()];
  if (known === undefined) refuse(key, value, "true or false");
  return known;
}

function choice<T extends string>(
  annotations: Annotations,
  key: string,
  choices: readonly T[],
): T | undefined {
  const value = annotations[key];
  if (value === undefined) return undefined;
  const known = choices.find((each) => each === value);
  if (!known) refuse(key, value, choices.join(" or "));
  return known;
}

function refuse(key: string, value: unknown, says: string): never {
  throw new InjectionRefused(`${key}: '${String(value)}' cannot be; ${says}`);
}
