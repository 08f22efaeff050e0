/** The process in a pod's network namespace that connects for the kubelet; see `pod-dialer.ts`. */
import { connect, type Socket } from "node:net";

export interface DialRequest {
  id: number;
  port: number;
}

/** Comes with the socket, or with the error. */
export interface DialAnswer {
  id: number;
  error?: string;
}

process.on("disconnect", () => process.exit());
process.on("message", ({ id, port }: DialRequest) => {
  dial("127.0.0.1", port)
    .catch((first: Error) => dial("::1", port).catch(() => Promise.reject(first)))
    .then(
      (socket) => process.send?.({ id } satisfies DialAnswer, socket),
      (error: Error) => process.send?.({ id, error: error.message } satisfies DialAnswer),
    );
});

/** A connected socket that nothing has been read from: its bytes belong to whoever gets it. */
function dial(host: string, port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, allowHalfOpen: true });
    socket.pause();
    socket.once("error", reject);
    socket.once("connect", () => {
      socket.off("error", reject);
      socket.on("error", () => {});
      resolve(socket);
    });
  });
}
