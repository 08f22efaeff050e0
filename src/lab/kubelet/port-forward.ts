/**
 * port-forward over a SPDY session: for every connection the client begins a stream for data and one for the error
 * that may come, both with the port and the connection's number in their headers. Source: kubernetes
 * `k8s.io/cri-streaming/pkg/streaming/portforward/httpstream.go`.
 */
import type { Duplex } from "node:stream";
import { dialInto, type PodDialer } from "./pod-dialer.ts";
import { reset, SpdySession, type SpdyStream } from "./spdy/index.ts";

/** The only protocol there is, over SPDY/3.1. */
export const portForwardProtocol = "portforward.k8s.io";

/** How long a client has to begin the second stream of a connection. Milliseconds. */
const creationTimeout = 30_000;

export interface ForwardedPod {
  name: string;
  uid: string;
  /** The pod's network namespace. */
  namespace: string;
}

interface Pair {
  data?: SpdyStream;
  error?: SpdyStream;
  late: NodeJS.Timeout;
}

/** Serves port-forward until the connection is closed. */
export function servePortForward(connection: Duplex, pod: ForwardedPod): void {
  // Started at once: the client's first connection is likely to come soon.
  const dialer = dialInto(pod.namespace);
  const pairs = new Map<string, Pair>();
  const session = new SpdySession(connection, {
    role: "server",
    onStream(stream) {
      const type = stream.headers.get("streamtype");
      const port = portOf(stream);
      if ((type !== "data" && type !== "error") || port === undefined) {
        return stream.reset(reset.refusedStream);
      }
      const id = requestOf(stream, type);
      const pair: Pair = pairs.get(id) ?? { late: setTimeout(() => giveUp(id), creationTimeout) };
      if (pair[type]) return stream.reset(reset.refusedStream);
      pairs.set(id, pair);
      pair[type] = stream;
      stream.accept();
      if (!pair.data || !pair.error) return;
      pairs.delete(id);
      clearTimeout(pair.late);
      void forward(dialer, pod, port, pair.data, pair.error);
    },
  });
  const giveUp = (id: string) => {
    const pair = pairs.get(id);
    pairs.delete(id);
    pair?.error?.end("timed out waiting for streams");
    pair?.data?.destroy();
  };
  void session.closed.then(() => {
    dialer.close();
    for (const { late } of pairs.values()) clearTimeout(late);
  });
}

function portOf(stream: SpdyStream): number | undefined {
  const text = stream.headers.get("port") ?? "";
  const port = Number(text);
  return /^[0-9]{1,5}$/.test(text) && port > 0 && port < 65536 ? port : undefined;
}

/** The connection's number. Clients without numbers begin the error stream first, then that of the data. */
function requestOf(stream: SpdyStream, type: "data" | "error"): string {
  return stream.headers.get("requestid") || `#${type === "error" ? stream.id : stream.id - 2}`;
}

async function forward(
  dialer: PodDialer,
  pod: ForwardedPod,
  port: number,
  data: SpdyStream,
  error: SpdyStream,
): Promise<void> {
  error.resume();
  try {
    const socket = await dialer.connect(port);
    data.once("close", () => socket.destroy());
    // A connection that broke off must not look like one that ended.
    socket.once("close", () => (socket.readableEnded ? data.end() : data.destroy()));
    data.pipe(socket);
    socket.pipe(data);
    if (data.destroyed) socket.destroy();
    await new Promise<void>((resolve) => socket.once("close", () => resolve()));
    error.end();
  } catch (reason) {
    error.end(forwardFailure(pod, port, reason));
    data.destroy();
  }
}

/** What the client is told of a port that cannot be reached. */
export function forwardFailure({ name, uid }: ForwardedPod, port: number, reason: unknown): string {
  return (
    `error forwarding port ${port} to pod ${name}, uid ${uid}: ` +
    `failed to connect to localhost:${port} inside the pod's network namespace: ${(reason as Error).message}`
  );
}
