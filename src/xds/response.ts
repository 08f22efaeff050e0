/**
 * DeltaDiscoveryResponse, put together from resources that are encoded already: what a hundred proxies get was
 * encoded once, and a response is a concatenation. Field numbers: envoy/service/discovery/v3/discovery.proto.
 */
import { type Encoded, type Kind, typeUrls } from "./encode/index.ts";

/** The bytes of one response. */
export function deltaResponse(response: {
  kind: Kind;
  resources: readonly Encoded[];
  removed: readonly string[];
  nonce: string;
  systemVersion: string;
}): Buffer {
  const parts: Uint8Array[] = [];
  const field = (number: number, bytes: Uint8Array) => {
    parts.push(head(number, bytes.length), bytes);
  };
  field(1, Buffer.from(response.systemVersion));
  for (const { resource } of response.resources) field(2, resource);
  field(4, Buffer.from(typeUrls[response.kind]));
  field(5, Buffer.from(response.nonce));
  for (const name of response.removed) field(6, Buffer.from(name));
  return Buffer.concat(parts);
}

/** The tag of a length-delimited field, and the length. */
function head(number: number, length: number): Buffer {
  const bytes = [(number << 3) | 2];
  let rest = length;
  while (rest > 0x7f) {
    bytes.push((rest & 0x7f) | 0x80);
    rest >>>= 7;
  }
  bytes.push(rest);
  return Buffer.from(bytes);
}
