/** Names that the room gives to objects. They are functions of what the objects are for, so no state is needed. */
import { createHash } from "node:crypto";

const alphabet = "0123456789abcdefghijklmnopqrstuv";

/** base32hex (RFC 4648 section 7) in lower case, without padding. */
function base32hex(bytes: Uint8Array): string {
  let text = "";
  let bits = 0;
  let value = 0;
  for (const byte of bytes) {
    value = (value << 8) | byte;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += alphabet[(value >>> bits) & 31];
    }
    value &= (1 << bits) - 1;
  }
  if (bits > 0) text += alphabet[(value << (5 - bits)) & 31];
  return text;
}

function hash(text: string): string {
  return base32hex(createHash("sha256").update(text).digest()).slice(0, 10);
}

/** Name of the derived Service of an import, as mcs-api's own controller names it. */
export function derivedName(import_: { namespace: string; name: string }): string {
  return `derived-${hash(`${import_.namespace}/${import_.name}`)}`;
}

/** Longest name of an object whose name is a DNS subdomain (RFC 1123). */
const longestName = 253;

/**
 * Name of the EndpointSlice that imports an offer. Neither `imported-<offer>` nor the cluster's id may have a
 * dot in the plain form, so it can be taken apart in one way only; all other names end in a hash of both.
 */
export function importedSliceName(cluster: string, offer: string): string {
  const plain = `imported-${offer}.${cluster}`;
  if (plain.length <= longestName && !offer.includes(".") && !cluster.includes(".")) return plain;
  const tail = `.${cluster.slice(0, 63)}.${hash(`${cluster}/${offer}`)}`;
  // A label of the name must not end in a dash or a dot where it is cut.
  const head = `imported-${offer}`.slice(0, longestName - tail.length).replace(/[-.]+$/, "");
  return `${head}${tail.replace(/[-.]+\./, ".")}`;
}
