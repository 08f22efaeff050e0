/** Output for people (tables as kubectl prints them) and for programs (`-o json|yaml`). */
import { type Command, Option } from "commander";
import { humanDuration } from "../api/index.ts";

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

/** An age in seconds as kubectl writes it; what lies in the future is new. */
export function age(seconds: number): string {
  return humanDuration(Math.max(0, seconds) * 1000);
}
