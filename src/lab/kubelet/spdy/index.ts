/**
 * SPDY/3.1, the protocol of Kubernetes' streams before WebSocket: kube-apiserver dials kubelets with it, and
 * port-forward is SPDY in any case. Own code, for there is no base to stand on: the one implementation for Node
 * (`spdy-transport`) is of 2015, and its flow control waits for a peer that has none.
 */
export { reset } from "./frames.ts";
export type { Headers } from "./headers.ts";
export { type SessionOptions, SpdySession } from "./session.ts";
export { SpdyStream, StreamReset } from "./stream.ts";
