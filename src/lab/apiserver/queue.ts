/** A response body that grows: what is pushed is read in order, until it is ended or the reader leaves. */
export class ByteQueue implements AsyncIterable<Uint8Array>, AsyncIterator<Uint8Array> {
  #chunks: Uint8Array[] = [];
  #size = 0;
  #ended = false;
  #wake: ((result: IteratorResult<Uint8Array>) => void) | undefined;
  readonly #onClose: () => void;

  /** `onClose` is called once, when the queue ends for whatever reason. */
  constructor(onClose: () => void) {
    this.#onClose = onClose;
  }

  /** Bytes that nobody has read yet. */
  get size(): number {
    return this.#size;
  }

  push(chunk: Uint8Array): void {
    if (this.#ended) return;
    if (this.#wake) {
      const wake = this.#wake;
      this.#wake = undefined;
      wake({ value: chunk, done: false });
      return;
    }
    this.#chunks.push(chunk);
    this.#size += chunk.length;
  }

  /** What is queued can still be read. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#wake?.({ value: undefined, done: true });
    this.#wake = undefined;
    this.#onClose();
  }

  next(): Promise<IteratorResult<Uint8Array>> {
    if (this.#chunks.length > 0) {
      // Everything that is waiting goes out as one chunk.
      const value = this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks);
      this.#chunks = [];
      this.#size = 0;
      return Promise.resolve({ value, done: false });
    }
    if (this.#ended) return Promise.resolve({ value: undefined, done: true });
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  return(): Promise<IteratorResult<Uint8Array>> {
    this.#chunks = [];
    this.#size = 0;
    this.end();
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    return this;
  }
}
