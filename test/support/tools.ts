/**
 * Programs made by others that tests run against: Helm and CoreDNS, as `test/real/build-tools.mjs` builds them. They
 * are looked for in $WEFT_TOOLS, or where that script puts them; without them their tests are skipped, aloud.
 */
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

const folder =
  process.env.WEFT_TOOLS ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "weft/tools");

/** The program's file, or why its tests are skipped; printed once. */
export function tool(name: "helm" | "coredns"): { file: string; skip: string | undefined } {
  const file = join(folder, name);
  if (existsSync(file)) return { file, skip: undefined };
  const skip = `${name} is not in ${folder}: node test/real/build-tools.mjs builds it`;
  console.log(`skipped: ${skip}`);
  return { file, skip };
}
