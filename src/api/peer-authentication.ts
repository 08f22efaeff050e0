/**
 * Which mTLS a workload takes: discovery goes by it, and what a cluster tells others of its endpoints. Source: Istio `pilot/pkg/model/authentication.go`, `pilot/pkg/security/authn`
 * (ComposePeerAuthentication): workload over namespace over mesh, by port over whole; the oldest of equals.
 */
import type { MeshSettings } from "./mesh-settings.ts";
import type { MutualTlsMode, PeerAuthentication } from "./security.ts";

/** What is taken: plain text, both, mTLS only. */
export type PeerTlsMode = "disable" | "permissive" | "strict";

/** A PeerAuthentication, resolved. */
export interface PeerPolicy {
  namespace: string;
  name: string;
  created: string;
  selector: Readonly<Record<string, string>> | undefined;
  mode: PeerTlsMode | undefined;
  ports: Readonly<Record<string, PeerTlsMode | undefined>>;
}

const modes: Record<MutualTlsMode, PeerTlsMode | undefined> = {
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
    created: metadata.creationTimestamp ?? "9999",
    selector,
    mode: modes[spec?.mtls?.mode ?? "UNSET"],
    ports: selector
      ? Object.fromEntries(
          Object.entries(spec?.portLevelMtls ?? {})
            .filter(([port]) => /^\d+$/.test(port) && Number(port) > 0 && Number(port) <= 65_535)
            .map(([port, { mode }]) => [port, modes[mode ?? "UNSET"]]),
        )
      : {},
  };
}

/** What one workload takes. */
export interface PeerMode {
  mode: PeerTlsMode;
  /** By the workload's port; what is not here has `mode`. */
  ports: ReadonlyMap<number, PeerTlsMode>;
  /** The objects that say so, the closest first. */
  origins: readonly { kind: string; namespace: string; name: string; field: string }[];
}

/** `own` are the policies of the workload's namespace, `root` those of the mesh's. */
export function peerModeOf(
  labels: Readonly<Record<string, string>>,
  own: readonly PeerPolicy[],
  root: readonly PeerPolicy[],
  mesh: Pick<MeshSettings, "mtls">,
): PeerMode {
  const oldest = (policies: readonly PeerPolicy[]) => [...policies].sort(byAge)[0];
  const selects = (selector: Readonly<Record<string, string>>) =>
    Object.entries(selector).every(([name, value]) => labels[name] === value);
  const meshWide = oldest(root.filter(({ selector }) => !selector));
  const ofNamespace = oldest(own.filter(({ selector }) => !selector));
  const ofWorkload = oldest(own.filter(({ selector }) => selector && selects(selector)));
  const mode: PeerTlsMode =
    ofWorkload?.mode ??
    ofNamespace?.mode ??
    meshWide?.mode ??
    (mesh.mtls.mode === "STRICT" ? "strict" : "permissive");
  const ports = new Map<number, PeerTlsMode>();
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
export function modeOfPort({ mode, ports }: PeerMode, port: number): PeerTlsMode {
  return ports.get(port) ?? mode;
}

/**
 * Which ports of a workload with a sidecar are called in its mesh's mTLS: all or none, and those for which it is the
 * other way round.
 */
export function refusalOf({ mode, ports }: PeerMode): { plainText: boolean; exceptPorts: number[] } {
  const plainText = mode === "disable";
  const exceptPorts = [...ports].flatMap(([port, each]) =>
    (each === "disable") === plainText ? [] : [port],
  );
  return { plainText, exceptPorts: exceptPorts.sort((a, b) => a - b) };
}

function byAge(a: PeerPolicy, b: PeerPolicy): number {
  const key = ({ created, namespace, name }: PeerPolicy) => `${created} ${namespace}/${name}`;
  return key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0;
}
