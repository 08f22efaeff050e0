/** What a container's process is given: its words, its environment, its mounts, its capabilities. */
import { lstat, mkdir, realpath, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Container, Pod } from "../../api/index.ts";
import { commandOf, type Image } from "../images/index.ts";
import type { NodeContext } from "./context.ts";
import {
  ConfigError,
  type EnvSources,
  expand,
  makeEnvironment,
  serviceVariables,
  type Variables,
} from "./env.ts";
import { hostnameOf } from "./etc.ts";
import { fieldValue, resourceValue } from "./fields.ts";
import { type ContainerConfig, defaultCapabilities, type VolumeMount } from "./rootfs.ts";
import type { MountedVolume } from "./volumes.ts";

/** What a container is started into. */
export interface Surroundings {
  network: { namespace: string; address: string };
  volumes: ReadonlyMap<string, MountedVolume>;
  etc: string;
}

/** Throws ConfigError for what the pod's author can mend. */
export async function configOf(
  context: NodeContext,
  container: Container,
  pod: Pod,
  image: Image,
  { network, volumes, etc }: Surroundings,
): Promise<ContainerConfig> {
  const place = { podIP: network.address, hostIP: context.node.address };
  const [configMaps, secrets] = await referenced(context, container, pod);
  const sources: EnvSources = {
    configMap: (name) => configMaps.get(name),
    secret: (name) => secrets.get(name),
    fieldRef: (path) => fieldValue(pod, path, place),
    resourceFieldRef: ({ containerName, resource, divisor }) => {
      const all = [...pod.spec.containers, ...(pod.spec.initContainers ?? [])];
      const of = all.find(({ name }) => name === containerName) ?? container;
      return resourceValue(of, resource, String(divisor ?? "0"), context.capacity);
    },
  };
  const imageVariables = image.env.map((entry): [string, string] => {
    const equals = entry.indexOf("=");
    return [entry.slice(0, equals), entry.slice(equals + 1)];
  });
  const own: Variables = [...imageVariables, ["HOSTNAME", hostnameOf(pod)], ["HOME", "/root"]];
  if (container.tty) own.push(["TERM", "xterm"]);
  const services = serviceVariables(pod, context.services());
  const env = makeEnvironment(container, own, services, sources);
  const variables = new Map(env);
  const words = (list: string[] | undefined) => list?.map((word) => expand(word, variables));
  const argv = commandOf(image, words(container.command), words(container.args));
  if (argv.length === 0) throw new ConfigError("no command specified");
  return {
    argv,
    env,
    workingDir: container.workingDir || image.workingDir,
    hostname: hostnameOf(pod),
    etc,
    mounts: await mountsOf(container, volumes, variables),
    capabilities: capabilitiesOf(container),
    readOnlyRoot: container.securityContext?.readOnlyRootFilesystem ?? false,
    noNewPrivileges: container.securityContext?.allowPrivilegeEscalation === false,
    stdin: container.stdin ?? false,
    stdinOnce: container.stdinOnce ?? false,
    tty: container.tty ?? false,
  };
}

/** ConfigMaps and Secrets that the environment names. */
async function referenced(context: NodeContext, container: Container, pod: Pod) {
  const namespace = pod.metadata.namespace!;
  const configMapNames = new Set<string>();
  const secretNames = new Set<string>();
  for (const { valueFrom } of container.env ?? []) {
    if (valueFrom?.configMapKeyRef?.name) configMapNames.add(valueFrom.configMapKeyRef.name);
    if (valueFrom?.secretKeyRef?.name) secretNames.add(valueFrom.secretKeyRef.name);
  }
  for (const { configMapRef, secretRef } of container.envFrom ?? []) {
    if (configMapRef?.name) configMapNames.add(configMapRef.name);
    if (secretRef?.name) secretNames.add(secretRef.name);
  }
  const configMaps = new Map<string, Record<string, string>>();
  const secrets = new Map<string, Record<string, string>>();
  for (const name of configMapNames) {
    const found = await context.configMap(namespace, name);
    if (found) configMaps.set(name, found.data ?? {});
  }
  for (const name of secretNames) {
    const found = await context.secret(namespace, name);
    const decode = ([key, value]: [string, string]) => [key, Buffer.from(value, "base64").toString()];
    if (found) secrets.set(name, Object.fromEntries(Object.entries(found.data ?? {}).map(decode)));
  }
  return [configMaps, secrets] as const;
}

