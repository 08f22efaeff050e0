/** What the cluster says of its peers in the API, for people and for programs: PeerReports. */
import { livePeerMessage, type PeerReport, systemNamespace } from "../api/index.ts";
import type { Applied } from "../kube/index.ts";
import type { PeerState } from "./peers.ts";

const conditions = {
  live: { status: "True", reason: "Live", message: livePeerMessage },
  stale: { status: "Unknown", reason: "Stale", message: "Its offers stand" },
  refused: {
    status: "Unknown",
    reason: "Refused",
    message: "What was imported from it before stands, nothing new waits for it",
  },
  unheard: {
    status: "Unknown",
    reason: "Unheard",
    message: "What was imported from it before stands, nothing new waits for it",
  },
  renamed: { status: "False", reason: "Renamed", message: "What it offers does not count" },
  lost: { status: "False", reason: "Lost", message: "Its offers do not count" },
  invalid: { status: "False", reason: "SecretInvalid", message: "Its Secret cannot be used" },
} as const;

/**
 * The report on one peer; the sink fills in since when. Until we have listened for a while, what an earlier
 * control plane reported (`before`) stands, so that a restart changes nothing (law 7).
 */
export function peerReport(
  cluster: string,
  { cluster: peer, state, reason, problem, early, lease, lastHeartbeat, version }: PeerState,
  before: PeerReport | undefined,
): Applied<PeerReport> | undefined {
  const object = { metadata: { name: peer, namespace: systemNamespace }, spec: { cluster, peer } };
  if (early) return before && { ...object, ...(before.status && { status: before.status }) };
  const beat =
    lastHeartbeat ??
    (state === "live" || state === "renamed" ? undefined : before?.status?.lastHeartbeatTime);
  const { message, ...condition } = conditions[state];
  const detailed = [
    reason ? `${message}: ${sentence(reason)}` : message,
    ...(problem
      ? [`Its Secret as it is now cannot be used, what it said before is: ${sentence(problem)}`]
      : []),
  ].join(" ");
  return {
    ...object,
    status: {
      conditions: [{ type: "Reachable", ...condition, message: detailed }],
      leaseDurationSeconds: lease,
      ...(beat && { lastHeartbeatTime: beat }),
      ...((version ?? before?.status?.version) && { version: version ?? before?.status?.version }),
    },
  };
}

/** Words of others, of which there may be any number, as a sentence. */
function sentence(text: string): string {
  const short = text.length > 500 ? `${text.slice(0, 497)}...` : text.replace(/[:;,\s]+$/, "");
  return short.endsWith(".") ? short : `${short}.`;
}

/** The key of the report on a peer, in a collection of PeerReports. */
export function peerReportKey(peer: string): string {
  return `${systemNamespace}/${peer}`;
}
