import type { World } from "../../world/index.ts";

const BATCH = 256;
const hex = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/** Version 4 UUIDs for x-request-id; randomness is asked for in batches, for it is asked for with every request. */
export function requestIds(world: World): () => string {
  let bytes: Uint8Array = new Uint8Array(0);
  let at = 0;
  return () => {
    if (at >= bytes.length) {
      bytes = world.bytes(16 * BATCH);
      at = 0;
    }
    const b = bytes;
    const i = at;
    at += 16;
    return (
      `${hex[b[i]!]}${hex[b[i + 1]!]}${hex[b[i + 2]!]}${hex[b[i + 3]!]}-${hex[b[i + 4]!]}${hex[b[i + 5]!]}-` +
      `4${hex[b[i + 6]!]![1]}${hex[b[i + 7]!]}-${hex[(b[i + 8]! & 0x3f) | 0x80]}${hex[b[i + 9]!]}-` +
      `${hex[b[i + 10]!]}${hex[b[i + 11]!]}${hex[b[i + 12]!]}${hex[b[i + 13]!]}${hex[b[i + 14]!]}${hex[b[i + 15]!]}`
    );
  };
}