async function mountsOf(
  container: Container,
  volumes: ReadonlyMap<string, MountedVolume>,
  variables: ReadonlyMap<string, string>,
): Promise<VolumeMount[]> {
  const mounts: VolumeMount[] = [];
  for (const mount of container.volumeMounts ?? []) {
    const volume = volumes.get(mount.name);
    if (!volume)
      throw new ConfigError(`cannot find volume "${mount.name}" to mount into container "${container.name}"`);
    const subPath = mount.subPathExpr ? expand(mount.subPathExpr, variables) : (mount.subPath ?? "");
    const { source, isFile } = await volumePath(volume, subPath);
    const readOnly = volume.readOnly || (mount.readOnly ?? false);
    mounts.push({ source, target: mount.mountPath, readOnly, isFile });
  }
  return mounts;
}

/** A path in a volume; a directory is made where there is nothing. Throws ConfigError for one that leads out of it. */
export async function volumePath(
  volume: Pick<MountedVolume, "dir" | "isFile">,
  subPath: string,
): Promise<{ source: string; isFile: boolean }> {
  if (subPath === "") return { source: volume.dir, isFile: volume.isFile };
  if (subPath.split("/").includes("..")) throw new ConfigError(`subPath "${subPath}" must not contain '..'`);
  const source = join(volume.dir, subPath);
  const root = await realpath(volume.dir);
  const within = (path: string) => path === root || path.startsWith(`${root}/`);
  // A link in a volume must not lead out of it: nothing is made before what is there already is known to be in it.
  let there = source;
  while (there !== volume.dir && !(await lstat(there).catch(() => undefined))) there = dirname(there);
  if (within(await realpath(there).catch(() => ""))) {
    await mkdir(source, { recursive: true }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error; // a file is one that is there
    });
    const real = await realpath(source);
    if (within(real)) return { source: real, isFile: (await stat(real)).isFile() };
  }
  throw new ConfigError(`subPath "${subPath}" is outside of the volume`);
}

/** capabilities(7) up to Linux 5.9. */
const knownCapabilities = new Set(
  (
    "audit_control audit_read audit_write block_suspend bpf checkpoint_restore chown dac_override dac_read_search " +
    "fowner fsetid ipc_lock ipc_owner kill lease linux_immutable mac_admin mac_override mknod net_admin " +
    "net_bind_service net_broadcast net_raw perfmon setfcap setgid setpcap setuid sys_admin sys_boot sys_chroot " +
    "sys_module sys_nice sys_pacct sys_ptrace sys_rawio sys_resource sys_time sys_tty_config syslog wake_alarm"
  ).split(" "),
);

/** Root of the lab's user namespace is harmless outside it, except for what mounts could uncover. */
export function capabilitiesOf({ securityContext }: Container): string[] {
  const { add = [], drop = [] } = securityContext?.capabilities ?? {};
  const plain = (name: string) => name.toLowerCase().replace(/^cap_/, "");
  const capabilities = new Set(drop.some((name) => plain(name) === "all") ? [] : defaultCapabilities);
  for (const name of drop) capabilities.delete(plain(name));
  const wanted = securityContext?.privileged ? ["all"] : add.map(plain);
  for (const name of wanted.includes("all") ? ["net_admin", "sys_ptrace", "sys_nice", "ipc_lock"] : wanted) {
    capabilities.add(name);
  }
  if (wanted.includes("all")) for (const name of defaultCapabilities) capabilities.add(name);
  // Unknown names would keep the container from starting; with sys_admin it could mount the machine's directories
  // anew, writable.
  return [...capabilities].filter((name) => knownCapabilities.has(name) && name !== "sys_admin");
}
