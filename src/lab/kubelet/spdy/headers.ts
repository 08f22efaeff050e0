/**
 * Header blocks of SPDY/3: names and values behind their lengths, in one zlib stream per direction that starts from
 * a dictionary. Source: SPDY Protocol, Draft 3, section 2.6.10.
 */
import { constants, createInflate, type Inflate } from "node:zlib";

/** Names are in lower case; several values of one name are parted by NUL, as on the wire. */
export type Headers = ReadonlyMap<string, string>;

/** The words that the draft's dictionary has behind their lengths; the text follows without. */
const words =
  "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age " +
  "allow authorization cache-control connection content-base content-encoding content-language content-length " +
  "content-location content-md5 content-range content-type date etag expect expires from host if-match " +
  "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma " +
  "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade " +
  "user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie " +
  "keep-alive origin";
const text =
  "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505" +
  "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized" +
  "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable" +
  "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT" +
  "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain," +
  "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

/** What both directions' compression starts from, 1423 bytes. */
export const dictionary: Buffer = Buffer.concat([
  ...words.split(" ").map((word) => withLength(word.replace("_", " "))),
  Buffer.from(text),
]);

/** How large a header block may become, in bytes: a small one can stand for gigabytes. */
const largestBlock = 64 * 1024;

function withLength(value: string): Buffer {
  const bytes = Buffer.from(value, "latin1");
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

/**
 * Writes header blocks as a zlib stream of stored pieces. What we say is a few dozen bytes, and this needs neither a
 * dictionary nor a wait. An empty piece ends each block: some readers give nothing before it.
 */
export class HeaderWriter {
  #begun = false;

  write(headers: Headers): Buffer {
    const count = Buffer.alloc(4);
    count.writeUInt32BE(headers.size);
    const block = Buffer.concat([count, ...[...headers].flat().map(withLength)]);
    const pieces: Buffer[] = this.#begun ? [] : [Buffer.from([0x78, 0x01])];
    this.#begun = true;
    for (let at = 0; at < block.length; at += 0xffff) pieces.push(stored(block.subarray(at, at + 0xffff)));
    return Buffer.concat([...pieces, stored(Buffer.alloc(0))]);
  }
}

/** RFC 1951, section 3.2.4. */
function stored(data: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt16LE(data.length, 1);
  head.writeUInt16LE(~data.length & 0xffff, 3);
  return Buffer.concat([head, data]);
}

/** Reads header blocks. After an error the stream is of no more use. */
export class HeaderReader {
  readonly #inflate: Inflate = createInflate({ dictionary, flush: constants.Z_SYNC_FLUSH });
  #block: Buffer[] = [];
  #size = 0;
  #broken: Error | undefined;
  #fail: (error: Error) => void = () => {};

  constructor() {
    const broken = (error: Error) => {
      this.#broken = error;
      this.#block = [];
      this.#fail(error);
      this.#inflate.destroy();
    };
    this.#inflate.on("error", broken);
    this.#inflate.on("data", (chunk: Buffer) => {
      this.#size += chunk.length;
      if (this.#size > largestBlock) broken(new Error("a header block is too large"));
      else this.#block.push(chunk);
    });
  }

  /** One block. Rejects when it is broken or too large. */
  async read(compressed: Buffer): Promise<Headers> {
    this.#block = [];
    this.#size = 0;
    await new Promise<void>((resolve, reject) => {
      this.#fail = reject;
      if (this.#broken || this.#inflate.destroyed) reject(this.#broken ?? new Error("the session is over"));
      else this.#inflate.write(compressed, (error) => (error ? reject(error) : resolve()));
    });
    return parse(Buffer.concat(this.#block));
  }

  close(): void {
    this.#inflate.destroy();
  }
}

function parse(block: Buffer): Headers {
  let at = 0;
  const number = () => {
    if (at + 4 > block.length) throw new Error("a header block ends early");
    at += 4;
    return block.readUInt32BE(at - 4);
  };
  const string = () => {
    const length = number();
    if (at + length > block.length) throw new Error("a header block ends early");
    at += length;
    return block.toString("latin1", at - length, at);
  };
  const headers = new Map<string, string>();
  for (let left = number(); left > 0; left--) {
    const name = string().toLowerCase();
    if (name === "") throw new Error("a header block has an empty name");
    if (headers.has(name)) throw new Error(`a header block has the name "${name}" twice`);
    headers.set(name, string());
  }
  if (at !== block.length) throw new Error("a header block is longer than it says");
  return headers;
}
