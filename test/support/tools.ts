/**
 * Programs made by others that tests run against: Helm and CoreDNS. `npm run test:real` builds them; without them
 * their tests are skipped, aloud.
 */
import { existsSync } from "node:fs";
import { type GoProgram, goProgramFile } from "../real/programs.ts";

/** The program's file, or why its tests are skipped; printed once. */
export function tool(name: GoProgram): { file: string; skip: string | undefined } {
  const file = goProgramFile(name);
  if (existsSync(file)) return { file, skip: undefined };
  const skip = `${name} is not there (${file}): 'npm run test:real' builds it`;
  console.log(`skipped: ${skip}`);
  return { file, skip };
}
