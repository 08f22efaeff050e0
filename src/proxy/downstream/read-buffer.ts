/** Bytes that a connection is read into at first, and at most. */
const smallest = 16 * 1024;
const largest = 256 * 1024;

/**
 * The memory that one relayed connection is read into. It is read into again and again, and grows for connections that
 * carry much: fewer system calls, and no memory taken and given back for each. Node gives every read 64 KiB of its own
 * otherwise; for a large file that is twice the CPU.
 */
export class ReadBuffer {
  #buffer: Buffer | undefined;
  #size = smallest;

  /** Where the next bytes are read into; asked after every read. */
  readonly next = (): Buffer => {
    this.#buffer ??= Buffer.allocUnsafeSlow(this.#size);
    return this.#buffer;
  };

  /** So many bytes were read: more of them than there is room for call for more room, few for less. */
  filled(count: number): void {
    const size = this.#size;
    if (count === size) this.#size = Math.min(size * 2, largest);
    else if (count < size / 16) this.#size = Math.max(size / 2, smallest);
    if (size !== this.#size) this.#buffer = undefined;
  }

  /** What was read is still to be written: the memory is the writer's now. */
  giveAway(): void {
    this.#buffer = undefined;
  }
}
