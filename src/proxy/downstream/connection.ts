/** A connection that was taken: what is known of it, for handlers, rules and logs. */
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import type { Address, Downstream, TlsFacts } from "../contract.ts";

export class TakenConnection implements Downstream {
  readonly id: number;
  socket: Socket | TLSSocket;
  head: Buffer = Buffer.alloc(0);
  readonly remote: Address;
  local: Address;
  redirected = false;
  serverName: string | undefined;
  tls: TlsFacts | undefined;
  listener = "";
  chain = "";
  upstreamAlpn: readonly string[] | undefined;
  readonly startedAt: number;
  readonly startedMonotonic: number;
  metadata: Record<string, Record<string, unknown>> | undefined;

  constructor(
    id: number,
    socket: Socket,
    remote: Address,
    local: Address,
    started: { at: number; monotonic: number },
  ) {
    this.id = id;
    this.socket = socket;
    this.remote = remote;
    this.local = local;
    this.startedAt = started.at;
    this.startedMonotonic = started.monotonic;
  }

  received(): number {
    return this.socket.bytesRead;
  }

  sent(): number {
    return this.socket.bytesWritten;
  }
}
