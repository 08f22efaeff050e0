/** Mounts as data: what a mount table says, and what /proc/self/mountinfo tells. */
import { readFile } from "node:fs/promises";

export interface Mount {
  /** Path of a bind mount's source; the file system's name for others. */
  source: string;
  target: string;
  /** File system type; none for bind mounts. */
  type?: string;
  options: string[];
}

/** The mounts as `mount -a -T` reads them (fstab(5)). */
export function fstab(mounts: readonly Mount[]): string {
  return mounts
    .map(({ source, target, type, options }) =>
      [source, target, type ?? "none", options.join(",") || "defaults", "0", "0"].map(escapeField).join(" "),
    )
    .map((line) => `${line}\n`)
    .join("");
}

function escapeField(field: string): string {
  return field.replace(/[\s\\#]/g, (char) => `\\${char.charCodeAt(0).toString(8).padStart(3, "0")}`);
}

/** One line of mountinfo (proc(5)): where something is mounted, with the flags of that mount. */
export interface MountInfo {
  target: string;
  options: string[];
  type: string;
}

export function parseMountInfo(text: string): MountInfo[] {
  return text
    .split("\n")
    .filter(Boolean)
    .map((line) => {
      const fields = line.split(" ");
      const separator = fields.indexOf("-", 6);
      return {
        target: fields[4]!.replace(/\\([0-7]{3})/g, (_, code: string) =>
          String.fromCharCode(Number.parseInt(code, 8)),
        ),
        options: fields[5]!.split(","),
        type: fields[separator + 1]!,
      };
    });
}

/** The mounts of this process' mount namespace. */
export async function mountInfo(): Promise<MountInfo[]> {
  return parseMountInfo(await readFile("/proc/self/mountinfo", "utf8"));
}
