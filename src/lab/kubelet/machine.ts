/**
 * What pods see of the machine: its programs, read-only. Made once per node, in the mount namespace of the lab;
 * every container gets its root from it (`rootfs.ts`).
 *
 * The host is safe because nothing here can be written: every mount is made read-only with the flags that are
 * locked in a user namespace kept as they are, and containers lack CAP_SYS_ADMIN, so that they cannot mount it
 * anew. What other users of the machine may not read in /etc is covered, as are the lab's own state and the
 * user's kubeconfig. /home, /root, /var, /run, /tmp and every directory that is not named here are not there at all.
 */
import { existsSync } from "node:fs";
import { chmod, lstat, mkdir, readdir, readFile, readlink, symlink, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { quote, type Run } from "../network/index.ts";
import { fstab, type Mount, type MountInfo, mountInfo } from "./mounts.ts";

/** Top-level directories that hold programs and their data on the systems we know. */
const programs = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "opt", "nix", "gnu"];
/** Devices that every container has; the OCI runtime specification's list. */
const devices = ["null", "zero", "full", "random", "urandom", "tty"];
/** Kernel interfaces in /proc that reach beyond a container's namespaces: its root may be the machine's root. */
const readOnlyProc = ["sys", "sysrq-trigger", "irq", "bus", "fs"];
/** Files of /etc that every pod has of its own. */
export const podFiles = ["hosts", "hostname", "resolv.conf", "nsswitch.conf"];

/** Where pods see the checkout of Weft, with the Node that runs it. */
export const packageMount = "/weft";

/** Where pods see single programs of this machine that are nowhere else in their view. */
export const programsMount = "/weft-programs";

export interface Machine {
  /** Holds the read-only view, a directory per tree, and `etc` and `dev`. */
  dir: string;
  /** Directory tree of links and empty directories that a container's root starts with. */
  skeleton: string;
  /** Names of the read-only trees in `dir` that are mounted at the same name in a container's root. */
  trees: string[];
  /** Mount flags of the node's directory, which read-only mounts of what lies in it must keep. */
  flags: string[];
  /** What of /proc containers may not write, though they are root there. */
  readOnlyProc: string[];
}

export interface MachineOptions {
  /** The node's directory. */
  stateDir: string;
  /** The node's directory on a tmpfs. */
  runDir: string;
  /** The checkout. */
  packageRoot: string;
  /** Programs that pods see in `programsMount`: name → the machine's file. */
  programs: Readonly<Record<string, string>>;
  /** Files and directories of the machine that no pod may see. */
  hide: readonly string[];
  run: Run;
}

/** Makes the view, or finds the one that an earlier kubelet of this node has made. */
export async function prepareMachine({
  stateDir,
  runDir,
  packageRoot,
  programs: single,
  hide,
  run,
}: MachineOptions): Promise<Machine> {
  const dir = join(runDir, "machine");
  const skeleton = join(runDir, "skeleton");
  const ready = join(runDir, "machine.json");
  try {
    return JSON.parse(await readFile(ready, "utf8")) as Machine;
  } catch {
    await run(["/bin/sh", "-c", 'umount -R -l "$1" 2>/dev/null; rm -rf "$1" "$2"', "sh", dir, skeleton]);
  }

  const mounts: Mount[] = [];
  const trees: string[] = [];
  const links: [name: string, target: string][] = [];
  for (const name of programs) {
    const source = `/${name}`;
    const stat = await lstat(source).catch(() => undefined);
    if (stat?.isSymbolicLink()) links.push([name, await readlink(source)]);
    else if (stat?.isDirectory()) trees.push(name);
  }
  for (const name of [...trees, "etc"]) {
    mounts.push({ source: `/${name}`, target: join(dir, name), options: ["rbind"] });
  }
  trees.push("weft");
  mounts.push({ source: resolve(packageRoot), target: join(dir, "weft"), options: ["rbind"] });
  await Promise.all(mounts.map(({ target }) => mkdir(target, { recursive: true })));
  mounts.push(...(await coverSecrets(dir, runDir, [...hide, ...(await unreadable(run))], mounts)));

  await mkdir(join(dir, programsMount), { recursive: true });
  trees.push(programsMount.slice(1));
  // A mount, so that the directory itself becomes read-only too: all of the node's pods see this one.
  const directory = join(dir, programsMount);
  mounts.push({ source: directory, target: directory, options: ["bind"] });
  for (const [name, file] of Object.entries(single)) {
    const target = join(dir, programsMount, name);
    await writeFile(target, "");
    mounts.push({ source: file, target, options: ["bind"] });
  }
  await mkdir(join(dir, "dev", "pts"), { recursive: true });
  await mkdir(join(dir, "dev", "shm"));
  for (const name of devices) {
    await writeFile(join(dir, "dev", name), "");
    mounts.push({ source: `/dev/${name}`, target: join(dir, "dev", name), options: ["bind"] });
  }
  await Promise.all([
    writeFile(join(dir, "dev", "termination-log"), ""),
    symlink("/proc/self/fd", join(dir, "dev", "fd")),
    symlink("/proc/self/fd/0", join(dir, "dev", "stdin")),
    symlink("/proc/self/fd/1", join(dir, "dev", "stdout")),
    symlink("/proc/self/fd/2", join(dir, "dev", "stderr")),
    symlink("pts/ptmx", join(dir, "dev", "ptmx")),
  ]);
  const table = join(runDir, "machine.fstab");
  await writeFile(table, fstab(mounts));
  await run(["mount", "-a", "-T", table]);
  await makeReadOnly(dir, run);

  await makeSkeleton(skeleton, links, trees);
  const machine: Machine = {
    dir,
    skeleton,
    trees,
    flags: flagsOf(stateDir, await mountInfo()),
    readOnlyProc: readOnlyProc.filter((name) => existsSync(`/proc/${name}`)),
  };
  await writeFile(ready, JSON.stringify(machine));
  return machine;
}

