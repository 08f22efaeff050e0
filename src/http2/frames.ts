/** Frames of HTTP/2 as numbers and bytes. Source: RFC 9113, 4.1, 6, 7. */

export const frame = {
  DATA: 0,
  HEADERS: 1,
  PRIORITY: 2,
  RST_STREAM: 3,
  SETTINGS: 4,
  PUSH_PROMISE: 5,
  PING: 6,
  GOAWAY: 7,
  WINDOW_UPDATE: 8,
  CONTINUATION: 9,
} as const;

export const flag = { END_STREAM: 0x1, ACK: 0x1, END_HEADERS: 0x4, PADDED: 0x8, PRIORITY: 0x20 } as const;

/** RFC 9113, 7. */
export const errorCode = {
  NO_ERROR: 0,
  PROTOCOL_ERROR: 1,
  INTERNAL_ERROR: 2,
  FLOW_CONTROL_ERROR: 3,
  SETTINGS_TIMEOUT: 4,
  STREAM_CLOSED: 5,
  FRAME_SIZE_ERROR: 6,
  REFUSED_STREAM: 7,
  CANCEL: 8,
  COMPRESSION_ERROR: 9,
  CONNECT_ERROR: 10,
  ENHANCE_YOUR_CALM: 11,
} as const;

/** RFC 9113, 6.5.2. */
export const setting = {
  HEADER_TABLE_SIZE: 1,
  ENABLE_PUSH: 2,
  MAX_CONCURRENT_STREAMS: 3,
  INITIAL_WINDOW_SIZE: 4,
  MAX_FRAME_SIZE: 5,
  MAX_HEADER_LIST_SIZE: 6,
} as const;

/** What ends a connection: the peer is told the code (GOAWAY), people the message. */
export class ConnectionError extends Error {
  readonly code: number;
  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

/** What begins every connection of a client (RFC 9113, 3.4). */
export const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

/** Bytes of a frame's head. */
export const headSize = 9;
/** Of a frame's payload, where nobody has said otherwise; we take no larger ones. */
export const defaultFrameSize = 16_384;
export const defaultWindow = 65_535;
export const largestWindow = 2 ** 31 - 1;
export const largestStreamId = 2 ** 31 - 1;

/** A window that grew to this size; throws when no window may (RFC 9113, 6.9.1). */
export function checkWindow(size: number): void {
  if (size > largestWindow) throw new ConnectionError(errorCode.FLOW_CONTROL_ERROR, "a window above 2^31-1");
}

/** The head of a frame, and room for `payload` bytes behind it. */
export function frameHead(
  length: number,
  type: number,
  flags: number,
  stream: number,
  payload: number = length,
): Buffer {
  const bytes = Buffer.allocUnsafe(headSize + payload);
  bytes[0] = length >>> 16;
  bytes[1] = length >>> 8;
  bytes[2] = length;
  bytes[3] = type;
  bytes[4] = flags;
  bytes.writeUInt32BE(stream, 5);
  return bytes;
}

export function settingsFrame(values: readonly (readonly [id: number, value: number])[]): Buffer {
  const bytes = frameHead(values.length * 6, frame.SETTINGS, 0, 0);
  for (const [i, [id, value]] of values.entries()) {
    bytes.writeUInt16BE(id, headSize + i * 6);
    bytes.writeUInt32BE(value, headSize + i * 6 + 2);
  }
  return bytes;
}

/** A frame whose payload is one number of 32 bits: RST_STREAM and WINDOW_UPDATE. */
export function numberFrame(type: number, stream: number, value: number): Buffer {
  const bytes = frameHead(4, type, 0, stream);
  bytes.writeUInt32BE(value, headSize);
  return bytes;
}

export function goawayFrame(lastStream: number, code: number, debug: string): Buffer {
  const text = Buffer.from(debug.slice(0, 256), "latin1");
  const bytes = frameHead(8 + text.length, frame.GOAWAY, 0, 0);
  bytes.writeUInt32BE(lastStream, headSize);
  bytes.writeUInt32BE(code, headSize + 4);
  text.copy(bytes, headSize + 8);
  return bytes;
}

export function pingFrame(flags: number, opaque: Buffer): Buffer {
  const bytes = frameHead(8, frame.PING, flags, 0);
  opaque.copy(bytes, headSize, 0, 8);
  return bytes;
}

/** A header block: HEADERS, and CONTINUATION where it is longer than one frame may be. */
export function headersFrames(stream: number, block: Buffer, end: boolean, frameSize: number): Buffer[] {
  const result: Buffer[] = [];
  for (let at = 0; at === 0 || at < block.length; at += frameSize) {
    const length = Math.min(frameSize, block.length - at);
    const last = at + length === block.length ? flag.END_HEADERS : 0;
    const [type, flags] =
      at === 0 ? [frame.HEADERS, last | (end ? flag.END_STREAM : 0)] : [frame.CONTINUATION, last];
    const bytes = frameHead(length, type, flags, stream);
    block.copy(bytes, headSize, at, at + length);
    result.push(bytes);
  }
  return result;
}
