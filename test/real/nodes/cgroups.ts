/**
 * Control groups of a pair of clusters. Everything that runs in the pair is below one group of its own in every
 * hierarchy, so ending the pair is ending what is in them, and nothing of it can be forgotten.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Kubernetes of today wants these; in version 2 they are handed down by name. */
const controllers = ["cpuset", "cpu", "memory", "pids"];

/** Makes a group below this process's own in every hierarchy. Gives their directories. */
export function createGroups(name: string): string[] {
  const groups: string[] = [];
  for (const { mountPoint, kind, options } of cgroupMounts()) {
    if (kind === "cgroup2") continue; // alone, version 2 is below; beside version 1 it has nothing to control
    const group = join(mountPoint, ownGroup(options.split(",")), name);
    mkdirSync(group, { recursive: true });
    // A cpuset without processors takes no process in.
    for (const file of ["cpuset.cpus", "cpuset.mems"]) {
      if (existsSync(join(group, file))) {
        writeFileSync(join(group, file), readFileSync(join(group, "..", file)));
        writeFileSync(join(group, "cgroup.clone_children"), "1");
      }
    }
    groups.push(group);
  }
  if (groups.length > 0) return groups;
  const unified = cgroupMounts().find(({ kind }) => kind === "cgroup2");
  if (!unified) throw new Error("no control groups are mounted");
  // At the top: a group with processes in it, as this process's own is, cannot hand controllers down.
  // What the top does not hand down (often cpuset) no group below it has.
  const given = join(unified.mountPoint, "cgroup.subtree_control");
  for (const controller of controllers) writeFileSync(given, `+${controller}`);
  const group = join(unified.mountPoint, name);
  mkdirSync(group, { recursive: true });
  return [group];
}

interface Mount {
  mountPoint: string;
  kind: "cgroup" | "cgroup2";
  /** Options of the file system: the controllers, in version 1. */
  options: string;
}

function cgroupMounts(): Mount[] {
  // 36 35 98:0 ROOT MOUNTPOINT OPTIONS [TAGS] - KIND SOURCE OPTIONS
  const lines = readFileSync("/proc/self/mountinfo", "utf8").trim().split("\n");
  return lines.flatMap((line): Mount[] => {
    const [mounted = "", fileSystem = ""] = line.split(" - ");
    const [kind, , options = ""] = fileSystem.split(" ");
    return kind === "cgroup" || kind === "cgroup2"
      ? [{ mountPoint: mounted.split(" ")[4]!, kind, options }]
      : [];
  });
}

/** Where this process is in the hierarchy of version 1 that has one of these controllers. */
function ownGroup(options: readonly string[]): string {
  for (const line of readFileSync("/proc/self/cgroup", "utf8").trim().split("\n")) {
    const [, names = "", path = "/"] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (names !== "" && names.split(",").every((name) => options.includes(name))) return path;
  }
  return "/";
}

/** Shell text that takes the shell itself into the groups. */
export function joinGroups(groups: readonly string[]): string {
  return groups.map((group) => `echo $$ > '${join(group, "cgroup.procs")}'`).join("; ");
}

/**
 * Shell text that shows the groups at /sys/fs/cgroup, as the top of every hierarchy, to a process in a control
 * group namespace and a mount namespace of its own. Version 2 hands its controllers down from the top then.
 */
export function mountGroups(): string {
  const hierarchies = cgroupMounts()
    .filter(({ kind }) => kind === "cgroup")
    .map(({ options }) => {
      const names = options
        .split(",")
        .filter((name) => !["rw", "ro"].includes(name) && !name.startsWith("release_agent"));
      return names.join(",");
    });
  if (hierarchies.length === 0) {
    return [
      "mount -t cgroup2 cgroup /sys/fs/cgroup",
      "mkdir -p /sys/fs/cgroup/init",
      "for pid in $(cat /sys/fs/cgroup/cgroup.procs); do echo $pid > /sys/fs/cgroup/init/cgroup.procs || true; done",
      `echo '${controllers.map((name) => `+${name}`).join(" ")}' > /sys/fs/cgroup/cgroup.subtree_control`,
    ].join("\n");
  }
  return [
    "mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup",
    ...hierarchies.map((names) => {
      const directory = `/sys/fs/cgroup/${names.replace("name=", "")}`;
      const options = names.startsWith("name=") ? `none,${names}` : names;
      return `mkdir ${directory} && mount -t cgroup -o ${options} cgroup ${directory}`;
    }),
  ].join("\n");
}

/** Every process below these groups. */
export function processesIn(groups: readonly string[]): number[] {
  return [...new Set(groups.flatMap((group) => [group, ...below(group)]).flatMap(members))];
}

function members(group: string): number[] {
  try {
    return readFileSync(join(group, "cgroup.procs"), "utf8").trim().split("\n").filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

/** Takes the groups away, and all below them. They must be empty of processes. */
export function removeGroups(groups: readonly string[]): void {
  for (const group of groups) {
    for (const each of [...below(group).reverse(), group]) {
      if (existsSync(each)) rmdirSync(each);
    }
  }
}

/** Groups below a group, each before those below it. */
function below(group: string): string[] {
  if (!existsSync(group)) return [];
  return readdirSync(group, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .flatMap((entry) => [join(group, entry.name), ...below(join(group, entry.name))]);
}
