/**
 * Which mTLS a workload takes. Source: Istio `pilot/pkg/model/authentication.go`, `pilot/pkg/security/authn`
 * (ComposePeerAuthentication): workload over namespace over mesh, by port over whole; the oldest of equals.
 */
import type { MeshSettings, MutualTlsMode, PeerAuthentication } from "../api/index.ts";
import type { Origin } from "./model.ts";
import { isPort } from "./names.ts";
import { byAge, timeOf } from "./registry.ts";
import { selects } from "./workloads.ts";

/** What is taken: plain text, both, mTLS only. */
export type Mode = "disable" | "permissive" | "strict";

/** A PeerAuthentication, resolved. */
export interface PeerPolicy {
  namespace: string;
  name: string;
  created: string;
  selector: Readonly<Record<string, string>> | undefined;
  mode: Mode | undefined;
  ports: Readonly<Record<string, Mode | undefined>>;
}

const modes: Record<MutualTlsMode, Mode | undefined> = {
  UNSET: undefined,
  DISABLE: "disable",
  PERMISSIVE: "permissive",
  STRICT: "strict",
};

/** None while the object is being deleted. */
export function peerPolicyOf({ metadata, spec }: PeerAuthentication): PeerPolicy | undefined {
  if (metadata.deletionTimestamp) return undefined;
  const labels = spec?.selector?.matchLabels;
  const selector = labels && Object.keys(labels).length > 0 ? labels : undefined;
  return {
    namespace: metadata.namespace ?? "",
    name: metadata.name,
    created: timeOf(metadata.creationTimestamp),
    selector,
    mode: modes[spec?.mtls?.mode ?? "UNSET"],
    ports: selector
      ? Object.fromEntries(
          Object.entries(spec?.portLevelMtls ?? {})
            .filter(([port]) => isPort(Number(port)))
            .map(([port, { mode }]) => [port, modes[mode ?? "UNSET"]]),
        )
      : {},
  };
}

/** What one workload takes. */
export interface PeerMode {
  mode: Mode;
  /** By the workload's port; what is not here has `mode`. */
  ports: ReadonlyMap<number, Mode>;
  origins: readonly Origin[];
}

/** `own` are the policies of the workload's namespace, `root` those of the mesh's. */
export function peerModeOf(
  labels: Readonly<Record<string, string>>,
  own: readonly PeerPolicy[],
  root: readonly PeerPolicy[],
  mesh: MeshSettings,
): PeerMode {
  const oldest = (policies: readonly PeerPolicy[]) => [...policies].sort(byAge)[0];
  const meshWide = oldest(root.filter(({ selector }) => !selector));
  const ofNamespace = oldest(own.filter(({ selector }) => !selector));
  const ofWorkload = oldest(own.filter(({ selector }) => selector && selects(selector, labels)));
  const mode: Mode =
    ofWorkload?.mode ??
    ofNamespace?.mode ??
    meshWide?.mode ??
    (mesh.mtls.mode === "STRICT" ? "strict" : "permissive");
  const ports = new Map<number, Mode>();
  for (const [port, own] of Object.entries(ofWorkload?.ports ?? {})) {
    const inherited = ofNamespace?.mode ?? meshWide?.mode ?? mode;
    ports.set(Number(port), own ?? ofWorkload?.mode ?? inherited);
  }
  const origins = [ofWorkload, ofNamespace, meshWide].flatMap((policy) =>
    policy
      ? [{ kind: "PeerAuthentication", namespace: policy.namespace, name: policy.name, field: "spec" }]
      : [],
  );
  return { mode, ports, origins };
}

/** What one of its ports takes. */
export function modeOfPort({ mode, ports }: PeerMode, port: number): Mode {
  return ports.get(port) ?? mode;
}
