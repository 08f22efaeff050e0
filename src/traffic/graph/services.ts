/** What can be called. */
import { clusterSetZone } from "../../api/index.ts";
import { derive, flatDerive, index, joinPartitions, type Read } from "../../collections/index.ts";
import type { TrafficInputs } from "../inputs.ts";
import { entriesOf, importOf, type MeshService, serviceKey, serviceOf } from "../registry.ts";
import type { MeshGraph } from "./mesh.ts";

/** The registry, its indices, and the service of a host. */
export function serviceGraph(inputs: TrafficInputs, { meshFor }: MeshGraph) {
  const { engine } = inputs.mesh;
  // What can be called.
  const registry = joinPartitions<MeshService>(engine, { name: "registry" });
  const meshServices = derive(
    inputs.services,
    (service, read) => {
      const mesh = meshFor(service, read);
      return mesh && serviceOf(service, mesh);
    },
    { name: "meshServices" },
  );
  registry.add("1", meshServices);
  registry.add(
    "2",
    derive(
      inputs.imports,
      (service, read) => (meshFor(service, read) ? importOf(service, clusterSetZone) : undefined),
      { name: "meshImports" },
    ),
  );
  registry.add(
    "3",
    flatDerive(inputs.serviceEntries, (entry, read) => (meshFor(entry, read) ? entriesOf(entry) : []), {
      name: "meshEntries",
      key: serviceKey,
    }),
  );
  const servicesByHost = index(registry, ({ host }) => host, { name: "servicesByHost" });
  const servicesByNamespace = index(meshServices, ({ namespace }) => namespace, {
    name: "servicesByNamespace",
  });

  /** The service of a host as a client sees it: of two namespaces' its own counts. */
  const serviceAt = (host: string, client: string, read: Read): MeshService | undefined => {
    const all = read.all(servicesByHost, host);
    return all.find(({ namespace }) => namespace === client) ?? all[0];
  };
  return { registry, meshServices, servicesByHost, servicesByNamespace, serviceAt };
}

/** What it hands on. */
export type ServiceGraph = ReturnType<typeof serviceGraph>;

/** The key of a service in the joined registry. */
export function registryKey(service: MeshService): string {
  const { kind, namespace, name } = service;
  if (kind === "ServiceEntry") return `3/${serviceKey(service)}`;
  return `${kind === "Service" ? "1" : "2"}/${namespace}/${name}`;
}
