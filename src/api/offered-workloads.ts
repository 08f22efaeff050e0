/**
 * What clusters know of each other's endpoints besides addresses, and how a cluster keeps it: peers' objects are read by
 * the control plane alone (law 1), so on each slice that it imports an annotation says it to whoever reads slices.
 */
import type { EndpointSlice } from "./core.ts";
import { endpointFactsAnnotation } from "./names.ts";
import type { OfferedEndpoint, OfferedWorkload } from "./offer.ts";

/** Labels of a pod that are offered with its endpoints: what its workload is called, and its version. */
export function isOfferedLabel(name: string): boolean {
  return (
    name === "app" ||
    name === "version" ||
    name === "service.istio.io/canonical-name" ||
    name === "service.istio.io/canonical-revision" ||
    /^app\.kubernetes\.io\/(?:name|instance|version|component|part-of)$/.test(name)
  );
}

/**
 * The Deployment, StatefulSet, … that made a pod. A ReplicaSet's is the Deployment whose name it has before the hash.
 * Source: Istio `pkg/kube/inject/webhook.go` (GetDeployMetaFromPod).
 */
export function workloadName(
  pod: string,
  owners: readonly { kind: string; name: string; controller?: boolean }[] | undefined,
  labels: Readonly<Record<string, string>>,
): string {
  const owner = owners?.find(({ controller }) => controller);
  if (!owner) return pod;
  const hash = labels["pod-template-hash"];
  if (owner.kind === "ReplicaSet" && hash && owner.name.endsWith(`-${hash}`))
    return owner.name.slice(0, -hash.length - 1);
  return owner.name;
}

/** What is known of an endpoint of another cluster besides what its slice has fields for. */
export interface EndpointFacts {
  region?: string;
  workload?: OfferedWorkload;
}

/** Workloads once each; by an endpoint's address the place of its workload among them (-1: none), and its region. */
interface Written {
  workloads: OfferedWorkload[];
  endpoints: Record<string, [workload: number, region?: string]>;
}

/** An object's annotations may have 256 KiB in all. */
const longest = 128 * 1024;

/** The annotation's value; undefined where there is nothing to say, or so much that no object could hold it. */
export function writeEndpointFacts(
  endpoints: readonly Pick<OfferedEndpoint, "addresses" | "region" | "workload">[],
): string | undefined {
  const written: Written = { workloads: [], endpoints: {} };
  const places = new Map<string, number>();
  for (const { addresses, region, workload } of endpoints) {
    const [address] = addresses;
    if (address === undefined || (!region && !workload)) continue;
    const text = workload ? JSON.stringify(workload) : "";
    let place = workload ? places.get(text) : -1;
    if (place === undefined) {
      place = written.workloads.push(workload!) - 1;
      places.set(text, place);
    }
    written.endpoints[address] = region ? [place, region] : [place];
  }
  if (Object.keys(written.endpoints).length === 0) return undefined;
  const text = JSON.stringify(written);
  return text.length <= longest ? text : undefined;
}

/** By address. What is not of that form is as if it were not there. */
export function readEndpointFacts(slice: EndpointSlice): ReadonlyMap<string, EndpointFacts> {
  const facts = new Map<string, EndpointFacts>();
  const text = slice.metadata.annotations?.[endpointFactsAnnotation];
  if (!text) return facts;
  try {
    const { workloads, endpoints } = JSON.parse(text) as Written;
    for (const [address, [place, region]] of Object.entries(endpoints)) {
      const workload = workloads[place];
      facts.set(address, {
        ...(typeof region === "string" && { region }),
        ...(isOfferedWorkload(workload) && { workload }),
      });
    }
  } catch {
    facts.clear();
  }
  return facts;
}

const isText = (value: unknown, most = 253): value is string =>
  typeof value === "string" && value.length > 0 && value.length <= most && /^[\w.-]+$/.test(value);

/** Whether it is one: a peer, or whoever wrote an annotation, may have sent anything. */
export function isOfferedWorkload(value: unknown): value is OfferedWorkload {
  if (typeof value !== "object" || value === null) return false;
  const { name, serviceAccount, trustDomain, labels, plainText, exceptPorts } = value as Partial<
    Record<string, unknown>
  >;
  if (!isText(name) || !isText(serviceAccount) || !isText(trustDomain, 255)) return false;
  if (plainText !== undefined && typeof plainText !== "boolean") return false;
  if (exceptPorts !== undefined && !(Array.isArray(exceptPorts) && exceptPorts.every(Number.isInteger)))
    return false;
  if (labels === undefined) return true;
  return (
    typeof labels === "object" &&
    labels !== null &&
    Object.entries(labels).every(([key, text]) => isOfferedLabel(key) && (text === "" || isText(text, 63)))
  );
}
