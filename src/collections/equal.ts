/**
 * Structural equality of plain data: the cut-off of law 5.
 * A property that is undefined counts as absent, as it does in JSON. Values with a prototype of their own
 * (dates, byte arrays, class instances) are equal only when they are the same object, except Map, Set and
 * typed arrays, which are compared by content.
 */
export function equal(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) {
    return Object.is(a, b); // NaN
  }
  if (Array.isArray(a)) return Array.isArray(b) && equalArrays(a, b);
  const prototype = Object.getPrototypeOf(a);
  if (prototype !== Object.getPrototypeOf(b)) return false;
  if (prototype === Object.prototype || prototype === null) {
    return equalRecords(a as Record<string, unknown>, b as Record<string, unknown>);
  }
  if (a instanceof Map) return equalMaps(a, b as Map<unknown, unknown>);
  if (a instanceof Set) return equalSets(a, b as Set<unknown>);
  if (a instanceof Uint8Array) return equalArrays(a, b as Uint8Array);
  return false;
}

function equalArrays(a: ArrayLike<unknown>, b: ArrayLike<unknown>): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (!equal(a[i], b[i])) return false;
  return true;
}

function equalRecords(a: Record<string, unknown>, b: Record<string, unknown>): boolean {
  let surplus = 0; // properties of a that are there, less those of b
  for (const key in a) {
    const value = a[key];
    if (value === undefined) continue;
    if (!equal(value, b[key])) return false;
    surplus++;
  }
  for (const key in b) if (b[key] !== undefined) surplus--;
  return surplus === 0;
}

function equalMaps(a: Map<unknown, unknown>, b: Map<unknown, unknown>): boolean {
  if (a.size !== b.size) return false;
  for (const [key, value] of a) if (!b.has(key) || !equal(value, b.get(key))) return false;
  return true;
}

function equalSets(a: Set<unknown>, b: Set<unknown>): boolean {
  if (a.size !== b.size) return false;
  for (const value of a) if (!b.has(value)) return false;
  return true;
}
