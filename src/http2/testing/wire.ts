/** A connection that carries bytes when it is told to, as many as it is told: for tests. */
import { Duplex } from "node:stream";

export class End extends Duplex {
  other!: End;
  #waiting: { chunk: Buffer; done: () => void } | undefined;
  #finished: (() => void) | undefined;
  #told = false;

  constructor() {
    // Little is taken at once, so that writers have to wait.
    super({ highWaterMark: 2_000 });
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.#waiting = { chunk, done };
  }

  override _final(done: () => void): void {
    this.#finished = done;
  }

  /** Has bytes, or its end, that the other end has not got. */
  get loaded(): boolean {
    return this.#waiting !== undefined || this.#finished !== undefined;
  }

  /** Carries at most so many bytes to the other end. */
  carry(most: number): void {
    const waiting = this.#waiting;
    if (waiting) {
      const part = waiting.chunk.subarray(0, most);
      waiting.chunk = waiting.chunk.subarray(part.length);
      this.other.push(Buffer.from(part));
      if (waiting.chunk.length > 0) return;
      this.#waiting = undefined;
      waiting.done();
    } else if (this.#finished) {
      const done = this.#finished;
      this.#finished = undefined;
      this.#tellEnd();
      done();
    }
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#waiting = undefined;
    this.#finished = undefined;
    this.#tellEnd();
    done(error);
  }

  #tellEnd(): void {
    if (this.#told) return;
    this.#told = true;
    this.other.push(null);
  }
}

/** Both ends of one. */
export function wire(): [End, End] {
  const [a, b] = [new End(), new End()];
  a.other = b;
  b.other = a;
  return [a, b];
}

/** Carries all that this end has to the other. */
export async function carryAll(end: End): Promise<void> {
  for (await turn(); end.loaded; await turn()) end.carry(100_000);
}

/** Lets everything happen that can. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
