/**
 * Which namespaces are members of which mesh: ServiceMeshMemberRolls and ServiceMeshMembers → one mesh per namespace.
 * After maistra-2.6 `pkg/controller/servicemesh/{memberroll,member}`.
 */
import type {
  LabelSelector,
  MaistraCondition,
  Namespace,
  ServiceMeshControlPlane,
  ServiceMeshMember,
  ServiceMeshMemberRoll,
} from "../api/index.ts";
import { memberOfLabel, systemNamespace } from "../api/index.ts";
import { ownedBy } from "./objects.ts";

/** The only name that a roll and a member may have. */
export const rollName = "default";

/** A wish that a namespace be a member of the mesh in another namespace. */
export interface Claim {
  namespace: string;
  /** The mesh's namespace. */
  mesh: string;
  /** When the roll or member that says so was made. */
  since: string;
}

/** Namespaces that `*` and selectors leave out, besides those of meshes. */
function isForAll(name: string): boolean {
  return name !== systemNamespace && !/^(kube|openshift)-/.test(name) && name !== "openshift";
}

/** Whether a roll has this namespace. `*` has all but those of the system. */
export function rollHas({ spec, metadata }: ServiceMeshMemberRoll, namespace: Namespace): boolean {
  const { name, labels = {} } = namespace.metadata;
  if (name === metadata.namespace) return false;
  const members = spec?.members ?? [];
  if (members.includes(name)) return true;
  if (!isForAll(name)) return false;
  return members.includes("*") || (spec?.memberSelectors ?? []).some((each) => selects(each, labels));
}

function selects(selector: LabelSelector, labels: Record<string, string>): boolean {
  const { matchLabels = {}, matchExpressions = [] } = selector;
  if (Object.keys(matchLabels).length === 0 && matchExpressions.length === 0) return false;
  return (
    Object.entries(matchLabels).every(([key, value]) => labels[key] === value) &&
    matchExpressions.every(({ key, operator, values = [] }) => {
      const value = labels[key];
      if (operator === "Exists") return value !== undefined;
      if (operator === "DoesNotExist") return value === undefined;
      if (operator === "In") return value !== undefined && values.includes(value);
      return operator === "NotIn" && (value === undefined || !values.includes(value));
    })
  );
}

/**
 * The mesh that a namespace is a member of. Where two meshes claim it, the one that has it keeps it; else the older
 * claim wins, then the name.
 */
