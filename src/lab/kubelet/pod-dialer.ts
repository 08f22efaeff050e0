/**
 * Connections to ports on the loopback of a pod, where programs may listen that nobody else reaches. A socket stays in
 * the network namespace that it was made in, and processes can hand sockets to each other: so a small process
 * in the pod's namespace connects, and the connected socket is ours, without anything in between.
 */
import { type ChildProcess, spawn } from "node:child_process";
import type { Socket } from "node:net";
import { join } from "node:path";
import { namespaceFile, systemPath } from "../network/index.ts";
import type { DialAnswer, DialRequest } from "./pod-dialer-process.ts";
import { tool } from "./tools.ts";

export interface PodDialer {
  /** A connection to the port, paused, whose directions end separately. Rejects with the system's words. */
  connect(port: number): Promise<Socket>;
  /** Ends the process; connections stay. */
  close(): void;
}

/** Starts dialling in the network namespace of that name. */
export function dialInto(namespace: string): PodDialer {
  const child: ChildProcess = spawn(
    tool("nsenter"),
    [
      `--net=${namespaceFile(namespace)}`,
      process.execPath,
      join(import.meta.dirname, "pod-dialer-process.ts"),
    ],
    { stdio: ["ignore", "ignore", "inherit", "ipc"], env: { PATH: systemPath } },
  );
  const waiting = new Map<number, PromiseWithResolvers<Socket>>();
  let last = 0;
  let over: Error | undefined;
  const end = (error: Error) => {
    over ??= error;
    for (const { reject } of waiting.values()) reject(over);
    waiting.clear();
  };
  child.on("error", end);
  child.on("exit", () => end(new Error("the process in the pod's network namespace ended")));
  child.on("message", ({ id, error }: DialAnswer, socket: Socket | undefined) => {
    const answer = waiting.get(id);
    waiting.delete(id);
    if (socket) {
      socket.allowHalfOpen = true;
      socket.on("error", () => {});
    }
    if (!answer) socket?.destroy();
    else if (socket) answer.resolve(socket);
    else answer.reject(new Error(error ?? "no connection"));
  });
  return {
    connect(port) {
      if (over) return Promise.reject(over);
      const answer = Promise.withResolvers<Socket>();
      const request: DialRequest = { id: ++last, port };
      waiting.set(request.id, answer);
      child.send(request, (error) => error && end(error));
      return answer.promise;
    },
    close() {
      end(new Error("port forwarding has ended"));
      child.kill("SIGKILL");
    },
  };
}
