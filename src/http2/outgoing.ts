/**
 * What a connection sends: frames gather and leave in one write when the turn is over; DATA as windows and the socket
 * take it, a frame of each stream in turn. Source: RFC 9113, 5.2.
 */
import type { Duplex } from "node:stream";
import type { Floods } from "./floods.ts";
import {
  checkWindow,
  defaultFrameSize,
  defaultWindow,
  flag,
  frame,
  frameHead,
  headersFrames,
  headSize,
  numberFrame,
} from "./frames.ts";
import { HpackEncoder } from "./hpack.ts";
import { and, none } from "./pieces.ts";
import type { Stream } from "./stream.ts";

/** Below this, what goes out together is made one piece, bytes. */
const worthSharing = 16 * 1024;
/** Up to this, data is copied behind the head of its frame, bytes: often that is all that goes out. */
const worthCopying = 2 * 1024;

/** Connections that have something to write at the end of this turn. */
const unwritten: Outgoing[] = [];
const settled = Promise.resolve();
function writeAll(): void {
  for (const outgoing of unwritten.splice(0)) {
    try {
      outgoing.flush();
    } catch (error) {
      outgoing.bug(error);
    }
  }
}

export class Outgoing {
  readonly #socket: Duplex;
  readonly #floods: Floods;
  /** Is told of a mistake of ours. */
  readonly bug: (error: unknown) => void;
  readonly encoder = new HpackEncoder();
  /** What the peer takes in one frame, and how much of DATA now. */
  frameSize = defaultFrameSize;
  #window = defaultWindow;
  /** Streams that have data and no window, or a socket that takes no more. */
  readonly #held = new Set<Stream>();
  #gathered: Buffer[] = none;
  #bytes = 0;
  #flushed: (() => void)[] = [];
  #willFlush = false;
  /** The head of what was gathered last, if that is DATA, and whose: END_STREAM may be put there. */
  #lastHead: Buffer | undefined;
  #lastStream: Stream | undefined;
  #full = false;
  #over = false;
  /** All that went, bytes. */
  written = 0;

  constructor(socket: Duplex, floods: Floods, bug: (error: unknown) => void) {
    this.#socket = socket;
    this.#floods = floods;
    this.bug = bug;
  }

