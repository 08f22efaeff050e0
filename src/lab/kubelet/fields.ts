/**
 * What a pod may learn about itself: fields of its object and the resources of its containers, for variables and
 * downwardAPI volumes. Source: kubernetes `pkg/fieldpath/fieldpath.go`, `pkg/api/v1/resource/helpers.go`.
 */
import type { Container, Pod } from "../../api/index.ts";

/** What is known on the node and not yet in the pod's status. */
export interface PodPlace {
  podIP: string | undefined;
  hostIP: string;
}

/** Throws RangeError for a path that the API does not offer. */
export function fieldValue(pod: Pod, path: string, place: PodPlace): string {
  const { metadata, spec } = pod;
  const subscript = /^metadata\.(labels|annotations)\['([^']+)'\]$/.exec(path);
  if (subscript) return metadata[subscript[1] as "labels" | "annotations"]?.[subscript[2]!] ?? "";
  switch (path) {
    case "metadata.name":
      return metadata.name;
    case "metadata.namespace":
      return metadata.namespace ?? "";
    case "metadata.uid":
      return metadata.uid ?? "";
    case "metadata.labels":
      return formatMap(metadata.labels);
    case "metadata.annotations":
      return formatMap(metadata.annotations);
    case "spec.nodeName":
      return spec.nodeName ?? "";
    case "spec.serviceAccountName":
      return spec.serviceAccountName ?? "";
    case "status.hostIP":
    case "status.hostIPs":
      return place.hostIP;
    case "status.podIP":
    case "status.podIPs":
      return place.podIP ?? "";
    default:
      throw new RangeError(`unsupported fieldPath: ${path}`);
  }
}

function formatMap(map: Record<string, string> | undefined): string {
  return Object.entries(map ?? {})
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${name}=${JSON.stringify(value)}`)
    .join("\n");
}

const suffixes: Record<string, number> = {
  m: 1e-3,
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

/** A resource quantity as a number; NaN for what is none. Source: apimachinery `pkg/api/resource/quantity.go`. */
export function parseQuantity(text: string): number {
  const match = /^([+-]?\d*\.?\d+)(?:[eE]([+-]?\d+))?([a-zA-Z]*)$/.exec(text);
  if (!match) return Number.NaN;
  return Number(match[1]) * 10 ** Number(match[2] ?? 0) * (suffixes[match[3] ?? ""] ?? Number.NaN);
}

/** `limits.cpu` and the like; what is not limited is what the node has. Rounded up to a multiple of the divisor. */
export function resourceValue(
  container: Container,
  resource: string,
  divisor: string,
  capacity: PodCapacity,
): string {
  const [kind, name = ""] = resource.split(/\.(.*)/);
  const resources = container.resources ?? {};
  const stated =
    kind === "limits" ? resources.limits?.[name] : (resources.requests?.[name] ?? resources.limits?.[name]);
  const nothing = kind === "limits" ? capacity[name as keyof PodCapacity] : 0;
  const value = stated === undefined ? (nothing ?? 0) : parseQuantity(String(stated));
  const unit = divisor === "0" || divisor === "" ? 1 : parseQuantity(divisor);
  return String(Math.ceil(value / unit - 1e-9));
}

/** Cores and bytes of the node. */
export interface PodCapacity {
  cpu: number;
  memory: number;
  "ephemeral-storage": number;
}
