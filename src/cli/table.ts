/** Output for people (tables as kubectl prints them) and for programs (`-o json|yaml`). */
import { type Command, Option } from "commander";

export type OutputFormat = "table" | "json" | "yaml";

/** Adds `-o, --output`. */
export function outputOption(command: Command): Command {
  return command.addOption(
    new Option("-o, --output <format>", "how to print").choices(["table", "json", "yaml"]).default("table"),
  );
}

/** Columns are as wide as their widest cell, three spaces apart; titles in capitals; empty cells are `<none>`. */
export function table(titles: string[], rows: (string | number | undefined)[][]): string {
  const cells = [
    titles,
    ...rows.map((row) => row.map((cell) => (cell === undefined || cell === "" ? "<none>" : `${cell}`))),
  ];
  const widths = titles.map((_, column) => Math.max(...cells.map((row) => row[column]!.length)));
  return cells
    .map((row) =>
      row
        .map((cell, i) => (i === row.length - 1 ? cell : cell.padEnd(widths[i]! + 3)))
        .join("")
        .trimEnd(),
    )
    .join("\n");
}

/** Prints `value` in the given format; `asTable` makes the text for people. */
export async function print(format: OutputFormat, value: unknown, asTable: () => string): Promise<void> {
  if (format === "table") console.log(asTable());
  else if (format === "json") console.log(JSON.stringify(value, undefined, 2));
  else console.log((await import("yaml")).stringify(value).trimEnd());
}

/** An age as kubectl writes it (`k8s.io/apimachinery/pkg/util/duration`, HumanDuration). */
export function age(seconds: number): string {
  const s = Math.floor(seconds);
  const m = Math.floor(s / 60);
  const h = Math.floor(m / 60);
  const d = Math.floor(h / 24);
  if (s < 0) return "0s";
  if (s < 120) return `${s}s`;
  if (m < 10) return s % 60 === 0 ? `${m}m` : `${m}m${s % 60}s`;
  if (m < 180) return `${m}m`;
  if (h < 8) return m % 60 === 0 ? `${h}h` : `${h}h${m % 60}m`;
  if (h < 48) return `${h}h`;
  if (d < 8) return h % 24 === 0 ? `${d}d` : `${d}d${h % 24}h`;
  if (d < 730) return `${d}d`;
  return `${Math.floor(d / 365)}y`;
}
