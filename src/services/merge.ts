/**
 * What all clusters' offers of one service add up to (KEP-1645 "Constraints and Conflict Resolution").
 * A function of the offers alone, whatever their order: every cluster computes the same (law 1).
 */
import { nameOf, type OfferedPort, type ServiceImportType, type ServiceOffer } from "../api/index.ts";
import { equal } from "../collections/index.ts";
import { strangeAnnotation, strangeLabel } from "./labels.ts";
import type { ConflictReason } from "./reasons.ts";

export interface OfferConflict {
  reason: ConflictReason;
  /** Names the field, what is used, whose it is and how many disagree. */
  message: string;
}

export interface MergedService {
  namespace: string;
  name: string;
  type: ServiceImportType;
  ports: OfferedPort[];
  /** Families in which every cluster has endpoints; those of the oldest export when there are none. */
  ipFamilies: string[];
  sessionAffinity?: "None" | "ClientIP";
  sessionAffinityConfig?: ServiceOffer["spec"]["sessionAffinityConfig"];
  internalTrafficPolicy?: string;
  trafficDistribution?: string;
  labels: Record<string, string>;
  annotations: Record<string, string>;
  /** The clusters that offer it, in the order of their names. */
  clusters: string[];
  conflicts: OfferConflict[];
}

type Spec = ServiceOffer["spec"];

/** Merges the offers of one service, at least one, at most one per cluster. */
export function mergeOffers(offers: readonly ServiceOffer[]): MergedService {
  const specs = offers.map(({ spec }) => spec).sort(byPrecedence);
  const oldest = specs[0]!;
  const conflicts: OfferConflict[] = [];
  const all = specs.length;

  const report = (reason: ConflictReason, field: string, using: string, disagree: number) => {
    if (disagree === 0) return;
    const noun = all === 1 ? "cluster" : "clusters";
    conflicts.push({
      reason,
      message: `Conflicting ${field}. Using ${using} from oldest service export in "${oldest.cluster}". ${disagree}/${all} ${noun} disagree.`,
    });
  };
  /** The oldest export's value, and a conflict when another has another. */
  const oldestWins = <V>(reason: ConflictReason, field: string, of: (spec: Spec) => V): V => {
    const value = of(oldest);
    const using = value === undefined ? "none" : JSON.stringify(value);
    report(reason, field, using, specs.filter((spec) => !equal(of(spec), value)).length);
    return value;
  };

  const ports = mergePorts(specs);
  const disagree = specs.filter((spec) => !samePorts(spec.ports, oldest.ports)).length;
  if (disagree > 0) {
    conflicts.push({
      reason: "PortConflict",
      message: `Conflicting ports. Using ${ports.map(portText).join(", ") || "none"}, merged with precedence to the oldest service export in "${oldest.cluster}". ${disagree}/${all} clusters disagree.`,
    });
  }
  const type = oldestWins("TypeConflict", "type", (spec) => spec.type);
  // A headless service has no address that an affinity could hold to.
  const affine = type === "ClusterSetIP";
  const sessionAffinity = affine
    ? oldestWins("SessionAffinityConflict", "sessionAffinity", (spec) => spec.sessionAffinity ?? "None")
    : undefined;
  const sessionAffinityConfig = affine
    ? oldestWins(
        "SessionAffinityConfigConflict",
        "sessionAffinityConfig",
        (spec) => spec.sessionAffinityConfig,
      )
    : undefined;
  // A peer that offers what no API server takes must not keep the import from being written.
  const labels = oldestWins("LabelsConflict", "exportedLabels", ({ exportedLabels }) =>
    exportedLabels && !strangeLabel(exportedLabels) ? exportedLabels : {},
  );
  const annotations = oldestWins("AnnotationsConflict", "exportedAnnotations", ({ exportedAnnotations }) =>
    exportedAnnotations && !strangeAnnotation(exportedAnnotations) ? exportedAnnotations : {},
  );
  const internalTrafficPolicy = oldestWins(
    "InternalTrafficPolicyConflict",
    "internalTrafficPolicy",
    (spec) => spec.internalTrafficPolicy,
  );
  const trafficDistribution = oldestWins(
    "TrafficDistributionConflict",
    "trafficDistribution",
    (spec) => spec.trafficDistribution,
  );
  const families = familiesOf(oldest);
  const shared = families.filter((family) => specs.every((spec) => familiesOf(spec).includes(family)));
  const ipFamilies = shared.length > 0 ? shared : families;
  report(
    "IPFamilyConflict",
    "ipFamilies",
    JSON.stringify(ipFamilies),
    specs.filter((spec) => !ipFamilies.every((family) => familiesOf(spec).includes(family))).length,
  );

  const { namespace = "", name } = offers[0]!.metadata;
  return {
    namespace,
    name,
    type,
    ports,
    ipFamilies,
    ...(sessionAffinity && { sessionAffinity }),
    ...(sessionAffinityConfig && { sessionAffinityConfig }),
    ...(internalTrafficPolicy && { internalTrafficPolicy }),
    ...(trafficDistribution && { trafficDistribution }),
    labels,
    annotations,
    clusters: specs.map(({ cluster }) => cluster).sort(),
    conflicts,
  };
}

/** The row of `merged` that an offer adds to. */
export function mergedKey(offer: ServiceOffer): string {
  return nameOf(offer);
}

/** Oldest export first; timestamps have whole seconds, so the cluster's id breaks ties. */
function byPrecedence(a: Spec, b: Spec): number {
  const [timeA, timeB] = [Date.parse(a.exportedAt) || 0, Date.parse(b.exportedAt) || 0];
  if (timeA !== timeB) return timeA - timeB;
  return a.cluster < b.cluster ? -1 : 1;
}

/**
 * The union of all ports, in order of precedence: a port of a name, or of a protocol and number, that is there
 * already adds nothing. So names and (protocol, number) are unique.
 */
function mergePorts(specs: readonly Spec[]): OfferedPort[] {
  const ports: OfferedPort[] = [];
  for (const spec of specs) {
    for (const port of spec.ports) {
      const known = ports.some(
        (other) =>
          (other.name ?? "") === (port.name ?? "") ||
          (other.protocol === port.protocol && other.port === port.port),
      );
      if (!known) ports.push(port);
    }
  }
  return ports;
}

function samePorts(a: readonly OfferedPort[], b: readonly OfferedPort[]): boolean {
  const texts = (ports: readonly OfferedPort[]) =>
    ports.map((port) => `${portText(port)} ${port.appProtocol ?? ""}`).sort();
  return equal(texts(a), texts(b));
}

function portText(port: OfferedPort): string {
  return `${port.name ? `${port.name} ` : ""}${port.port}/${port.protocol}`;
}

function familiesOf(spec: Spec): string[] {
  return spec.ipFamilies && spec.ipFamilies.length > 0 ? spec.ipFamilies : ["IPv4"];
}
