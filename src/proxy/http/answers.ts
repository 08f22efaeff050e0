/** Answers of the proxy's own, and what it says of itself in those of others. */
import { grpcMessage } from "../../http2/index.ts";
import type { LocalReply } from "./filter.ts";
import { grpcStatusOf } from "./grpc.ts";
import { Headers } from "./headers.ts";
import type { Manager } from "./manager.ts";
import { PEER, PEER_ID } from "./peer-metadata.ts";

/** The answer to send; to gRPC clients it is all in the head, the text among it. */
export function localAnswer(
  answer: LocalReply,
  grpc: boolean,
): { status: number; headers: Headers; body: Buffer } {
  const headers = new Headers();
  const body = typeof answer.body === "string" ? Buffer.from(answer.body) : answer.body;
  if (grpc) {
    headers.add("content-type", "application/grpc");
    answer.headers?.(headers);
    headers.set("grpc-status", String(answer.grpcStatus ?? grpcStatusOf(answer.status)));
    if (body.length > 0) headers.set("grpc-message", grpcMessage(body.toString("utf8")));
    return { status: 200, headers, body };
  }
  answer.headers?.(headers);
  if (body.length > 0) {
    headers.set("content-length", String(body.length));
    if (!headers.has("content-type")) headers.add("content-type", "text/plain");
  }
  return { status: answer.status, headers, body };
}

/** When it was answered, by whom, and to a sidecar that said who it is, who we are. */
export function tellOfUs(headers: Headers, manager: Manager, peerAsked: boolean): void {
  const { settings, ownPeer } = manager;
  if (!headers.has("date")) headers.add("date", manager.date());
  if (settings.serverHeader === "overwrite") {
    headers.remove("server");
    headers.add("server", settings.serverName);
  } else if (settings.serverHeader === "append-if-absent" && !headers.has("server")) {
    headers.add("server", settings.serverName);
  }
  if (settings.via) headers.append("via", settings.via, ", ");
  if (peerAsked && ownPeer) {
    headers.set(PEER_ID, ownPeer.id);
    headers.set(PEER, ownPeer.metadata);
  }
}
