/** `weft`: finds the command, loads only what it needs, and prints errors for people in two lines. */
import { enableCompileCache } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

// Inherited by the lab's processes, which are most of what a start costs.
process.env.NODE_COMPILE_CACHE ??= join(
  fileURLToPath(new URL("../..", import.meta.url)),
  "node_modules/.cache/node",
);
enableCompileCache();

const { run } = await import("./run.ts");
await run(process.argv);
