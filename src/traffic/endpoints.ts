/** The endpoints of each upstream: what changes all the time, as rows of its own. */
import { clusterLabel } from "../api/index.ts";
import type { Endpoint, LocalityEndpoints, UpstreamEndpoints } from "./model.ts";
import { isPort } from "./names.ts";
import { type MeshPort, type MeshService, serviceKey } from "./registry.ts";
import type { Instance, Instances } from "./workloads.ts";

/** Which instances an upstream has. */
export interface EndpointsSpec {
  /** `Upstream.endpointsName`. */
  name: string;
  service: string;
  port: MeshPort;
  /** Of the subset. */
  labels: Readonly<Record<string, string>>;
  /** Labels whose values localities are compared by (`failoverPriority`). */
  priorityLabels: readonly string[];
  /** Only those that speak the mesh's TLS. */
  meshTls?: boolean;
}

/** The row that an upstream's endpoints are kept in. */
export function endpointsSpec(
  service: MeshService,
  port: MeshPort,
  name: string,
  labels: Readonly<Record<string, string>>,
  priorityLabels: readonly string[] = [],
): EndpointsSpec {
  return { name, service: serviceKey(service), port, labels, priorityLabels };
}

/** The upstream's endpoints by locality. An address that is in two slices for a moment counts once. */
export function endpointsOf(spec: EndpointsSpec, slices: readonly Instances[]): UpstreamEndpoints {
  const byLocality = new Map<string, LocalityEndpoints & { endpoints: Endpoint[] }>();
  const seen = new Set<string>();
  for (const { ports, instances } of slices) {
    const slicePort = ports.find(({ name }) => name === spec.port.name)?.number;
    for (const instance of instances) {
      if (!isOfSubset(spec.labels, instance)) continue;
      const port = instance.ports ? portOfEntry(instance, spec.port) : slicePort;
      if (port === undefined || seen.has(instance.address)) continue;
      if (spec.meshTls && !speaksMeshTls(instance, port)) continue;
      seen.add(instance.address);
      const { region, zone } = instance.locality;
      const key = `${region}/${zone}`;
      let locality = byLocality.get(key);
      if (!locality) {
        locality = { region, zone, priority: 0, weight: 0, endpoints: [] };
        byLocality.set(key, locality);
      }
      locality.weight += instance.weight;
      locality.endpoints.push(endpointOf(instance, port, spec.priorityLabels));
    }
  }
  const localities = [...byLocality.keys()].sort().map((key) => byLocality.get(key)!);
  return { name: spec.name, localities };
}

/** A cluster is a label too, which no pod carries. Source: Istio, `topology.istio.io/cluster`. */
function labelOf({ labels, workload }: Instance, name: string): string | undefined {
  return name === clusterLabel ? workload.cluster : labels[name];
}

function isOfSubset(wanted: Readonly<Record<string, string>>, instance: Instance): boolean {
  for (const name in wanted) if (labelOf(instance, name) !== wanted[name]) return false;
  return true;
}

function speaksMeshTls({ meshTls, exceptPorts }: Instance, port: number): boolean {
  return meshTls !== exceptPorts.includes(port);
}

function endpointOf(instance: Instance, port: number, priorityLabels: readonly string[]): Endpoint {
  return {
    address: instance.address,
    port,
    weight: instance.weight,
    healthy: true,
    draining: false,
    meshTls: speaksMeshTls(instance, port),
    workload: instance.workload,
    hostname: instance.hostname,
    labels: priorityLabels.length > 0 ? valuesOf(priorityLabels, instance) : undefined,
  };
}

/** By the names of the labels; some of them come with the value that is compared with (`name=value`). */
function valuesOf(priorityLabels: readonly string[], instance: Instance): Record<string, string> {
  const names = priorityLabels.map((label) => label.split("=")[0]!);
  return Object.fromEntries(names.map((name) => [name, labelOf(instance, name) ?? ""]));
}

/** A WorkloadEntry names its ports; else the service's target port holds. */
export function portOfEntry(instance: Pick<Instance, "ports">, port: MeshPort): number | undefined {
  const named = instance.ports?.[port.name];
  if (isPort(named)) return named;
  return typeof port.target === "number" ? port.target : port.number;
}

/** The identities behind a service, sorted; empty where one of them is not known. */
export function identitiesOf(slices: readonly Instances[]): readonly string[] {
  const all = new Set<string>();
  for (const { instances } of slices)
    for (const { identity, meshTls, exceptPorts } of instances)
      if ((meshTls || exceptPorts.length > 0) && identity) all.add(identity);
  return [...all].sort();
}
