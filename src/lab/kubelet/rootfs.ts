/**
 * The scripts that become a container. `shim` starts `setup` in fresh mount, UTS, IPC and PID namespaces and in
 * the pod's network namespace; `setup` puts the container's root together, leaves the machine's behind and turns
 * into the container's program. Plain sh and util-linux: a Node process per container would cost 60 MB and 40 ms.
 */
import { join, normalize } from "node:path";
import { quote } from "../network/index.ts";
import type { Machine } from "./machine.ts";
import { fstab, type Mount } from "./mounts.ts";
import { firstProcessOnTerminal } from "./terminal.ts";
import { tool } from "./tools.ts";

/** A directory or file of the node that a container sees. */
export interface VolumeMount {
  source: string;
  /** Absolute path in the container. */
  target: string;
  readOnly: boolean;
  isFile: boolean;
}

/** What runs in a container, everything resolved. */
export interface ContainerConfig {
  argv: string[];
  env: [name: string, value: string][];
  /** Absolute path; made when it is not there. */
  workingDir: string;
  hostname: string;
  /** Directory whose files go to /etc. */
  etc: string;
  mounts: VolumeMount[];
  /** Capabilities that root has in the container, lower case without `cap_`. */
  capabilities: readonly string[];
  readOnlyRoot: boolean;
  noNewPrivileges: boolean;
  stdin: boolean;
  /** Standard input ends when the first client that was attached goes. */
  stdinOnce: boolean;
  tty: boolean;
}

/**
 * What containerd gives a container that asks for nothing.
 * Source: containerd `pkg/oci/spec.go`, defaultUnixCaps.
 */
export const defaultCapabilities: readonly string[] = [
  "chown",
  "dac_override",
  "fsetid",
  "fowner",
  "mknod",
  "net_raw",
  "setgid",
  "setuid",
  "setfcap",
  "setpcap",
  "net_bind_service",
  "sys_chroot",
  "kill",
  "audit_write",
];

/**
 * Keeps a container's pipes open and its exit code, whether a kubelet is there or not. Arguments: the
 * container's directory, its network namespace, `stdin` when the container reads standard input.
 * The pipes are opened for reading and writing, so that nobody ever meets a broken one.
 */
export const shimScript = `cd "$1" || exit 1
echo $$ >shim
mkfifo out err ctl ack
if [ "$3" = stdin ]; then
  mkfifo in
  sleep infinity >in 2>/dev/null &
  echo $! >keeper
  exec 0<in
else
  exec 0</dev/null
fi
echo ready
exec 3<>ctl 1<>out 2<>err
nsenter --net="$2" unshare --mount --uts --ipc --pid --fork --kill-child /bin/sh ./setup
code=$?
[ ! -e keeper ] || kill "$(cat keeper)" 2>/dev/null
echo $code >exit.new
mv exit.new exit
echo exited >&3
read -r _ <ack
`;

/**
 * Makes a place to mount something: `place PATH dir|file`. Where the path leads into a read-only tree of the
 * machine and is not there, that tree's directory is replaced, in this container only, by one with links to
 * what it held.
 */
const placeFunction = `place() {
  until { if [ "$2" = dir ]; then mkdir -p "$1"; else mkdir -p "\${1%/*}/" && { [ -e "$1" ] || touch "$1"; }; fi; } 2>/dev/null; do
    over=$1
    until over=\${over%/*}; [ -d "$over/" ]; do :; done
    over=$(readlink -f "$over/")
    under=/.under/$(ls /.under 2>/dev/null | wc -l)
    mkdir -p "$under"
    mount --rbind "$over" "$under"
    mount -t tmpfs -o mode=755 under "$over"
    find "$under" -mindepth 1 -maxdepth 1 -exec ln -s -t "$over" {} +
  done
}`;

