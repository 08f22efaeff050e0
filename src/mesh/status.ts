/**
 * What is told on a ServiceMeshControlPlane. Types and reasons of conditions are Maistra's (maistra-2.6
 * `pkg/apis/maistra/status`); `NotServedYet` and `InvalidFields` are ours.
 */
import type {
  ControlPlaneStatus,
  Deployment,
  MaistraCondition,
  ServiceMeshControlPlane,
} from "../api/index.ts";
import type { Mesh } from "./spec.ts";

type Fields = {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace: string };
  status: ControlPlaneStatus;
};

function fields({ apiVersion, kind, metadata }: ServiceMeshControlPlane, status: ControlPlaneStatus): Fields {
  const { name, namespace = "", generation = 0 } = metadata;
  return {
    apiVersion,
    kind,
    metadata: { name, namespace },
    status: { observedGeneration: generation, ...status },
  };
}

/**
 * Of the control plane that makes the mesh. `components` are its Deployments by name, as far as they are there;
 * `conflicts` say which of its objects cannot be made, because others have them.
 */
export function controlPlaneFields(
  mesh: Mesh,
  components: readonly (readonly [name: string, deployment: Deployment | undefined])[],
  conflicts: readonly string[],
  version: string,
): Fields {
  const missing = components.filter(([, found]) => !found).map(([name]) => name);
  const ready = components.filter(([, found]) => found && isAvailable(found)).map(([name]) => name);
  const unready = components
    .map(([name]) => name)
    .filter((name) => !ready.includes(name) && !missing.includes(name));
  const list = (names: readonly string[]) => names.join(", ");
  const waiting = [...missing, ...unready];
  const installed: MaistraCondition =
    missing.length > 0
      ? {
          type: "Installed",
          status: "False",
          reason: "ResourceCreated",
          message: `Being made: ${list(missing)}`,
        }
      : {
          type: "Installed",
          status: "True",
          reason: "InstallSuccessful",
          message: "Successfully installed all mesh components",
        };
  const inTheWay = {
    type: "Reconciled",
    status: "False",
    reason: "ReconcileError",
    message: conflicts.join("; "),
  } as const;
  const conditions: MaistraCondition[] = [
    installed,
    conflicts.length > 0
      ? inTheWay
      : missing.length > 0
        ? { ...installed, type: "Reconciled" }
        : {
            type: "Reconciled",
            status: "True",
            reason: "InstallSuccessful",
            message: `Successfully installed version ${version}`,
          },
    waiting.length > 0
      ? {
          type: "Ready",
          status: "False",
          reason: "ComponentsNotReady",
          message: `Some components are not fully available: ${list(waiting)}`,
        }
      : {
          type: "Ready",
          status: "True",
          reason: "ComponentsReady",
          message: "All component deployments are Available",
        },
  ];
  if (mesh.notServed.length + mesh.notStarted.length > 0) {
    const said = [
      mesh.notServed.length > 0 &&
        `Weft does not serve these fields yet, they have no effect: ${list(mesh.notServed)}`,
      mesh.notStarted.length > 0 &&
        `What comes with the v1 form unasked is not there yet: ${list(mesh.notStarted)}`,
    ];
    conditions.push({
      type: "NotServedYet",
      status: "True",
      reason: "FieldsWithoutEffect",
      message: said.filter(Boolean).join(". "),
    });
  }
  if (mesh.invalid.length > 0) {
    conditions.push({
      type: "InvalidFields",
      status: "True",
      reason: "FieldsWithoutEffect",
      message: `These fields cannot be read, their defaults hold: ${mesh.invalid.join("; ")}`,
    });
  }
  return fields(mesh.owner, {
    annotations: { readyComponentCount: `${ready.length}/${components.length}` },
    chartVersion: version,
    operatorVersion: version,
    appliedSpec: { profiles: ["default"] },
    readiness: { components: { ready, pending: missing, unready } },
    conditions,
  });
}

/** Of a control plane beside another one in its namespace: only the oldest makes a mesh. */
export function secondControlPlaneFields(owner: ServiceMeshControlPlane, first: string): Fields {
  const message = `Only one ServiceMeshControlPlane may exist in a namespace; here ${first} is the one that counts`;
  return fields(owner, {
    annotations: { readyComponentCount: "0/0" },
    conditions: ["Installed", "Reconciled", "Ready"].map((type) => ({
      type,
      status: "False",
      reason: "ErrMultipleSMCPs",
      message,
    })),
  });
}

/** The Deployment's newest template runs, in the number that is asked for. */
function isAvailable({ metadata, spec, status }: Deployment): boolean {
  const wanted = spec?.replicas ?? 1;
  return (
    (status?.observedGeneration ?? 0) >= (metadata.generation ?? 0) &&
    (status?.updatedReplicas ?? 0) >= wanted &&
    (status?.availableReplicas ?? 0) >= wanted
  );
}
