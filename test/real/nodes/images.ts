/**
 * The images that a pair of real clusters runs, made here from files: nothing is pulled. Weft's own is the one
 * that `npm run image` builds. The demo's are the samples of this repository under the seed's names, with a shell
 * and curl from this machine, for the scenarios look out of these containers.
 */
import { execFileSync } from "node:child_process";
import { copyFileSync, cpSync, mkdirSync, realpathSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { pinnedNode, weftImage } from "../../../deploy/image/build.ts";
import { type ImageSpec, writeArchive } from "../../../deploy/image/oci.ts";
import { findProgram } from "../programs.ts";

const samples = fileURLToPath(new URL("../../../samples", import.meta.url));

export const pauseImage = "docker.io/weft/pause:1";
export const coreDnsImage = "docker.io/coredns/coredns:local";

/** Writes the archive of all images; `work` is an empty directory for what they are made of. */
export async function writeImages(file: string, work: string, coreDns: string): Promise<void> {
  const layer = (name: string, fill: (directory: string) => void): string => {
    const directory = join(work, name);
    mkdirSync(directory, { recursive: true });
    fill(directory);
    return directory;
  };
  const shell = layer("shell", putShell);
  const demo = layer("demo", (directory) => {
    putProgram(directory, pinnedNode, "/usr/bin/node");
    putProgram(directory, findProgram("curl")!, "/usr/bin/curl");
    for (const name of ["serve", "request"])
      cpSync(join(samples, name), join(directory, "samples", name), { recursive: true });
    copyFileSync(join(samples, "flags.ts"), join(directory, "samples/flags.ts"));
    writeFileSync(join(directory, "package.json"), '{"type":"module"}\n');
  });
  const sample = (name: string): ImageSpec => ({
    name: `docker.io/jeremyot/${name}:0a40de8`,
    layers: [shell, demo],
    entrypoint: ["/usr/bin/node", `/samples/${name}/main.ts`],
  });
  await writeArchive(file, [
    { name: pauseImage, layers: [shell], entrypoint: ["/bin/sleep", "2147483647"] },
    {
      name: coreDnsImage,
      layers: [layer("coredns", (directory) => copyFileSync(coreDns, join(directory, "coredns")))],
      entrypoint: ["/coredns"],
      user: 0, // with no right but the one to listen on port 53
    },
    sample("serve"),
    sample("request"),
    await weftImage(join(work, "weft")),
  ]);
}

/** BusyBox under the names of all its programs, and the least that a C library looks for. */
function putShell(root: string): void {
  const busybox = findProgram("busybox")!;
  for (const directory of ["bin", "etc", "home", "root", "usr/bin"])
    mkdirSync(join(root, directory), { recursive: true });
  copyFileSync(busybox, join(root, "bin/busybox"));
  const names = execFileSync(busybox, ["--list"], { encoding: "utf8" }).trim().split("\n");
  for (const name of names) if (name !== "busybox") symlinkSync("busybox", join(root, "bin", name));
  writeFileSync(join(root, "etc/passwd"), "root:x:0:0::/root:/bin/sh\nuser:x:65532:65532::/home:/bin/sh\n");
  writeFileSync(join(root, "etc/group"), "root:x:0:\nuser:x:65532:\n");
  writeFileSync(join(root, "etc/nsswitch.conf"), "hosts: files dns\n");
}

/** A program of this machine at `path`, with the libraries that it is linked with where they are here. */
function putProgram(root: string, program: string, path: string): void {
  const put = (from: string, to: string) => {
    mkdirSync(dirname(join(root, to)), { recursive: true });
    copyFileSync(realpathSync(from), join(root, to));
  };
  put(program, path);
  const linked = execFileSync("ldd", [program], { encoding: "utf8" });
  for (const [, library] of linked.matchAll(/(?:=> |^\s+)(\/\S+) \(0x/gm)) put(library!, library!);
}
