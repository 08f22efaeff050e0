/** A request's body as long as it may be needed: until there is a connection, and for more tries and mirrors. */
export class RequestBody {
  readonly #limit: number;
  #chunks: Buffer[] | undefined;
  #bytes = 0;
  /** What comes is kept also after it was sent. */
  kept: boolean;

  /** `limit`: bytes that are held at most. */
  constructor(limit: number, kept: boolean) {
    this.#limit = limit;
    this.kept = kept;
  }

  get chunks(): readonly Buffer[] {
    return this.#chunks ?? [];
  }

  get full(): boolean {
    return this.#bytes > this.#limit;
  }

  /** `sent`: somebody takes it at once. */
  add(chunk: Buffer, sent: boolean): void {
    this.#bytes += chunk.length;
    if (this.kept && this.full) {
      // Too much to hold: this request is not tried again, nor mirrored.
      this.kept = false;
      if (sent) this.#chunks = undefined;
    }
    if (!this.kept && sent) return;
    this.#chunks ??= [];
    this.#chunks.push(chunk);
  }

  /** All that is here, for a try; it goes unless it is kept. */
  take(): readonly Buffer[] {
    const { chunks } = this;
    if (!this.kept) this.#chunks = undefined;
    return chunks;
  }

  drop(): void {
    this.kept = false;
    this.#chunks = undefined;
  }
}
