/** The right state of a fleet, computed from what people and controllers wrote, and the state that it is in. */
import {
  type Condition,
  type EndpointSlice,
  endpointSlices,
  type KubeObject,
  peerLabel,
  type Service,
  type ServiceExport,
  type ServiceImport,
  type ServiceOffer,
  secrets,
  serviceExports,
  serviceImports,
  services,
  systemNamespace,
} from "../../src/api/index.ts";
import type { KubeClient } from "../../src/kube/index.ts";
import { derivedName, type MergedService, mergeOffers } from "../../src/services/index.ts";
import type { Fleet } from "../support/fleet.ts";

const managedBy = "app.kubernetes.io/managed-by";
/** Derived Services carry the mark as an annotation. */
export const isOurs = ({ metadata }: KubeObject) =>
  metadata.labels?.[managedBy] === "weft" || metadata.annotations?.["weft.dev/managed-by"] === "weft";
const serviceOf = (slice: EndpointSlice) => slice.metadata.labels?.["kubernetes.io/service-name"];

/** What an author of an import by hand may give as its address. */
export const givenAddress = "1.2.3.4";

interface Inputs {
  exports: ServiceExport[];
  services: Service[];
  slices: EndpointSlice[];
  /** Written by hand. */
  imports: ServiceImport[];
  /** Itself, and those it has a Secret for. */
  knows: string[];
}

/** Per cluster, in words: imports, slices and conditions. Addresses that a cluster allocates are left out. */
export type State = Record<string, { imports: string[]; slices: string[]; conditions: string[] }>;

/** What ought to be, from scratch. Merging is the room's own function: its rules have tests of their own. */
export async function rightState(fleet: Fleet): Promise<State> {
  const inputs = new Map<string, Inputs>();
  for (const [cluster, { person }] of fleet.members) inputs.set(cluster, await inputsOf(cluster, person));
  return Object.fromEntries(
    [...inputs].map(([cluster, own]) => {
      const known = own.knows.map((name) => [name, inputs.get(name)!] as const);
      return [cluster, rightStateOf(cluster, own, new Map(known))];
    }),
  );
}

async function inputsOf(cluster: string, person: KubeClient): Promise<Inputs> {
  const not = <T extends KubeObject>({ items }: { items: T[] }) => items.filter((item) => !isOurs(item));
  const peers = await person.list(secrets, { namespace: systemNamespace, labelSelector: peerLabel });
  return {
    exports: (await person.list(serviceExports)).items,
    services: not(await person.list(services)),
    slices: not(await person.list(endpointSlices)),
    imports: not(await person.list(serviceImports)),
    knows: [cluster, ...peers.items.map(({ metadata }) => metadata.labels![peerLabel]!)],
  };
}

function rightStateOf(cluster: string, own: Inputs, known: Map<string, Inputs>): State[string] {
  const offers = new Map<string, ServiceOffer[]>();
  for (const [offerer, { exports, services }] of known) {
    for (const { metadata } of exports) {
      const service = services.find((service) => service.metadata.name === metadata.name);
      if (!service) continue;
      const offer = offerOf(offerer, metadata, service);
      offers.set(metadata.name, [...(offers.get(metadata.name) ?? []), offer]);
    }
  }
  const imports: string[] = [];
  const slices: string[] = [];
  const byHand = new Map(own.imports.map((import_) => [import_.metadata.name, import_]));
  for (const [name, { spec }] of byHand) {
    imports.push(`${name} ${spec.type} ${portTexts(spec.ports)} by hand`);
  }
  for (const [name, all] of offers) {
    if (byHand.has(name)) continue;
    const merged = mergeOffers(all);
    imports.push(`${name} ${merged.type} ${portTexts(merged.ports)} of ${merged.clusters.join(",")}`);
    for (const { spec } of all) {
      for (const slice of known.get(spec.cluster)!.slices) {
        if (serviceOf(slice) === name) slices.push(...importedText(name, slice, spec, merged));
      }
    }
  }
  const conditions = own.exports.map(({ metadata: { name } }) => {
    const all = offers.get(name) ?? [];
    if (!all.some(({ spec }) => spec.cluster === cluster)) {
      return `${name} Ready=False/Pending Valid=False/NoService`;
    }
    const reasons = mergeOffers(all).conflicts.map(({ reason }) => reason);
    const conflict = reasons.length > 0 ? `True/${reasons.join(",")}` : "False/NoConflicts";
    const ready = byHand.has(name) ? "False/Failed" : "True/Ready";
    return `${name} Conflict=${conflict} Ready=${ready} Valid=True/Valid`;
  });
  return { imports: imports.sort(), slices: slices.sort(), conditions: conditions.sort() };
}

function importedText(
  name: string,
  slice: EndpointSlice,
  offer: ServiceOffer["spec"],
  merged: MergedService,
): string[] {
  const ports = (slice.ports ?? []).flatMap((port) => {
    if (merged.type === "Headless") return `${port.name}:${port.port}`;
    const exposed = offer.ports.find((other) => (other.name ?? "") === (port.name ?? ""));
    const as = merged.ports.find(
      (other) => other.port === exposed?.port && other.protocol === exposed.protocol,
    );
    if (!as) return [];
    const names = new Set([as.name ?? "", asNamed(merged.ports)[merged.ports.indexOf(as)]?.name ?? ""]);
    return [...names].map((name) => `${name}:${port.port}`);
  });
  if (ports.length === 0) return [];
  const addresses = (slice.endpoints ?? []).flatMap((endpoint) => endpoint.addresses);
  return [`${name} ${offer.cluster} ${ports.join(",")} [${addresses.join(",")}]`];
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
    const texts = imports.map((import_) => {
      const { metadata, spec, status } = import_;
      const name = derivedName({ namespace: "demo", name: metadata.name });
      const service = derived.find((service) => service.metadata.name === name);
      unexplained.delete(name);
      const wrong: string[] = [];
      const given = !isOurs(import_) && spec.ips?.[0] === givenAddress;
      if (given && service?.spec?.clusterIP === givenAddress) wrong.push("a given address in the Service");
      const address = given ? givenAddress : service?.spec?.clusterIP;
      if (spec.type === "ClusterSetIP") {
        if (!address || spec.ips?.[0] !== address) wrong.push(`ips ${spec.ips} but Service has ${address}`);
        // A Service's ports are a map to server-side apply: their order says nothing.
        const ports = [portTexts(service?.spec?.ports ?? []), portTexts(asNamed(spec.ports))];
        const [has, wants] = ports.map((text) => text.split("+").sort().join("+"));
        if (has !== wants) wrong.push("ports of the Service");
        if (fleet.lookUp(cluster, `${metadata.name}.demo`, "A")?.[0] !== address) wrong.push("name");
      } else if (service || spec.ips) wrong.push("headless with an address");
      const ready = status?.conditions?.find(({ type }) => type === "Ready");
      if (ready?.status !== "True") wrong.push(`Ready=${ready?.status}`);
      const of = (status?.clusters ?? []).map((c) => c.cluster).join(",");
      const whose = isOurs(import_) ? `of ${of}` : "by hand";
      return [`${metadata.name} ${spec.type} ${portTexts(spec.ports)} ${whose}`, ...wrong].join("; ");
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

/** Ports as a Service has them: of several, none is without a name. */
function asNamed<P extends { name?: string; port: number; protocol?: string }>(ports: readonly P[]): P[] {
  if (ports.length === 1) return [...ports];
  return ports.map((port) => ({
    ...port,
    name: port.name || `${port.port}-${port.protocol?.toLowerCase()}`,
  }));
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
