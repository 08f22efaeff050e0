/** Reading the protobuf wire format (protobuf.dev, "Encoding"): varints, fixed words and length-delimited fields. */

export type WireValue = bigint | Uint8Array;

export class ProtobufError extends Error {}

/** Yields [field number, value]: a bigint for varints and fixed words, bytes for length-delimited fields. */
export function* fields(bytes: Uint8Array): Generator<[number, WireValue]> {
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = bytes[at++];
      if (byte === undefined) throw new ProtobufError("proto: unexpected end of data");
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
    throw new ProtobufError("proto: varint is too long");
  };
  const take = (length: number): Uint8Array => {
    if (at + length > bytes.length) throw new ProtobufError("proto: unexpected end of data");
    at += length;
    return bytes.subarray(at - length, at);
  };
  while (at < bytes.length) {
    const tag = Number(varint());
    const number = Math.floor(tag / 8);
    if (number < 1) throw new ProtobufError(`proto: illegal field number ${number}`);
    switch (tag & 7) {
      case 0:
        yield [number, varint()];
        break;
      case 1:
        yield [number, littleEndian(take(8))];
        break;
      case 2:
        yield [number, take(Number(varint()))];
        break;
      case 5:
        yield [number, littleEndian(take(4))];
        break;
      default:
        throw new ProtobufError(`proto: illegal wire type ${tag & 7}`);
    }
  }
}

function littleEndian(bytes: Uint8Array): bigint {
  return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

export function asText(value: WireValue): string {
  return new TextDecoder().decode(asBytes(value));
}

export function asBytes(value: WireValue): Uint8Array {
  if (typeof value === "bigint") throw new ProtobufError("proto: wrong wire type");
  return value;
}

/** A signed integer. Kubernetes' integers stay below 2^53 wherever a client sends one. */
export function asInteger(value: WireValue): number {
  if (typeof value !== "bigint") throw new ProtobufError("proto: wrong wire type");
  return Number(BigInt.asIntN(64, value));
}

export function asDouble(value: WireValue): number {
  if (typeof value !== "bigint") throw new ProtobufError("proto: wrong wire type");
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, value, true);
  return view.getFloat64(0, true);
}
