/** `weft check`: looks at a cluster, or at two and what is between them. Exit code 1 when something failed. */
import type { Command } from "commander";
import { type Check, checkCluster, checkPair } from "../install/index.ts";
import { clientOf } from "./contexts.ts";
import { type OutputFormat, outputOption, print } from "./table.ts";

interface Options {
  context: string[];
  kubeconfig?: string;
  output: OutputFormat;
}

export function define(command: Command): void {
  outputOption(command)
    .option(
      "--context <name>",
      "context of a cluster (default: the current one); may be repeated: what is between them is checked too",
      (value: string, all: string[]) => [...all, value],
      [],
    )
    .option(
      "--kubeconfig <file>",
      "the kubeconfig that has the contexts (default: the one that kubectl uses)",
    )
    .action(async ({ context: contexts, kubeconfig, output }: Options) => {
      const named = (contexts.length > 0 ? contexts : [undefined]).map((name) => clientOf(name, kubeconfig));
      const pairs = named.flatMap((a, i) => named.slice(i + 1).map((b) => [a, b] as const));
      const checks = (
        await Promise.all([
          ...named.map(({ client, context }) => checkCluster(client, context)),
          ...pairs.map(([a, b]) => checkPair(a, b)),
        ])
      ).flat();
      await print(output, checks, () => text(checks));
      if (checks.some(({ status }) => status === "failed")) process.exitCode = 1;
    });
}

const signs = { ok: "√", warning: "‼", failed: "×" };

/** One line for all definitions of a cluster that are well: there are two dozen. */
function inShort(checks: readonly Check[]): Check[] {
  const isGood = ({ name, status }: Check) => name.startsWith("definition ") && status === "ok";
  const counts = new Map<string, number>();
  for (const { about } of checks.filter(isGood)) counts.set(about, (counts.get(about) ?? 0) + 1);
  return checks.flatMap((check) => {
    if (!isGood(check)) return [check];
    const count = counts.get(check.about);
    counts.delete(check.about);
    return count ? [{ ...check, name: "its definitions are there", message: `${count}` }] : [];
  });
}

/** One part for each cluster and pair; what is not well with what was found and what to do. */
export function text(checks: readonly Check[]): string {
  const lines: string[] = [];
  let about: string | undefined;
  for (const check of inShort(checks)) {
    if (check.about !== about) {
      about = check.about;
      if (lines.length > 0) lines.push("");
      lines.push(about, "-".repeat(about.length));
    }
    const found = check.status === "ok" && check.message ? `: ${check.message}` : "";
    lines.push(`${signs[check.status]} ${check.name}${found}`);
    if (check.status === "ok") continue;
    lines.push(`    ${check.message}`);
    if (check.fix) lines.push(`    fix: ${check.fix}`);
  }
  const count = (status: Check["status"]) => checks.filter((check) => check.status === status).length;
  const [bad, warned] = [count("failed"), count("warning")];
  const summary = bad > 0 ? `${bad} failed` : "nothing failed";
  lines.push(
    "",
    `${signs[bad > 0 ? "failed" : "ok"]} ${summary}${warned > 0 ? `, ${warned} to look at` : ""}`,
  );
  return lines.join("\n");
}
