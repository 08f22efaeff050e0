import type { Connection } from "../../http2/index.ts";
import type { Counter } from "../contract.ts";

/** What went over a connection in HTTP/2, counted from time to time. */
export class Traffic {
  readonly #connection: Connection;
  readonly #received: Counter;
  readonly #sent: Counter;
  #in = 0;
  #out = 0;

  constructor(connection: Connection, received: Counter, sent: Counter) {
    this.#connection = connection;
    this.#received = received;
    this.#sent = sent;
  }

  /** Counts what came and went since it was asked last. */
  count(): void {
    const { bytesRead, bytesWritten } = this.#connection;
    this.#received.value += bytesRead - this.#in;
    this.#sent.value += bytesWritten - this.#out;
    this.#in = bytesRead;
    this.#out = bytesWritten;
  }
}
