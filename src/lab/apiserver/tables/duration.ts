/** Ages in tables. */
import { humanDuration } from "../../../api/index.ts";

/** The age of an RFC 3339 timestamp; `<unknown>` without one. `now` is milliseconds since the epoch. */
export function since(timestamp: string | null | undefined, now: number): string {
  if (!timestamp) return "<unknown>";
  const at = Date.parse(timestamp);
  return Number.isNaN(at) ? "<invalid>" : humanDuration(now - at);
}
