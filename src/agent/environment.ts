/**
 * What a proxy's container is told, as injection/ writes it: environment variables and mounted files. Names are Istio's
 * where Istio has one.
 */
import { readFile } from "node:fs/promises";
import { discoveryPorts } from "../api/index.ts";
import { type Redirection, redirectionFile } from "./redirection.ts";

export type Role = "sidecar" | "gateway";

/** Where things are in the container. */
export const files = {
  /** ServiceAccount token with the audience `istio-ca`. */
  token: "/var/run/secrets/tokens/istio-token",
  /** The mesh's roots: whom to believe that it is discovery. */
  root: "/var/run/secrets/istio/root-cert.pem",
  /** The pod's labels and annotations, by the downward API. */
  labels: "/etc/istio/pod/labels",
  annotations: "/etc/istio/pod/annotations",
  redirection: redirectionFile,
  /** What the agent writes for Envoy. */
  sds: "/etc/istio/proxy/sds",
  bootstrap: "/etc/istio/proxy/envoy-rev.json",
};

/** How one probe of the application asks, as in a container of a pod. */
export interface AppProbe {
  httpGet?: {
    path?: string;
    port: number;
    host?: string;
    scheme?: string;
    httpHeaders?: { name: string; value: string }[];
  };
  tcpSocket?: { port: number; host?: string };
  grpc?: { port: number; service?: string };
  timeoutSeconds?: number;
}

export interface Settings {
  role: Role;
  pod: { name: string; namespace: string; address: string; serviceAccount: string };
  labels: Readonly<Record<string, string>>;
  annotations: Readonly<Record<string, string>>;
  /** `istiod-basic.istio-system.svc` */
  discoveryHost: string;
  trustDomain: string;
  /** The cluster's DNS domain. */
  clusterDomain: string;
  clusterId: string;
  meshId: string;
  implementation: "embedded" | "envoy";
  /** Threads of Envoy; 0: one for each CPU. */
  concurrency: number;
  /** Every `ISTIO_META_X` and `ISTIO_METAJSON_X`, as X. */
  metadata: Readonly<Record<string, unknown>>;
  /** By path: `/app-health/catalog/readyz`. */
  appProbes: Readonly<Record<string, AppProbe>>;
  /** Where the application's own metrics are, when its pod says so. */
  appMetrics?: { port: number; path: string };
  bindAddress: string | undefined;
  /** ms: after SIGTERM we go on at least this long, for others still call us and the application is still ending. */
  minimumDrain: number;
  /** ms: and no longer than this. */
  maximumDrain: number;
  /** Seconds that our certificates are to be valid (`SECRET_TTL`); absent: as discovery has it. */
  certificateLifetime?: number;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Reads all of it. Throws Error that names the variable that is missing or cannot be read. */
export async function readSettings(role: Role, env: Environment, at = files): Promise<Settings> {
  const needed = (name: string) => {
    const value = env[name];
    if (!value) throw new Error(`the environment variable ${name} is not set; injection sets it`);
    return value;
  };
  const text = (file: string) => readFile(file, "utf8").catch(() => "");
  const [labels, annotations, redirection] = await Promise.all([
    text(at.labels),
    text(at.annotations),
    text(at.redirection),
  ]);
  const address = needed("DISCOVERY_ADDRESS");
  const implementation = env.PROXY_IMPLEMENTATION || "embedded";
  if (implementation !== "embedded" && implementation !== "envoy") {
    throw new Error(`PROXY_IMPLEMENTATION is embedded or envoy, not '${implementation}'`);
  }
  const bindAddress = redirection === "" ? undefined : (JSON.parse(redirection) as Redirection).bindAddress;
  const minimumDrain = seconds(env, "MINIMUM_DRAIN_DURATION", 5);
  const certificateLifetime = env.SECRET_TTL ? durationOf("SECRET_TTL", env.SECRET_TTL) : undefined;
  const appMetrics = metricsOf(env.ISTIO_PROMETHEUS_ANNOTATIONS);
  return {
    role,
    pod: {
      name: needed("POD_NAME"),
      namespace: needed("POD_NAMESPACE"),
      address: needed("INSTANCE_IP"),
      serviceAccount: needed("SERVICE_ACCOUNT"),
    },
    labels: downward(labels),
    annotations: downward(annotations),
    discoveryHost: address.replace(/:\d+$/, ""),
    trustDomain: env.TRUST_DOMAIN || "cluster.local",
    clusterDomain: env.CLUSTER_DOMAIN || "cluster.local",
    clusterId: env.ISTIO_META_CLUSTER_ID ?? "Kubernetes",
    meshId: env.ISTIO_META_MESH_ID ?? env.TRUST_DOMAIN ?? "cluster.local",
    implementation,
    concurrency: Number(env.PROXY_CONCURRENCY ?? 2),
    metadata: metadataOf(env),
    appProbes: jsonOf(env, "ISTIO_KUBE_APP_PROBERS"),
    ...(appMetrics && { appMetrics }),
    bindAddress,
    minimumDrain,
    ...(certificateLifetime && { certificateLifetime }),
    maximumDrain: Math.max(minimumDrain, seconds(env, "TERMINATION_DRAIN_DURATION_SECONDS", 25)),
  };
}

/** Where discovery serves xDS, and where certificates. */
export function discoveryOf({ discoveryHost }: Pick<Settings, "discoveryHost">): {
  ads: { host: string; port: number };
  certificates: string;
} {
  return {
    ads: { host: discoveryHost, port: discoveryPorts.xds },
    certificates: `https://${discoveryHost}:${discoveryPorts.webhook}/certificates`,
  };
}

function metadataOf(env: Environment): Record<string, unknown> {
  const metadata: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(env)) {
    if (value === undefined) continue;
    if (name.startsWith("ISTIO_METAJSON_")) {
      // Their keys lie beside the others, as Istio's agent has it: labels and annotations of the pod.
      metadata[name.slice("ISTIO_METAJSON_".length)] = jsonOf(env, name);
    } else if (name.startsWith("ISTIO_META_")) metadata[name.slice("ISTIO_META_".length)] = value;
  }
  return metadata;
}

