/**
 * A pod's volumes as directories of the node. Source: Kubernetes documentation, "Volumes";
 * kubernetes `pkg/volume/util/atomic_writer.go` for how files change while a container reads them.
 */
import {
  chmod,
  mkdir,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { dirname, join, normalize } from "node:path";
import type { Pod, Volume } from "../../api/index.ts";

/** A file of a volume. */
export interface VolumeFile {
  content: string | Uint8Array;
  mode: number;
}

/** What volumes are filled from. Rejects or gives undefined where there is no such object. */
export interface VolumeSources {
  configMap(name: string): Promise<Record<string, string | Uint8Array> | undefined>;
  secret(name: string): Promise<Record<string, string | Uint8Array> | undefined>;
  /** A token for the pod's ServiceAccount; null audience for the API server's own. */
  token(audience: string | undefined, expirationSeconds: number): Promise<string>;
  fieldRef(path: string): string;
  resourceFieldRef(selector: { resource: string; containerName?: string; divisor?: unknown }): string;
}

/** Directories that a node keeps volumes in. */
export interface VolumeDirs {
  /** On disk, one per pod: emptyDir. */
  pod: string;
  /** On the node's tmpfs, one per pod: what must not reach a disk. */
  memory: string;
  /** What hostPath volumes are in: the node's own file system, not the machine's. */
  host: string;
}

/** A volume cannot be had; the message is for an Event (FailedMount). */
export class VolumeError extends Error {}

export interface MountedVolume {
  dir: string;
  readOnly: boolean;
  isFile: boolean;
}

const defaultMode = 0o644;

/** Makes every volume of a pod, or brings what is made of objects up to date. */
export async function mountVolumes(
  pod: Pod,
  dirs: VolumeDirs,
  sources: VolumeSources,
): Promise<Map<string, MountedVolume>> {
  const mounted = new Map<string, MountedVolume>();
  for (const volume of pod.spec.volumes ?? []) {
    try {
      mounted.set(volume.name, await mountVolume(volume, dirs, sources));
    } catch (error) {
      throw new VolumeError(
        `MountVolume.SetUp failed for volume "${volume.name}" : ${(error as Error).message}`,
      );
    }
  }
  return mounted;
}

async function mountVolume(volume: Volume, dirs: VolumeDirs, sources: VolumeSources): Promise<MountedVolume> {
  if (volume.emptyDir) {
    const dir = join(volume.emptyDir.medium === "Memory" ? dirs.memory : dirs.pod, "empty-dir", volume.name);
    await mkdir(dir, { recursive: true });
    await chmod(dir, 0o777);
    return { dir, readOnly: false, isFile: false };
  }
  if (volume.hostPath) return mountHostPath(volume.hostPath, dirs.host);
  const files = await filesOf(volume, sources);
  if (!files) {
    const kind = Object.keys(volume).find((key) => key !== "name") ?? "emptyDir";
    throw new Error(`volumes of the kind ${kind} are not supported by this kubelet`);
  }
  const dir = join(dirs.memory, "files", volume.name);
  await writeFiles(dir, files);
  return { dir, readOnly: true, isFile: false };
}

/** The node's own files are in a directory of the lab, so that a hostPath never reaches the machine's. */
async function mountHostPath(
  { path, type = "" }: { path: string; type?: string },
  root: string,
): Promise<MountedVolume> {
  const dir = join(root, normalize(`/${path}`));
  const found = await stat(dir).catch(() => undefined);
  if (!found) {
    if (type === "" || type === "DirectoryOrCreate") await mkdir(dir, { recursive: true });
    else if (type === "FileOrCreate") {
      await mkdir(dirname(dir), { recursive: true });
      await writeFile(dir, "");
    } else throw new Error(`hostPath type check failed: ${path} is not there on this node`);
  } else if (
    (type.startsWith("Directory") && !found.isDirectory()) ||
    (type.startsWith("File") && !found.isFile())
  ) {
    throw new Error(
      `hostPath type check failed: ${path} is not a ${type.replace("OrCreate", "").toLowerCase()}`,
    );
  }
  return { dir, readOnly: false, isFile: found ? found.isFile() : type === "FileOrCreate" };
}

type Files = Map<string, VolumeFile>;
interface Item {
  key: string;
  path: string;
  mode?: number;
}

async function filesOf(volume: Volume, sources: VolumeSources): Promise<Files | undefined> {
  const { configMap, secret, downwardAPI, projected } = volume;
  if (configMap) {
    return keyFiles("configmap", configMap.name, configMap, await sources.configMap(configMap.name ?? ""));
  }
  if (secret) {
    return keyFiles("secret", secret.secretName, secret, await sources.secret(secret.secretName ?? ""));
  }
  if (downwardAPI) return downwardFiles(downwardAPI, sources);
  if (!projected) return undefined;
  const files: Files = new Map();
  for (const source of projected.sources ?? []) {
    const mode = { defaultMode: projected.defaultMode };
    let part: Files = new Map();
    if (source.configMap) {
      const { name } = source.configMap;
      part = keyFiles(
        "configmap",
        name,
        { ...mode, ...source.configMap },
        await sources.configMap(name ?? ""),
      );
    } else if (source.secret) {
      const { name } = source.secret;
      part = keyFiles("secret", name, { ...mode, ...source.secret }, await sources.secret(name ?? ""));
    } else if (source.downwardAPI) part = downwardFiles({ ...mode, ...source.downwardAPI }, sources);
    else if (source.serviceAccountToken) {
      const { audience, expirationSeconds = 3600, path } = source.serviceAccountToken;
      const content = await sources.token(audience, expirationSeconds);
      part.set(path, { content, mode: projected.defaultMode ?? defaultMode });
    } else
      throw new Error(
        `projected sources of the kind ${Object.keys(source)[0]} are not supported by this kubelet`,
      );
    for (const [path, file] of part) files.set(path, file);
  }
  return files;
}

function keyFiles(
  kind: string,
  name: string | undefined,
  { items, optional, defaultMode: mode }: { items?: Item[]; optional?: boolean; defaultMode?: number },
  data: Record<string, string | Uint8Array> | undefined,
): Files {
  const files: Files = new Map();
  if (!data) {
    if (optional) return files;
    throw new Error(`${kind} "${name}" not found`);
  }
  const wanted: Item[] = items ?? Object.keys(data).map((key) => ({ key, path: key }));
  for (const item of wanted) {
    const content = data[item.key];
    if (content === undefined) {
      if (optional) continue;
      throw new Error(`references non-existent ${kind === "secret" ? "secret" : "config"} key: ${item.key}`);
    }
    files.set(item.path, { content, mode: item.mode ?? mode ?? defaultMode });
  }
  return files;
}

function downwardFiles(
  { items, defaultMode: mode }: NonNullable<Volume["downwardAPI"]>,
  sources: VolumeSources,
): Files {
  return new Map(
    (items ?? []).map((item) => {
      const content = item.fieldRef
        ? sources.fieldRef(item.fieldRef.fieldPath)
        : sources.resourceFieldRef(item.resourceFieldRef!);
      return [item.path, { content, mode: item.mode ?? mode ?? defaultMode }];
    }),
  );
}

/**
 * Writes files so that a reader sees the old ones or the new ones, all together: they are in a directory of their
 * own that `..data` points to, and each name is a link through `..data`. Files that are as they should be stay
 * untouched: who watches them is not woken for nothing.
 */
export async function writeFiles(dir: string, files: Files): Promise<void> {
  await mkdir(dir, { recursive: true });
  const old = await readlink(join(dir, "..data")).catch(() => undefined);
  if (old && (await isWritten(join(dir, old), files))) return;
  const version = old === "..1" ? "..2" : "..1";
  await rm(join(dir, version), { recursive: true, force: true });
  for (const [path, { content, mode }] of files) {
    if (normalize(`/${path}`) !== `/${path}`) throw new Error(`'${path}' is not a path within the volume`);
    const file = join(dir, version, path);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, content);
    await chmod(file, mode);
  }
  await mkdir(join(dir, version), { recursive: true });
  await rm(join(dir, "..new"), { force: true });
  await symlink(version, join(dir, "..new"));
  await rename(join(dir, "..new"), join(dir, "..data"));
  for (const name of new Set([...files.keys()].map((path) => path.split("/")[0]!))) {
    await symlink(join("..data", name), join(dir, name)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error;
    });
  }
  if (old) await rm(join(dir, old), { recursive: true, force: true });
}

/** Whether a directory has these files, as they are, and no others. */
async function isWritten(dir: string, files: Files): Promise<boolean> {
  const there = await readdir(dir, { recursive: true, withFileTypes: true }).catch(() => []);
  if (there.filter((entry) => entry.isFile()).length !== files.size) return false;
  for (const [path, { content, mode }] of files) {
    const file = join(dir, path);
    const [found, now] = await Promise.all([stat(file), readFile(file)]).catch(() => []);
    if (!found || !now || (found.mode & 0o777) !== mode || !now.equals(Buffer.from(content))) return false;
  }
  return true;
}
