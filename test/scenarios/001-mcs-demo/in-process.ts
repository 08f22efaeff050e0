/** What tests of seed 001 without processes ask of their fleets. */
import {
  type Condition,
  endpointSlices,
  events,
  serviceExports,
  serviceImports,
} from "../../../src/api/index.ts";
import { SimulatedWorld } from "../../../src/world/index.ts";
import { Fleet } from "../../support/fleet.ts";

/** Clusters with a control plane each, under a simulated clock. */
export async function fleetOf(...names: string[]): Promise<Fleet> {
  const fleet = await Fleet.start(new SimulatedWorld(1), names);
  for (const name of names) await fleet.startPlane(name);
  await fleet.pass(1);
  return fleet;
}

/** c1 and c2, which both export the service `serve`, with one endpoint each: 10.10.0.7 and 10.12.0.7. */
export async function bothServe(): Promise<Fleet> {
  const fleet = await fleetOf("c1", "c2");
  for (const [cluster, address] of [
    ["c1", "10.10.0.7"],
    ["c2", "10.12.0.7"],
  ] as const) {
    await fleet.makeService(cluster, "serve");
    await fleet.setEndpoints(cluster, "serve", [address]);
    await fleet.exportService(cluster, "serve");
  }
  return fleet;
}

/** A ServiceImport in the namespace demo. */
export const importOf = (fleet: Fleet, cluster: string, name: string) =>
  fleet.of(cluster).person.get(serviceImports, `demo/${name}`);

/** A condition of a ServiceExport in the namespace demo. */
export async function conditionOf(
  fleet: Fleet,
  cluster: string,
  name: string,
  type: string,
): Promise<Condition | undefined> {
  const export_ = await fleet.of(cluster).person.get(serviceExports, `demo/${name}`);
  return export_?.status?.conditions?.find((condition) => condition.type === type);
}

/** Events about objects of a name, as `type reason: message`. */
export async function eventsOn(
  fleet: Fleet,
  cluster: string,
  name: string,
  namespace = "demo",
): Promise<string[]> {
  const { items } = await fleet.of(cluster).person.list(events, { namespace });
  return items
    .filter(({ involvedObject }) => involvedObject.name === name)
    .map(({ type, reason, message }) => `${type} ${reason}: ${message}`);
}

/** What imported slices say of themselves. */
export const label = {
  service: "multicluster.kubernetes.io/service-name",
  cluster: "multicluster.kubernetes.io/source-cluster",
};

/** `TYPE=STATUS/REASON`, in order of types. */
export function texts(conditions: Condition[] | undefined): string[] {
  return (conditions ?? []).map(({ type, status, reason }) => `${type}=${status}/${reason}`).sort();
}

/** Imported slices of a cluster as `service source addresses`. */
export async function imported(fleet: Fleet, cluster: string): Promise<string[]> {
  const { items } = await fleet.of(cluster).person.list(endpointSlices, { labelSelector: label.cluster });
  return items
    .map(
      ({ metadata, endpoints }) =>
        `${metadata.labels?.[label.service]} ${metadata.labels?.[label.cluster]} ${(endpoints ?? []).flatMap(({ addresses }) => addresses).join(",")}`,
    )
    .sort();
}