function jsonOf<T>(env: Environment, name: string): Record<string, T> {
  if (!env[name]) return {};
  try {
    return JSON.parse(env[name]) as Record<string, T>;
  } catch (error) {
    throw new Error(`${name} is not JSON: ${(error as Error).message}`);
  }
}

function seconds(env: Environment, name: string, otherwise: number): number {
  const text = env[name];
  if (!text) return otherwise * 1000;
  const value = Number(text.replace(/s$/, ""));
  if (!(value >= 0)) throw new Error(`${name} is a number of seconds, not '${text}'`);
  return value * 1000;
}

/** Seconds of one of Go's durations: `24h`, `1h30m`, `90s`. */
function durationOf(name: string, text: string): number {
  const [all, hours = 0, minutes = 0, seconds = 0] = /^(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?$/.exec(text) ?? [];
  if (!all) throw new Error(`${name} is a duration as 24h or 90s, not '${text}'`);
  return Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds);
}

/** The annotations `prometheus.io/…` of the pod, that point at the agent itself once injection has rewritten them. */
function metricsOf(text: string | undefined): { port: number; path: string } | undefined {
  if (!text) return undefined;
  const { scrape, port, path } = JSON.parse(text) as { scrape?: string; port?: string; path?: string };
  if (scrape !== "true") return undefined;
  return { port: Number(port || 80), path: path || "/metrics" };
}

/** A file of the downward API: lines `key="value"`, quoted as Go's %q. */
export function downward(text: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const [, key, value] of text.matchAll(/^([^=\n]+)=("(?:[^"\\\n]|\\.)*")$/gm)) {
    found[key!] = unquote(value!);
  }
  return found;
}

function unquote(quoted: string): string {
  const simple: Record<string, string> = { n: "\n", t: "\t", r: "\r", a: "\x07", b: "\b", f: "\f", v: "\v" };
  const bytes: Buffer[] = [];
  for (const [part] of quoted
    .slice(1, -1)
    .matchAll(/\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\U[0-9a-f]{8}|\\.|[^\\]+/gs)) {
    if (part[0] !== "\\") bytes.push(Buffer.from(part));
    else if (part[1] === "x") bytes.push(Buffer.of(Number.parseInt(part.slice(2), 16)));
    else if (part.length > 2)
      bytes.push(Buffer.from(String.fromCodePoint(Number.parseInt(part.slice(2), 16))));
    else bytes.push(Buffer.from(simple[part[1]!] ?? part[1]!));
  }
  return Buffer.concat(bytes).toString();
}
