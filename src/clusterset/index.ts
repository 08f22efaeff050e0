/** Which clusters there are: our own identity, our peers, and whether they live. */
export { clusterId, watchClusterId } from "./identity.ts";
export { defaultLease, type PeerNote, type PeerState, Peers, type PeersOptions } from "./peers.ts";
export { peerReport, peerReportKey } from "./report.ts";
