/** Puts the redirection's rules into the network namespace that this process is in, and takes them out again. */
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { dirname } from "node:path";
import {
  modeFor,
  proxyAddress,
  type Redirection,
  type RedirectionOptions,
  removal,
  rules,
} from "./redirection.ts";

/**
 * Redirects, and notes in `file` how the proxy passes. May be called again: what was there is replaced. Throws Error
 * with what `nft` or `ip` said.
 */
export function redirect(
  options: Omit<RedirectionOptions, "mode" | "podAddress"> & {
    mode?: Redirection["mode"] | undefined;
    podAddress?: string | undefined;
  },
  file: string,
): Redirection {
  const mode = options.mode ?? modeFor(readFileSync("/proc/self/uid_map", "utf8"));
  const podAddress = options.podAddress ?? ownAddress();
  if (mode === "address") {
    if (podAddress === undefined) throw new Error("this pod has no IPv4 address that could be redirected");
    // `scope host`: nobody gets it as the source of a connection who does not ask for it.
    run("ip", ["address", "replace", `${proxyAddress}/32`, "dev", "lo", "scope", "host"]);
  }
  run("nft", ["-f", "-"], rules({ ...options, mode, podAddress: podAddress ?? "" }));
  const redirection: Redirection = mode === "uid" ? { mode } : { mode, bindAddress: proxyAddress };
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify(redirection)}\n`);
  return redirection;
}

/** Takes back what `redirect` did. */
export function undo(file: string): void {
  run("nft", ["-f", "-"], removal());
  if (networkInterfaces().lo?.some(({ address }) => address === proxyAddress)) {
    run("ip", ["address", "del", `${proxyAddress}/32`, "dev", "lo"]);
  }
  rmSync(file, { force: true });
}

/** Addresses of IPv6 that reach beyond the pod: what uses them passes the mesh by. */
export function addressesPassedBy(): string[] {
  return Object.values(networkInterfaces())
    .flatMap((of) => of ?? [])
    .filter(({ family, internal, address }) => family === "IPv6" && !internal && !/^fe80/i.test(address))
    .map(({ address }) => address);
}

function ownAddress(): string | undefined {
  return Object.values(networkInterfaces())
    .flatMap((of) => of ?? [])
    .find(
      ({ family, internal, address }) => family === "IPv4" && !internal && !address.startsWith("169.254."),
    )?.address;
}

function run(program: string, args: string[], input?: string): void {
  const { status, stderr, error } = spawnSync(program, args, { input: input ?? "", encoding: "utf8" });
  if (error) throw new Error(`the program '${program}' does not run: ${error.message}`);
  if (status !== 0) throw new Error(`${program} ${args.join(" ")} ended with ${status}: ${stderr.trim()}`);
}
