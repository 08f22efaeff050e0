import type { FractionalPercent } from "#protocols/envoy/type/v3/percent.ts";

const denominators = [100, 10_000, 1_000_000];

/** A share as a number from 0 to 1; undefined when none is given. */
export function percentOf(percent: FractionalPercent | undefined): number | undefined {
  return percent && Math.min(1, percent.numerator / (denominators[percent.denominator] ?? 100));
}
