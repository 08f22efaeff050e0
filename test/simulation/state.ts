/** The right state of a fleet, computed from what people and controllers wrote, and the state that it is in. */
import {
  type Condition,
  type EndpointSlice,
  endpointSlices,
  type KubeObject,
  type Service,
  type ServiceExport,
  type ServiceOffer,
  serviceExports,
  serviceImports,
  services,
} from "../../src/api/index.ts";
import { derivedName, mergeOffers } from "../../src/services/index.ts";
import type { Fleet } from "../support/fleet.ts";

const managedBy = "app.kubernetes.io/managed-by";
const isOurs = ({ metadata }: KubeObject) => metadata.labels?.[managedBy] === "weft";
const serviceOf = (slice: EndpointSlice) => slice.metadata.labels?.["kubernetes.io/service-name"];

interface Inputs {
  exports: ServiceExport[];
  services: Service[];
  slices: EndpointSlice[];
}

/** Per cluster, in words: imports, slices and conditions. Addresses that a cluster allocates are left out. */
export type State = Record<string, { imports: string[]; slices: string[]; conditions: string[] }>;

/** What ought to be, from scratch. Merging is the room's own function: its rules have tests of their own. */
export async function rightState(fleet: Fleet): Promise<State> {
  const inputs = new Map<string, Inputs>();
  for (const [cluster, { person }] of fleet.members) {
    const all = await person.list(endpointSlices);
    inputs.set(cluster, {
      exports: (await person.list(serviceExports)).items,
      services: (await person.list(services)).items.filter((service) => !isOurs(service)),
      slices: all.items.filter((slice) => !isOurs(slice)),
    });
  }
  const offers = new Map<string, ServiceOffer[]>();
  for (const [cluster, { exports, services }] of inputs) {
    for (const { metadata } of exports) {
      const service = services.find((service) => service.metadata.name === metadata.name);
      if (!service) continue;
      const offer = offerOf(cluster, metadata, service);
      offers.set(metadata.name, [...(offers.get(metadata.name) ?? []), offer]);
    }
  }
  const state: State = {};
  for (const [cluster, own] of inputs) {
    const imports: string[] = [];
    const slices: string[] = [];
    const conditions: string[] = [];
    for (const [name, all] of offers) {
      const merged = mergeOffers(all);
      imports.push(`${name} ${merged.type} ${portTexts(merged.ports)} of ${merged.clusters.join(",")}`);
      for (const { spec } of all) {
        for (const slice of inputs.get(spec.cluster)!.slices) {
          if (serviceOf(slice) !== name) continue;
          const ports = (slice.ports ?? []).flatMap((port) => {
            if (merged.type === "Headless") return `${port.name}:${port.port}`;
            const exposed = spec.ports.find((other) => (other.name ?? "") === (port.name ?? ""));
            const as = merged.ports.find(
              (other) => other.port === exposed?.port && other.protocol === exposed.protocol,
            );
            return as ? `${as.name ?? ""}:${port.port}` : [];
          });
          if (ports.length === 0) continue;
          const addresses = (slice.endpoints ?? []).flatMap((endpoint) => endpoint.addresses);
          slices.push(`${name} ${spec.cluster} ${ports.join(",")} [${addresses.join(",")}]`);
        }
      }
    }
    for (const { metadata } of own.exports) {
      const taking = offers.get(metadata.name)?.some(({ spec }) => spec.cluster === cluster);
      const reasons = taking
        ? mergeOffers(offers.get(metadata.name)!).conflicts.map(({ reason }) => reason)
        : [];
      const texts = taking
        ? [
            `Conflict=${reasons.length > 0 ? "True" : "False"}/${reasons.join(",") || "NoConflicts"}`,
            "Ready=True/Exported",
            "Valid=True/Valid",
          ]
        : ["Ready=False/Pending", "Valid=False/NoService"];
      conditions.push(`${metadata.name} ${texts.join(" ")}`);
    }
    state[cluster] = { imports: imports.sort(), slices: slices.sort(), conditions: conditions.sort() };
  }
  return state;
}

