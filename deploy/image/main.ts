/** What the image runs: `weft control-plane` and nothing else of Weft. */
import { program } from "commander";
import { WeftError } from "../../src/api/index.ts";
import { define } from "../../src/cli/control-plane.ts";

define(program.name("control-plane"));
try {
  await program.parseAsync();
} catch (error) {
  console.error(`error: ${error instanceof Error ? error.message : String(error)}`);
  if (error instanceof WeftError) console.error(`  fix: ${error.fix}`);
  process.exitCode = 1;
}