/** The files of a container's directory that start it: file name → text. */
export function containerFiles(
  machine: Machine,
  dir: string,
  config: ContainerConfig,
): Record<string, string> {
  const at = (path: string) => join(dir, "root", path);
  const mounts: Mount[] = [
    ...machine.trees.map((name) => bind(join(machine.dir, name), at(name))),
    bind(join(machine.dir, "etc"), at(".machine/etc")),
    { ...bind(join(machine.dir, "dev"), at("dev")), options: ["rbind", "ro"] },
    { source: "proc", target: at("proc"), type: "proc", options: ["nosuid", "nodev", "noexec"] },
    {
      source: "devpts",
      target: at("dev/pts"),
      type: "devpts",
      options: ["newinstance", "ptmxmode=0666", "mode=620", "nosuid", "noexec"],
    },
    {
      source: "shm",
      target: at("dev/shm"),
      type: "tmpfs",
      options: ["nosuid", "nodev", "mode=1777", "size=64m"],
    },
    ...machine.readOnlyProc.map((name) => ({
      source: at(`proc/${name}`),
      target: at(`proc/${name}`),
      options: ["bind", "ro", "nosuid", "nodev", "noexec"],
    })),
  ];
  // Parents before what is mounted in them.
  const volumes = config.mounts
    .map((mount) => ({ ...mount, target: normalize(mount.target) }))
    .sort((a, b) => (a.target < b.target ? -1 : 1));
  const setup = [
    "set -e",
    "exec 4>&2 2>failure 5>started",
    "trap 'echo failed >&3' EXIT",
    // This process as the lab's /proc shows it: its id and when it started, enough to find it again.
    "read -r stat </proc/self/stat",
    // Not by /proc/sys/kernel/hostname: that file is the machine's root's, whoever owns the namespace.
    `hostname ${quote(config.hostname)}`,
    "mount -t tmpfs -o mode=755 root root",
    `cp -a ${quote(machine.skeleton)}/. root/`,
    `cp ${quote(config.etc)}/* root/etc/`,
    "mount -a -T fstab",
    "mount -t sysfs -o ro,nosuid,nodev,noexec sysfs root/sys 2>/dev/null || true",
    "mkdir root/.old",
    "cd root",
    "pivot_root . .old",
    "cd /",
    ...(volumes.length > 0
      ? [
          placeFunction,
          ...volumes.map(({ target, isFile }) => `place ${quote(target)} ${isFile ? "file" : "dir"}`),
          `mount -a -T ${quote(`/.old${dir}/volumes`)}`,
        ]
      : []),
    "umount -l /.old",
    "rmdir /.old",
    `mkdir -p ${quote(config.workingDir)}`,
    ...(config.readOnlyRoot ? ["mount -o remount,bind,ro /"] : []),
    `cd ${quote(config.workingDir)}`,
    findProgram(config),
    "exec 2>&4 4>&-",
    "trap - EXIT",
    'echo "$stat" >&5',
    "exec 5>&-",
    "echo started >&3",
    `exec ${programWords(config.tty ? { ...config, argv: firstProcessOnTerminal(config.argv) } : config)
      .map(quote)
      .join(" ")} 3>&-`,
  ];
  const volumeTable = volumes.map(({ source, target, readOnly }) => ({
    source: join("/.old", source),
    target,
    options: readOnly ? ["rbind", "ro", ...machine.flags] : ["rbind"],
  }));
  return { fstab: fstab(mounts), volumes: fstab(volumeTable), setup: `${setup.join("\n")}\n` };
}

/** Words that run a program as the container's root: with its environment and capabilities and nothing else. */
export function programWords(
  config: Pick<ContainerConfig, "argv" | "env" | "capabilities" | "noNewPrivileges" | "workingDir">,
): string[] {
  const bounding = ["-all", ...config.capabilities.map((name) => `+${name}`)].join(",");
  return [
    tool("setpriv"),
    `--bounding-set=${bounding}`,
    "--inh-caps=-all",
    ...(config.noNewPrivileges ? ["--no-new-privs"] : []),
    tool("env"),
    "-i",
    `--chdir=${config.workingDir}`,
    ...config.env.map(([name, value]) => `${name}=${value}`),
    ...config.argv,
  ];
}

/** Says what runc says when there is no such program, and exits as it does (128). */
function findProgram({ argv, env }: ContainerConfig): string {
  const program = argv[0]!;
  const path = env.findLast(([name]) => name === "PATH")?.[1] ?? "";
  const message = program.includes("/")
    ? `exec: "${program}": stat ${program}: no such file or directory`
    : `exec: "${program}": executable file not found in $PATH`;
  return `(PATH=${quote(path)}; command -v -- ${quote(program)}) >/dev/null || { echo ${quote(message)} >&2; exit 128; }`;
}

function bind(source: string, target: string): Mount {
  return { source, target, options: ["rbind"] };
}