/** What is, and with it what must agree within a cluster: imports, derived Services and their addresses. */
export async function actualState(fleet: Fleet): Promise<State> {
  const state: State = {};
  for (const [cluster, { person, plane }] of fleet.members) {
    const { items: imports } = await person.list(serviceImports);
    const { items: slices } = await person.list(endpointSlices);
    const { items: exports } = await person.list(serviceExports);
    const derived = (await person.list(services)).items.filter(isOurs);
    const unexplained = new Set(derived.map(({ metadata }) => metadata.name));
    const texts = imports.map(({ metadata, spec, status }) => {
      const name = derivedName({ namespace: "demo", name: metadata.name });
      const service = derived.find((service) => service.metadata.name === name);
      unexplained.delete(name);
      const wrong: string[] = [];
      const address = service?.spec?.clusterIP;
      if (spec.type === "ClusterSetIP") {
        if (!address || spec.ips?.[0] !== address) wrong.push(`ips ${spec.ips} but Service has ${address}`);
        // A Service's ports are a map to server-side apply: their order says nothing.
        const ports = [portTexts(service?.spec?.ports ?? []), portTexts(spec.ports)];
        const [has, wants] = ports.map((text) => text.split("+").sort().join("+"));
        if (has !== wants) wrong.push("ports of the Service");
        if (fleet.lookUp(cluster, `${metadata.name}.demo`, "A")?.[0] !== address) wrong.push("name");
      } else if (service || spec.ips) wrong.push("headless with an address");
      const ready = status?.conditions?.find(({ type }) => type === "Ready");
      if (ready?.status !== "True") wrong.push(`Ready=${ready?.status}`);
      const of = (status?.clusters ?? []).map((c) => c.cluster).join(",");
      return [`${metadata.name} ${spec.type} ${portTexts(spec.ports)} of ${of}`, ...wrong].join("; ");
    });
    for (const name of unexplained) texts.push(`derived Service ${name} without an import`);
    for (const [name, sink] of plane?.sinks ?? []) {
      if (sink.waiting > 0 || sink.held > 0)
        texts.push(`${name}: ${sink.waiting} waiting, ${sink.held} held`);
    }
    state[cluster] = {
      imports: texts.sort(),
      slices: slices.filter(isOurs).map(sliceText).sort(),
      conditions: exports
        .map(({ metadata, status }) => `${metadata.name} ${conditionTexts(status?.conditions)}`)
        .sort(),
    };
  }
  return state;
}

function offerOf(
  cluster: string,
  { name, namespace, creationTimestamp }: ServiceExport["metadata"],
  { spec = {} }: Service,
): ServiceOffer {
  return {
    apiVersion: "offer.weft.dev/v1alpha1",
    kind: "ServiceOffer",
    metadata: { name, ...(namespace && { namespace }) },
    spec: {
      cluster,
      type: spec.clusterIP === "None" ? "Headless" : "ClusterSetIP",
      ports: (spec.ports ?? []).map(({ name, port }) => ({ ...(name && { name }), protocol: "TCP", port })),
      sessionAffinity: (spec.sessionAffinity ?? "None") as "None" | "ClientIP",
      ...(spec.sessionAffinityConfig && { sessionAffinityConfig: spec.sessionAffinityConfig }),
      ...(spec.ipFamilies && { ipFamilies: spec.ipFamilies }),
      ...(spec.internalTrafficPolicy && { internalTrafficPolicy: spec.internalTrafficPolicy }),
      exportedAt: creationTimestamp ?? "",
    },
  };
}

function portTexts(ports: readonly { name?: string; port: number; protocol?: string }[]): string {
  return ports.map(({ name = "", port, protocol = "TCP" }) => `${name}:${port}/${protocol}`).join("+");
}

function sliceText(slice: EndpointSlice): string {
  const labels = slice.metadata.labels ?? {};
  const service = labels["multicluster.kubernetes.io/service-name"];
  const cluster = labels["multicluster.kubernetes.io/source-cluster"];
  const ports = (slice.ports ?? []).map(({ name, port }) => `${name}:${port}`).join(",");
  const addresses = (slice.endpoints ?? []).flatMap((endpoint) => endpoint.addresses);
  return `${service} ${cluster} ${ports} [${addresses.join(",")}]`;
}

function conditionTexts(conditions: readonly Condition[] | undefined): string {
  return (conditions ?? [])
    .map(({ type, status, reason }) => `${type}=${status}/${reason}`)
    .sort()
    .join(" ");
}
