/**
 * What the image runs: the parts of Weft that live in clusters, by the first word of a container's `args`. Flags alone
 * are the control plane's.
 */
import { program } from "commander";
import { WeftError } from "../../src/api/index.ts";
import type { CommandFile } from "../../src/cli/run.ts";

const parts: Record<string, () => Promise<CommandFile>> = {
  "control-plane": () => import("../../src/cli/control-plane.ts"),
  discovery: () => import("../../src/cli/discovery.ts"),
  proxy: () => import("../../src/cli/proxy.ts"),
  "proxy-init": () => import("../../src/cli/proxy-init.ts"),
};

const [first = "--", ...rest] = process.argv.slice(2);
const [name, args] = first.startsWith("-")
  ? ["control-plane", process.argv.slice(2)]
  : ([first, rest] as const);

try {
  const load = parts[name];
  if (!load) throw new Error(`the image has no part '${name}', only: ${Object.keys(parts).join(", ")}`);
  (await load()).define(program.name(name));
  await program.parseAsync(args, { from: "user" });
} catch (error) {
  console.error(`error: ${error instanceof Error ? error.message : String(error)}`);
  if (error instanceof WeftError) console.error(`  fix: ${error.fix}`);
  process.exitCode = 1;
}
