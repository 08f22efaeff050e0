/** What the server says it is: the Kubernetes release whose API it follows. */
import type { World } from "../../../world/index.ts";

export const gitVersion = "v1.36.3+weft";

/** The body of `/version`. */
export function versionInfo(world: World, started: number): object {
  return {
    major: "1",
    minor: "36",
    emulationMajor: "1",
    emulationMinor: "36",
    minCompatibilityMajor: "1",
    minCompatibilityMinor: "35",
    gitVersion,
    gitCommit: "",
    gitTreeState: "clean",
    buildDate: new Date(world.now() - (world.monotonic() - started)).toISOString().replace(/\.\d+Z$/, "Z"),
    goVersion: "none",
    compiler: "node",
    platform: "linux/amd64",
  };
}
