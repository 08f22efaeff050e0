/** The real Envoy, for tests: where it is, and running it. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { findEnvoy } from "../../lab/images/envoy.ts";

export { findEnvoy };

/** Why a test that needs Envoy cannot run; false where it can. */
export const noEnvoy = findEnvoy() ? false : "there is no Envoy here: 'weft up --proxy envoy' fetches one";

/** What Envoy has against a bootstrap; undefined when it is content. */
export function validate(file: string): string | undefined {
  const { status, stderr } = spawnSync(findEnvoy()!, ["--mode", "validate", "-c", file, "-l", "error"], {
    encoding: "utf8",
  });
  return status === 0 ? undefined : stderr;
}

/** Runs Envoy with a bootstrap; `output` has what it said. */
export function startEnvoy(file: string): {
  process: ChildProcess;
  output: () => string;
  stop(): Promise<void>;
} {
  const child = spawn(
    findEnvoy()!,
    ["-c", file, "-l", "error", "--concurrency", "1", "--use-dynamic-base-id", "--drain-time-s", "1"],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (output += data));
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  return {
    process: child,
    output: () => output,
    async stop() {
      child.kill("SIGKILL");
      await ended;
    },
  };
}
