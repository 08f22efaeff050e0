/**
 * Runs what a change must pass: types, lint, and the tests of `src` and `test`.
 *
 *   npm test                        everything but the suites that take minutes and have a script of their own
 *   npm run test:mesh               the mesh in labs, and the embedded proxy beside Envoy (about 7 minutes)
 *   npm test -- PATH ...            the tests below these paths only, without types and lint
 *   npm test -- --watch PATH ...    the same again at every change
 *
 * Everything else that begins with `--` goes to Node's test runner (`--test-name-pattern=...`). The last lines
 * printed are the runner's own totals.
 */
import { spawn } from "node:child_process";
import { existsSync, globSync, statSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

// `nft` and `ip` are there for root; an ordinary user's PATH may not say where.
process.env.PATH = `${process.env.PATH ?? ""}:/usr/sbin:/sbin`;

const root = fileURLToPath(new URL("..", import.meta.url));
const args = process.argv.slice(2);
const flags = args.filter((arg) => arg.startsWith("--"));
const paths = args.filter((arg) => !arg.startsWith("--"));

const scenario = "test/scenarios/002-openshift-service-mesh";
/** Suites with a script of their own, by its name. */
const suites: Record<string, string[]> = {
  mesh: [
    "test/differential",
    ...["across", "outage", "security", "workloads"].map((name) => `${scenario}/${name}.test.ts`),
  ],
};

const everything = paths.length === 0 && flags.length === 0;
let failed = 0;
if (everything) {
  for (const [what, program] of [
    ["types", ["tsc"]],
    ["lint", ["biome", "check", "."]],
  ] as const) {
    const status = await run(join(root, "node_modules/.bin", program[0]), program.slice(1));
    if (status !== 0) {
      failed = 1;
      console.error(`${what}: failed`);
    } else {
      console.log(`${what}: good`);
    }
  }
}

const elsewhere = new Set(Object.values(suites).flat().flatMap(testFiles));
const wanted =
  paths.length === 0
    ? ["src", "test"].flatMap(testFiles).filter((file) => !elsewhere.has(file))
    : paths.flatMap((path) => suites[path] ?? [path]).flatMap(testFiles);
const files = [...new Set(wanted)].sort();
if (files.length === 0) {
  console.error(
    `error: no tests in ${paths.join(", ")}\n  fix: name a folder, or a file that ends with .test.ts`,
  );
  process.exit(1);
}
// As many files at a time as there are processors: half of a lab's tests is waiting, and no two share anything.
const atATime = `--test-concurrency=${availableParallelism()}`;
const status = await run(process.execPath, ["--test", "--test-reporter=spec", atATime, ...flags, ...files]);
process.exitCode = status !== 0 ? status : failed;

/** The test files at or below a path; a path without its ending (`test/scenarios/001`) names all that begin so. */
function testFiles(path: string): string[] {
  const here = join(root, path);
  if (existsSync(here) && statSync(here).isFile()) return [path];
  const pattern = existsSync(here) ? `${path.replace(/\/$/, "")}/**/*.test.ts` : `${path}*{,/**/*}.test.ts`;
  return globSync(pattern, { cwd: root });
}

function run(program: string, args: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd: root, stdio: "inherit" });
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => child.kill(signal));
    child.on("error", reject);
    child.on("exit", (code) => resolve(code ?? 1));
  });
}