  write(bytes: Buffer): void {
    if (this.#over) return;
    this.#lastHead = undefined;
    this.#gathered = and(this.#gathered, bytes);
    this.#bytes += bytes.length;
    if (this.#willFlush) return;
    this.#willFlush = true;
    if (unwritten.push(this) === 1) void settled.then(writeAll);
  }

  /** An answer to a control frame: for a peer that does not read they are not kept without end. */
  answer(bytes: Buffer): void {
    this.#floods.answer();
    this.write(bytes);
  }

  headers(stream: Stream, fields: readonly string[], end: boolean): void {
    const block = this.encoder.encode(fields);
    for (const bytes of headersFrames(stream.id, block, end, this.frameSize)) {
      stream.sent += bytes.length;
      this.write(bytes);
    }
  }

  /** Sends what windows and socket take of what waits; the rest when they take more. True: nothing waits. */
  data(stream: Stream): boolean {
    while (stream.queued > 0) {
      if (this.#frame(stream)) continue;
      this.#held.add(stream);
      return false;
    }
    this.#held.delete(stream);
    return true;
  }

  /** The end of a message that has no trailers. */
  end(stream: Stream): void {
    if (this.#lastHead && this.#lastStream === stream) this.#lastHead[4] = flag.END_STREAM;
    else {
      stream.sent += headSize;
      this.write(frameHead(0, frame.DATA, flag.END_STREAM, stream.id));
    }
  }

  windowUpdate(id: number, bytes: number): void {
    this.write(numberFrame(frame.WINDOW_UPDATE, id, bytes));
  }

  /** The peer takes so many bytes more, of the connection (no stream) or of a stream. */
  widen(bytes: number, stream?: Stream): void {
    if (!stream) {
      this.#window += bytes;
      checkWindow(this.#window);
      this.#sendHeld();
    } else if (this.#held.has(stream) && this.data(stream)) stream.emptied();
  }

  /** It has no more to send. */
  forget(stream: Stream): void {
    this.#held.delete(stream);
    if (this.#lastStream === stream) this.#lastStream = undefined;
  }

  /** Calls back when all that was given so far has left this process, or never will. */
  whenFlushed(call: () => void): void {
    if (this.#over || (this.#bytes === 0 && this.#socket.writableLength === 0)) call();
    else if (this.#bytes > 0) this.#flushed.push(call);
    else this.#socket.write(nothing, () => call());
  }

  /** Writes what has gathered. */
  flush(): void {
    this.#willFlush = false;
    const gathered = this.#gathered;
    if (gathered.length === 0 || this.#over) return;
    const bytes = this.#bytes;
    this.written += bytes;
    const done = this.#takeFlushed();
    this.#gathered = none;
    this.#bytes = 0;
    this.#lastHead = undefined;
    const socket = this.#socket;
    if (bytes <= worthSharing || gathered.length === 1) {
      const whole = gathered.length === 1 ? gathered[0] : Buffer.concat(gathered, bytes);
      this.#full = !socket.write(whole, done);
    } else {
      socket.cork();
      const last = gathered.pop();
      for (const each of gathered) socket.write(each);
      this.#full = !socket.write(last, done);
      socket.uncork();
    }
    if (!this.#full) this.#floods.answersRead();
  }

  #takeFlushed(): (() => void) | undefined {
    const flushed = this.#flushed;
    if (flushed.length === 0) return undefined;
    this.#flushed = [];
    return () => {
      for (const call of flushed) call();
    };
  }

  /** The socket takes more again. */
  drained(): void {
    this.#full = false;
    this.#floods.answersRead();
    this.#sendHeld();
  }

  /** Nothing is written any more. */
  stop(): void {
    this.#over = true;
    this.#gathered = none;
    this.#held.clear();
    this.#takeFlushed()?.();
  }

  #frame(stream: Stream): boolean {
    const most = Math.min(stream.sendWindow, this.#window, this.frameSize, defaultFrameSize);
    if (most <= 0 || this.#full) return false;
    const chunk = stream.take(most);
    stream.sendWindow -= chunk.length;
    stream.sent += headSize + chunk.length;
    this.#window -= chunk.length;
    this.#floods.dataSent();
    if (stream.shares && chunk.length < defaultFrameSize) {
      this.write(sharedFrame(stream.id, chunk));
      return true;
    }
    const short = chunk.length <= worthCopying;
    const head = short ? dataFrame(stream.id, chunk) : frameHead(chunk.length, frame.DATA, 0, stream.id, 0);
    this.write(head);
    if (!short) this.write(chunk);
    this.#lastHead = head;
    this.#lastStream = stream;
    return true;
  }

  /** In turns, a frame each. */
  #sendHeld(): void {
    for (let sent = true; sent && !this.#over; ) {
      sent = false;
      for (const stream of [...this.#held]) {
        if (!this.#held.has(stream) || !this.#frame(stream)) continue;
        sent = true;
        if (stream.queued > 0) continue;
        this.#held.delete(stream);
        stream.emptied();
      }
    }
  }
}

const nothing = Buffer.alloc(0);

function dataFrame(stream: number, data: Buffer): Buffer {
  const bytes = frameHead(data.length, frame.DATA, 0, stream);
  data.copy(bytes, headSize);
  return bytes;
}

/** The last frame of a stream whose data others send too. */
let shared: { stream: number; data: Buffer; frame: Buffer } | undefined;

/**
 * A frame of DATA that is made once for all who send the same in a row, on streams of the same number. So the end of
 * one of them is not put there.
 */
function sharedFrame(stream: number, data: Buffer): Buffer {
  if (shared?.data !== data || shared.stream !== stream)
    shared = { stream, data, frame: dataFrame(stream, data) };
  return shared.frame;
}
