/** What a benchmark measured, and how it is told. */

export interface Figure {
  /** The benchmark, as `npm run bench NAME` calls it. */
  bench: string;
  what: string;
  value: number;
  unit: "s" | "ms" | "MB" | "MiB" | "/s" | "%" | "";
  /** At most (at least, for what is counted per second) this much, as agreed. */
  limit?: number;
  /** What we would like it to be. */
  goal?: number;
  note?: string;
}

export type Benchmark = (report: Report) => Promise<void>;

/** Takes one benchmark's figures; `step` tells a person what is going on. */
export interface Report {
  figure(
    what: string,
    value: number,
    unit: Figure["unit"],
    more?: Pick<Figure, "limit" | "goal" | "note">,
  ): void;
  /** The median and the 99th percentile of samples. */
  spread(
    what: string,
    samples: readonly number[],
    unit: Figure["unit"],
    limits?: { p50?: number; p99?: number },
  ): void;
  step(text: string): void;
}

export function isMet({ value, unit, limit }: Figure): boolean | undefined {
  if (limit === undefined) return undefined;
  return unit === "/s" ? value >= limit : value <= limit;
}

/** The smallest sample that `share` of all samples do not exceed (nearest rank). */
export function percentile(samples: readonly number[], share: number): number {
  if (samples.length === 0) return Number.NaN;
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]!;
}

/** Columns for people. */
export function asTable(figures: readonly Figure[]): string {
  const rows = figures.map((figure) => {
    const { bench, what, value, unit, limit, goal, note } = figure;
    const met = isMet(figure);
    return [
      bench,
      what,
      `${rounded(value)} ${unit}`.trimEnd(),
      limit === undefined ? "" : `${unit === "/s" ? "≥" : "≤"} ${limit} ${unit}`.trimEnd(),
      goal === undefined ? "" : `${goal} ${unit}`.trimEnd(),
      met === undefined ? "" : met ? "met" : "MISSED",
      note ?? "",
    ];
  });
  const cells = [["BENCH", "FIGURE", "MEASURED", "AGREED", "GOAL", "", "NOTE"], ...rows];
  const widths = cells[0]!.map((_, column) => Math.max(...cells.map((row) => row[column]!.length)));
  return cells
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i]! + 2))
        .join("")
        .trimEnd(),
    )
    .join("\n");
}

function rounded(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
