import type { Headers } from "./headers.ts";

/** A request's body and trailers as long as they may be needed: until there is a connection, and for more tries. */
export class RequestBody {
  readonly #limit: number;
  #chunks: Buffer[] | undefined;
  #bytes = 0;
  /** What comes is kept also after it was sent. */
  kept: boolean;
  /** It was to be kept, and became too long for that: the request is not tried again. */
  abandoned = false;
  /** What came behind it; it is small, and kept in any case. */
  trailers: Headers | undefined;

  /** `limit`: bytes that are held at most. */
  constructor(limit: number, kept: boolean) {
    this.#limit = limit;
    this.kept = kept;
  }

  get full(): boolean {
    return this.#bytes > this.#limit;
  }

  /** `sent`: somebody takes it at once. Returns whether it is abandoned with this. */
  add(chunk: Buffer, sent: boolean): boolean {
    this.#bytes += chunk.length;
    const tooMuch = this.kept && this.full;
    if (tooMuch) {
      this.kept = false;
      this.abandoned = true;
      if (sent) this.#chunks = undefined;
    }
    if (this.kept || !sent) {
      this.#chunks ??= [];
      this.#chunks.push(chunk);
    }
    return tooMuch;
  }

  /** All that is here, for a try; it goes unless it is kept. */
  take(): readonly Buffer[] {
    const chunks = this.#chunks ?? [];
    if (!this.kept) this.#chunks = undefined;
    return chunks;
  }

  drop(): void {
    this.kept = false;
    this.#chunks = undefined;
  }
}
