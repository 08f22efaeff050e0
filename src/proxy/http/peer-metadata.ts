/**
 * Who the other side is, as sidecars tell each other in headers (Istio's metadata exchange): `x-envoy-peer-metadata-id`
 * is the node's id, `x-envoy-peer-metadata` its metadata as a google.protobuf.Struct in base64. They go between
 * sidecars only: whoever gets them takes them off.
 */
import { Struct } from "#protocols/google/protobuf/struct.ts";
import type { ProxyNode } from "../contract.ts";
import { unknownWorkload, type Workload, workloadOfNode } from "../metrics.ts";
import type { Headers } from "./headers.ts";

export const PEER = "x-envoy-peer-metadata";
export const PEER_ID = "x-envoy-peer-metadata-id";

/** What is told of a node; more is nobody's business. */
const told = ["NAME", "NAMESPACE", "WORKLOAD_NAME", "CLUSTER_ID", "OWNER", "PLATFORM_METADATA"] as const;
const toldLabels = [
  "app",
  "version",
  "app.kubernetes.io/name",
  "app.kubernetes.io/version",
  "service.istio.io/canonical-name",
  "service.istio.io/canonical-revision",
];

/** Our own header's value; undefined for a node that has nothing to tell. */
export function peerMetadata(node: ProxyNode): { id: string; metadata: string } | undefined {
  if (typeof node.metadata.WORKLOAD_NAME !== "string") return undefined;
  const fields: Record<string, unknown> = {};
  for (const name of told) {
    const value = node.metadata[name];
    if (typeof value === "string") fields[name] = value;
  }
  const labels = (node.metadata.LABELS ?? {}) as Record<string, unknown>;
  fields.LABELS = Object.fromEntries(
    toldLabels.flatMap((name) => (name in labels ? [[name, labels[name]]] : [])),
  );
  const bytes = Struct.encode(Struct.wrap(fields)).finish();
  return { id: node.id, metadata: Buffer.from(bytes).toString("base64") };
}

/**
 * Takes out of a request's headers what a sidecar says of itself: applications see none of it. What was said is
 * `believed` over mTLS only; undefined when nothing was, or nobody is to be believed.
 */
export function takePeer(headers: Headers, believed: boolean): Workload | undefined {
  const told = headers.get(PEER);
  headers.remove(PEER);
  headers.remove(PEER_ID);
  return told !== undefined && believed ? readPeer(told) : undefined;
}

/** What peers said, by the header's value: few, and the same again and again. */
const known = new Map<string, Workload>();
const KNOWN_AT_MOST = 1000;

/** The workload that a header tells of; unknown when it cannot be read. */
export function readPeer(header: string | undefined): Workload {
  if (header === undefined) return unknownWorkload;
  const before = known.get(header);
  if (before) return before;
  if (known.size >= KNOWN_AT_MOST || header.length > 8192) return unknownWorkload;
  let workload = unknownWorkload;
  try {
    const metadata = Struct.unwrap(Struct.decode(Buffer.from(header, "base64"))) as Record<string, unknown>;
    workload = workloadOfNode({
      id: "",
      cluster: "",
      metadata,
      locality: { region: "", zone: "", subZone: "" },
    });
  } catch {
    // Not what we write: nothing is known.
  }
  known.set(header, workload);
  return workload;
}
