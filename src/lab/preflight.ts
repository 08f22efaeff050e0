/** Whether this machine lets this user run a lab; if not, what stands in the way and what to do about it. */
import { spawnSync } from "node:child_process";
import { accessSync, constants, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { delimiter, join } from "node:path";
import { WeftError } from "../api/index.ts";
import { systemPath } from "./network/index.ts";

/** The programs of a lab, and the Debian package that has each. */
const tools = {
  ip: "iproute2",
  nft: "nftables",
  unshare: "util-linux",
  nsenter: "util-linux",
  mount: "mount",
};

/** The options that make the namespaces of a lab. As an ordinary user its own uid is root in them, and the only uid. */
export const namespaceOptions = [
  "--user",
  "--map-root-user",
  "--mount",
  "--pid",
  "--fork",
  "--mount-proc",
  "--kill-child",
];

/** Throws TOOL_MISSING for the first program that is not there. */
export function requireTools(path = `${process.env.PATH}${delimiter}${systemPath}`): void {
  for (const [tool, debian] of Object.entries(tools)) {
    if (!path.split(delimiter).some((dir) => isExecutable(join(dir, tool)))) {
      const sudo = process.getuid?.() === 0 ? "" : "sudo ";
      throw new WeftError("TOOL_MISSING", { tool, command: `${sudo}apt-get install ${debian}` });
    }
  }
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * Why namespaces cannot be made, as a WeftError, or undefined when they can. Asked after a start that failed,
 * so that a start that works does not pay for it.
 */
export function namespaceTrouble(): WeftError | undefined {
  const trial = spawnSync(
    "unshare",
    [...namespaceOptions, "--net", "sh", "-ec", "mount -t tmpfs weft /mnt && ip link set lo up"],
    { encoding: "utf8", env: { ...process.env, PATH: systemPath, LC_ALL: "C" } },
  );
  if (trial.status === 0) return undefined;
  const says = (trial.stderr || String(trial.error ?? "")).trim().split("\n")[0] ?? "";
  const denied = (reason: string, command: string) => new WeftError("NAMESPACES_DENIED", { reason, command });
  if (setting("kernel/unprivileged_userns_clone") === "0") {
    return denied("kernel.unprivileged_userns_clone is 0", "sudo sysctl kernel.unprivileged_userns_clone=1");
  }
  if (setting("user/max_user_namespaces") === "0") {
    return denied("user.max_user_namespaces is 0", "sudo sysctl user.max_user_namespaces=10000");
  }
  if (setting("kernel/apparmor_restrict_unprivileged_userns") === "1") {
    return denied(
      "AppArmor fences them (kernel.apparmor_restrict_unprivileged_userns is 1)",
      "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    );
  }
  return denied(says, "run on a machine (not in a container) that allows user namespaces, or as root");
}

/** Throws LATENCY_UNAVAILABLE where the kernel has no `netem`. */
export function requireLatency(): void {
  const trial = spawnSync(
    "unshare",
    [...namespaceOptions, "--net", "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"],
    { encoding: "utf8", env: { ...process.env, PATH: systemPath, LC_ALL: "C" } },
  );
  if (trial.status === 0) return;
  const reason = (trial.stderr || String(trial.error ?? ""))
    .trim()
    .split("\n")[0]!
    .replace(/^Error: /, "");
  const fix = reason.includes("failed to execute")
    ? "install it: it is in the package iproute2, or iproute-tc"
    : "load the module sch_netem ('sudo modprobe sch_netem'; some systems have it in a package of extra modules)";
  throw new WeftError("LATENCY_UNAVAILABLE", { reason, fix });
}

function setting(path: string): string | undefined {
  try {
    return readFileSync(join("/proc/sys", path), "utf8").trim();
  } catch {
    return undefined;
  }
}

/**
 * The given ports of 127.0.0.1 when they are free, else PORT_IN_USE or PORT_DENIED; any that is free for each undefined.
 */
export async function freePorts(asked: readonly (number | undefined)[]): Promise<number[]> {
  const servers = asked.map(() => createServer());
  try {
    await Promise.all(
      servers.map((server, i) => {
        const port = asked[i] ?? 0;
        return new Promise<void>((resolve, reject) => {
          server.once("error", (error: NodeJS.ErrnoException) => {
            const code = error.code === "EACCES" ? "PORT_DENIED" : "PORT_IN_USE";
            reject(new WeftError(code, { port, address: "127.0.0.1", option: "--port" }, error));
          });
          server.listen(port, "127.0.0.1", resolve);
        });
      }),
    );
    return servers.map((server) => (server.address() as { port: number }).port);
  } finally {
    for (const server of servers) server.close();
  }
}