export function meshOfNamespace(namespace: Namespace, claims: readonly Claim[]): string | undefined {
  const has = namespace.metadata.labels?.[memberOfLabel];
  if (claims.some(({ mesh }) => mesh === has)) return has;
  return [...claims].sort((a, b) => compare(a.since, b.since) || compare(a.mesh, b.mesh))[0]?.mesh;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

interface Wanted {
  name: string;
  exists: boolean;
  /** The mesh that it is to be a member of. */
  mesh: string | undefined;
  labelled: boolean;
  /** Why it cannot be labelled. */
  conflict?: string;
}

export interface RollView {
  roll: ServiceMeshMemberRoll;
  /** The control planes in the roll's namespace, the one that counts first. */
  controlPlanes: readonly ServiceMeshControlPlane[];
  /** All that it names and all that it selects, sorted. */
  wanted: readonly Wanted[];
}

/** What is told on a roll: which of its namespaces are members, and why others are not. */
export function rollFields({ roll, controlPlanes, wanted }: RollView) {
  const { metadata } = roll;
  const configured = wanted.filter(({ labelled, mesh }) => labelled && mesh === metadata.namespace);
  const pending = wanted.filter((each) => !configured.includes(each));
  const [controlPlane] = controlPlanes;
  // A roll goes with its control plane (the garbage collector sees to that), so its owner is never taken back.
  const standing = (metadata.ownerReferences ?? []).filter(({ kind }) => kind === "ServiceMeshControlPlane");
  const owners = controlPlane ? ownedBy(controlPlane) : standing;
  return {
    apiVersion: roll.apiVersion,
    kind: roll.kind,
    metadata: {
      name: metadata.name,
      namespace: metadata.namespace!,
      ...(owners.length > 0 && { ownerReferences: owners }),
    },
    status: {
      annotations: { configuredMemberCount: `${configured.length}/${wanted.length}` },
      observedGeneration: metadata.generation ?? 0,
      ...(controlPlane && { meshGeneration: controlPlane.metadata.generation ?? 0 }),
      members: wanted.map(({ name }) => name),
      configuredMembers: configured.map(({ name }) => name),
      pendingMembers: pending.map(({ name }) => name),
      conditions: [rollCondition(roll, controlPlanes, pending)],
    },
  };
}

function rollCondition(
  { metadata }: ServiceMeshMemberRoll,
  controlPlanes: readonly ServiceMeshControlPlane[],
  pending: RollView["wanted"],
): MaistraCondition {
  const not = (reason: string, message: string): MaistraCondition => ({
    type: "Ready",
    status: "False",
    reason,
    message,
  });
  const names = (some: RollView["wanted"]) => some.map(({ name }) => name).join(", ");
  if (metadata.name !== rollName) {
    return not(
      "ErrInvalidName",
      `A ServiceMeshMemberRoll must be called "${rollName}"; this one has no effect`,
    );
  }
  if (controlPlanes.length === 0) {
    return not("ErrSMCPMissing", `No ServiceMeshControlPlane exists in the namespace ${metadata.namespace}`);
  }
  if (controlPlanes.length > 1) {
    return not("ErrMultipleSMCPs", `Multiple ServiceMeshControlPlane resources exist in the namespace`);
  }
  const elsewhere = pending.filter(({ mesh }) => mesh !== undefined && mesh !== metadata.namespace);
  if (elsewhere.length > 0) {
    const each = elsewhere.map(({ name, mesh }) => `${name} (of ${mesh})`).join(", ");
    return not("ErrMemberOfOtherMesh", `Namespaces that are members of another mesh: ${each}`);
  }
  const missing = pending.filter(({ exists }) => !exists);
  if (missing.length > 0) {
    return not("ErrNamespaceMissing", `The following namespaces do not exist: ${names(missing)}`);
  }
  const refused = pending.flatMap(({ conflict }) => conflict ?? []);
  if (refused.length > 0) return not("ReconcileError", refused.join("; "));
  if (pending.length > 0) return not("Reconciling", `Namespaces being configured: ${names(pending)}`);
  return {
    type: "Ready",
    status: "True",
    reason: "Configured",
    message: "All namespaces have been configured successfully",
  };
}

/** What is told on a ServiceMeshMember. */
export function memberFields(
  member: ServiceMeshMember,
  controlPlane: ServiceMeshControlPlane | undefined,
  namespace: { mesh: string | undefined; labelled: boolean },
) {
  const { metadata, spec } = member;
  const ref = `${spec?.controlPlaneRef?.namespace}/${spec?.controlPlaneRef?.name}`;
  const home = spec?.controlPlaneRef?.namespace;
  const [status, reason, message] =
    metadata.name !== rollName
      ? [
          "False",
          "ErrInvalidName",
          `A ServiceMeshMember must be called "${rollName}"; this one has no effect`,
        ]
      : !controlPlane
        ? ["False", "ErrSMCPMissing", `There is no ServiceMeshControlPlane ${ref}`]
        : namespace.mesh !== home
          ? ["False", "ErrMemberOfOtherMesh", `The namespace is a member of the mesh in ${namespace.mesh}`]
          : namespace.labelled
            ? ["True", "Configured", "The namespace is a member of the mesh"]
            : ["False", "Reconciling", "The namespace is being configured"];
  return {
    apiVersion: member.apiVersion,
    kind: member.kind,
    metadata: { name: metadata.name, namespace: metadata.namespace! },
    status: {
      annotations: { controlPlaneRef: ref },
      observedGeneration: metadata.generation ?? 0,
      conditions: [{ type: "Ready", status, reason, message } as MaistraCondition],
    },
  };
}
