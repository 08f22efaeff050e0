/** What both ends of HTTP/2 in the proxy share. */
import type { ClosedBy, StreamEvents } from "../../http2/index.ts";
import { type Bearer, charge } from "./guard.ts";
import { fieldName } from "./headers.ts";

/** Who is told what happens to a stream, and bears what it throws. */
export interface StreamOwner extends Bearer {
  onHead?(fields: readonly string[], end: boolean): void;
  onData(chunk: Buffer): void;
  onEnd(trailers: string[] | undefined): void;
  onDrain(): void;
  onClosed(code: number, by: ClosedBy): void;
}

/** Tells a stream's owner, and has it bear what it throws. */
export class GuardedEvents implements StreamEvents {
  readonly #owner: StreamOwner;

  constructor(owner: StreamOwner) {
    this.#owner = owner;
  }

  head(fields: readonly string[], end: boolean): void {
    try {
      this.#owner.onHead?.(fields, end);
    } catch (error) {
      charge(this.#owner, error);
    }
  }

  data(chunk: Buffer): void {
    try {
      this.#owner.onData(chunk);
    } catch (error) {
      charge(this.#owner, error);
    }
  }

  end(trailers: string[] | undefined): void {
    try {
      this.#owner.onEnd(trailers);
    } catch (error) {
      charge(this.#owner, error);
    }
  }

  drain(): void {
    try {
      this.#owner.onDrain();
    } catch (error) {
      charge(this.#owner, error);
    }
  }

  closed(code: number, by: ClosedBy): void {
    try {
      this.#owner.onClosed(code, by);
    } catch (error) {
      charge(this.#owner, error);
    }
  }
}

/** The name as it is known (`headers.ts`). */
export function knownName(name: string): string {
  return fieldName(name) ?? name;
}

/** Fields from `at` on, with their names as they are known. */
export function knownNames(fields: readonly string[], at: number): string[] {
  const result = fields.slice(at);
  for (let i = 0; i < result.length; i += 2) result[i] = knownName(result[i]!);
  return result;
}

/** Fields of a message that are no header fields, at most. */
export const pseudoHeaders = 5;
