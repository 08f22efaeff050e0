/** Who answers: pods and what ServiceEntries select, where they are, what mTLS they take. */
import {
  clusterSetZone,
  type MeshSettings,
  peerModeOf,
  peerPolicyOf,
  refusalOf,
  tlsModeLabel,
} from "../../api/index.ts";
import { derive, index, joinPartitions, type Read } from "../../collections/index.ts";
import { identitiesOf } from "../endpoints.ts";
import type { TrafficInputs } from "../inputs.ts";
import { serviceKey } from "../registry.ts";
import {
  type Instances,
  identityOf,
  instanceOfEntry,
  instancesOf,
  localityOf,
  selects,
  servicesOfSlice,
  type Workload,
  workloadOf,
} from "../workloads.ts";
import type { MeshGraph } from "./mesh.ts";
import type { ServiceGraph } from "./services.ts";

/** Instances of services, the identities behind them, and the mTLS that workloads take. */
export function instanceGraph(
  inputs: TrafficInputs,
  { meshOf, meshFor }: MeshGraph,
  { registry }: ServiceGraph,
) {
  const { engine } = inputs.mesh;
  // Who answers: pods, where they are, what mTLS they take.
  const peerPolicies = derive(
    inputs.peerAuthentications,
    (policy, read) => (meshFor(policy, read) ? peerPolicyOf(policy) : undefined),
    { name: "peerPolicies" },
  );
  const peerPoliciesByNamespace = index(peerPolicies, ({ namespace }) => namespace, {
    name: "peerPoliciesByNamespace",
  });
  const peerModeFor = (
    namespace: string,
    labels: Readonly<Record<string, string>>,
    mesh: MeshSettings,
    read: Read,
  ) =>
    peerModeOf(
      labels,
      read.all(peerPoliciesByNamespace, namespace),
      read.all(peerPoliciesByNamespace, mesh.namespace),
      mesh,
    );
  const workloads = derive(
    inputs.pods,
    (pod, read) => {
      const mesh = meshOf(read);
      return mesh && workloadOf(pod, mesh);
    },
    { name: "workloads" },
  );
  const workloadsByAddress = index(
    workloads,
    ({ addresses, hostNetwork }) => (hostNetwork ? [] : addresses),
    { name: "workloadsByAddress" },
  );
  const localities = derive(inputs.nodes, localityOf, { name: "localities" });
  const mtlsOf = (workload: Workload, mesh: MeshSettings, read: Read) => {
    if (workload.labels[tlsModeLabel] !== "istio") return { meshTls: false, exceptPorts: [] };
    const { plainText, exceptPorts } = refusalOf(
      peerModeFor(workload.namespace, workload.labels, mesh, read),
    );
    return { meshTls: !plainText, exceptPorts };
  };
  const sliceInstances = derive(
    inputs.endpointSlices,
    (slice, read): Instances | undefined => {
      const mesh = meshFor(slice, read);
      if (!mesh) return undefined;
      const services = servicesOfSlice(slice, mesh, clusterSetZone);
      if (services.length === 0) return undefined;
      return instancesOf(slice, services, {
        pod: (name) => read.get(workloads, name),
        podAt: (address) => read.all(workloadsByAddress, address)[0],
        locality: (node) => read.get(localities, node),
        mtls: (workload) => mtlsOf(workload, mesh, read),
        trustDomain: mesh.trustDomain,
        cluster: mesh.cluster,
      });
    },
    { name: "sliceInstances" },
  );
  // Pods and WorkloadEntries that ServiceEntries select.
  const workloadsByNamespace = index(workloads, ({ namespace }) => namespace, {
    name: "workloadsByNamespace",
  });
  const entriesByNamespace = index(inputs.workloadEntries, ({ metadata }) => metadata.namespace ?? "", {
    name: "workloadEntriesByNamespace",
  });
  const selectedInstances = derive(
    registry,
    (service, read): Instances | undefined => {
      const mesh = meshOf(read);
      if (!mesh || service.resolution !== "selected") return undefined;
      const pods = read
        .all(workloadsByNamespace, service.namespace)
        .filter(({ labels, addresses }) => addresses.length > 0 && selects(service.selector, labels))
        .map((workload) => ({
          address: workload.addresses[0]!,
          locality: read.get(localities, workload.node) ?? { region: "", zone: "" },
          labels: workload.labels,
          weight: 1,
          ...mtlsOf(workload, mesh, read),
          identity: identityOf(mesh.trustDomain, workload.namespace, workload.serviceAccount),
          workload: workload.workload,
          ports: {},
        }));
      const entries = read
        .all(entriesByNamespace, service.namespace)
        .flatMap((entry) => instanceOfEntry(entry) ?? [])
        .filter(({ labels }) => selects(service.selector, labels));
      return { services: [serviceKey(service)], ports: [], instances: [...pods, ...entries] };
    },
    { name: "selectedInstances" },
  );
  const instances = joinPartitions<Instances>(engine, { name: "instances" });
  instances.add("slices", sliceInstances);
  instances.add("selected", selectedInstances);
  const instancesByService = index(instances, ({ services }) => services, { name: "instancesByService" });
  const identities = derive(
    instancesByService,
    (slices) => ({
      identities: identitiesOf(slices),
      allMesh: slices.every(({ instances }) => instances.every(({ meshTls }) => meshTls)),
    }),
    { name: "identities" },
  );

  return { peerModeFor, workloads, workloadsByNamespace, instances, instancesByService, identities };
}

/** What it hands on. */
export type InstanceGraph = ReturnType<typeof instanceGraph>;