/** Every mount below `dir`, those that came along with their parents too. Device files stay as they are. */
async function makeReadOnly(dir: string, run: Run): Promise<void> {
  const commands = (await mountInfo())
    .filter(({ target }) => target.startsWith(`${dir}/`) && !target.startsWith(`${dir}/dev/`))
    .map(({ target, options }) => {
      const flags = options.map((option) => (option === "rw" ? "ro" : option));
      return `mount -o remount,bind,${flags.join(",")} ${quote(target)}`;
    });
  await run(["/bin/sh", "-e", "-s"], commands.join("\n"));
}

/**
 * What only the machine's administrator may read: a pod's root would be the machine's when root runs the lab.
 * In /etc all of it; in /opt what is near the top, where packages keep their settings.
 */
async function unreadable(run: Run): Promise<string[]> {
  const closed = "'(' -type d ! -perm -o=rx -prune -o -type f ! -perm -o=r ')' ! -perm -o=r -print0";
  const find = `find /etc -xdev ${closed}; find /opt -xdev -maxdepth 3 ${closed}`;
  const found = await run(["/bin/sh", "-c", `(${find}) 2>/dev/null || true`]);
  return found.split("\0").filter(Boolean);
}

/** Mounts that cover each hidden path wherever one of the trees shows it. */
async function coverSecrets(dir: string, runDir: string, hidden: string[], trees: Mount[]): Promise<Mount[]> {
  const emptyDir = join(runDir, "covered");
  const emptyFile = join(runDir, "covered-file");
  await mkdir(emptyDir, { recursive: true, mode: 0o755 });
  await writeFile(emptyFile, "");
  const covers: Mount[] = [];
  for (const path of hidden) {
    const stat = await lstat(path).catch(() => undefined);
    if (!stat?.isDirectory() && !stat?.isFile()) continue;
    for (const { source, target } of trees) {
      if (!path.startsWith(`${source}/`) || !target.startsWith(dir)) continue;
      covers.push({
        source: stat.isDirectory() ? emptyDir : emptyFile,
        target: join(target, path.slice(source.length)),
        options: ["bind"],
      });
    }
  }
  return covers;
}

/** The flags that a user namespace may have locked on the mount that holds a path. */
function flagsOf(path: string, mounts: MountInfo[]): string[] {
  const holder = mounts
    .filter(({ target }) => target === "/" || path === target || path.startsWith(`${target}/`))
    .reduce((best, mount) => (mount.target.length >= best.target.length ? mount : best));
  return holder.options.filter((option) =>
    ["nosuid", "nodev", "noexec", "noatime", "nodiratime"].includes(option),
  );
}

async function makeSkeleton(skeleton: string, links: [string, string][], trees: string[]): Promise<void> {
  const directories = [
    "proc",
    "sys",
    "dev",
    "etc",
    "run",
    "root",
    "home",
    "mnt",
    "srv",
    ".machine/etc",
    ...trees,
  ];
  for (const name of directories) await mkdir(join(skeleton, name), { recursive: true });
  for (const name of ["tmp", "var/tmp"]) {
    await mkdir(join(skeleton, name), { recursive: true });
    await chmod(join(skeleton, name), 0o1777);
  }
  for (const [name, target] of links) await symlink(target, join(skeleton, name));
  // Programs expect the directories that their packages made in /var, e.g. /var/log/nginx.
  for (const part of ["cache", "lib", "log", "spool"]) {
    const entries = await readdir(`/var/${part}`, { withFileTypes: true }).catch(() => []);
    await mkdir(join(skeleton, "var", part), { recursive: true });
    for (const entry of entries) {
      if (entry.isDirectory()) await mkdir(join(skeleton, "var", part, entry.name), { recursive: true });
    }
  }
  // Links deeper in /etc may be relative too: from /.machine/etc they lead to /.machine/usr and the like.
  for (const name of [...trees, ...links.map(([name]) => name), "var", "run", "proc"]) {
    await symlink(`/${name}`, join(skeleton, ".machine", name));
  }
  await symlink("/run", join(skeleton, "var/run"));
  for (const name of await readdir("/etc")) {
    if (podFiles.includes(name)) continue;
    // A link is taken over as it is: it may lead out of /etc, relative to it.
    const target = await readlink(join("/etc", name)).catch(() => `/.machine/etc/${name}`);
    await symlink(target, join(skeleton, "etc", name));
  }
  await symlink("/proc/mounts", join(skeleton, "etc", "mtab")).catch(() => {});
}
