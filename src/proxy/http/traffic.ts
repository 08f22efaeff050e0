import type { Socket } from "node:net";
import type { Counter } from "../contract.ts";

/** What went over a connection that is another's to read and write (node:http2), counted from time to time. */
export class Traffic {
  readonly #socket: Socket;
  readonly #received: Counter;
  readonly #sent: Counter;
  #in = 0;
  #out = 0;

  constructor(socket: Socket, received: Counter, sent: Counter) {
    this.#socket = socket;
    this.#received = received;
    this.#sent = sent;
  }

  /** Counts what came and went since it was asked last. */
  count(): void {
    const { bytesRead, bytesWritten } = this.#socket;
    this.#received.value += bytesRead - this.#in;
    this.#sent.value += bytesWritten - this.#out;
    this.#in = bytesRead;
    this.#out = bytesWritten;
  }
}
