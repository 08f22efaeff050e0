/** Lists of bytes to send, of which there is mostly none or one: an array that grows from nothing takes three times as much. */

/** Of those that have none; never written to. */
export const none: Buffer[] = [];

/** The list with one more: the same one, unless it had none. */
export function and(list: Buffer[], piece: Buffer): Buffer[] {
  if (list.length === 0) return [piece];
  list.push(piece);
  return list;
}
