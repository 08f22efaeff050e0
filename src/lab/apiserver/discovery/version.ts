import type { World } from "../../../world/index.ts";
import { kubernetesVersion as gitVersion } from "../../spec.ts";

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
