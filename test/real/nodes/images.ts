/**
 * The images that a pair of real clusters runs, made here from files: nothing comes from elsewhere. Weft's own is the one
 * that `npm run image` builds. The demo's are the samples of this repository under the seed's names, with a shell
 * and curl from this machine, for the scenarios look out of these containers.
 */
import { execFileSync } from "node:child_process";
import { copyFileSync, cpSync, mkdirSync, realpathSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { weftImage } from "../../../deploy/image/build.ts";
import { type ImageSpec, writeLayout } from "../../../deploy/image/oci.ts";
import { findProgram } from "../programs.ts";

const samples = fileURLToPath(new URL("../../../samples", import.meta.url));

export const pauseImage = "docker.io/weft/pause:1";
export const coreDnsImage = "docker.io/coredns/coredns:local";

/** Programs of this machine that images are made of. */
export interface Programs {
  coreDns: string;
  /** In Weft's image, where meshes are to have it. */
  envoy?: string | undefined;
}

/** Writes the image layout of all images; `work` is a directory for what they are made of. */
export async function writeImages(layout: string, work: string, { coreDns, envoy }: Programs): Promise<void> {
  const layer = (name: string, fill: (directory: string) => void): string => {
    const directory = join(work, name);
    mkdirSync(directory, { recursive: true });
    fill(directory);
    return directory;
  };
  const weft = await weftImage(join(work, "weft"), undefined, envoy);
  const [runtime] = weft.layers as [string];
  const shell = layer("shell", putShell);
  const demo = layer("demo", (directory) => {
    putCurl(directory);
    for (const name of ["serve", "request", "coolapp"])
      cpSync(join(samples, name), join(directory, "samples", name), { recursive: true });
    copyFileSync(join(samples, "flags.ts"), join(directory, "samples/flags.ts"));
    writeFileSync(join(directory, "package.json"), '{"type":"module"}\n');
  });
  const sample = (name: string): ImageSpec => ({
    name: `docker.io/jeremyot/${name}:0a40de8`,
    layers: [runtime, shell, demo],
    entrypoint: ["/usr/bin/node", `/samples/${name}/main.ts`],
  });
  const coolapp = (name: string, tag: string, app: string, ...args: string[]): ImageSpec => ({
    name: `docker.io/rhtgptetraining/foundation-${name}-service:${tag}`,
    layers: [runtime, shell, demo],
    entrypoint: ["/usr/bin/node", `/samples/coolapp/apps/${app}.ts`, ...args],
  });
  await writeLayout(layout, [
    { name: pauseImage, layers: [shell], entrypoint: ["/usr/bin/sleep", "2147483647"] },
    {
      name: coreDnsImage,
      layers: [layer("coredns", (directory) => copyFileSync(coreDns, join(directory, "coredns")))],
      entrypoint: ["/coredns"],
      user: 0, // with no right but the one to listen on port 53
    },
    sample("serve"),
    sample("request"),
    coolapp("catalog", "1.0.0", "catalog"),
    coolapp("catalog", "2.0.0", "catalog", "--version=v2"),
    coolapp("partner", "1.0.0", "hop", "--name=partner", "--next=http://catalog:8080/"),
    coolapp("gateway", "1.0.0", "hop", "--name=gateway", "--next=http://partner:8080/"),
    // As they come, these run as root; a person looks around in them.
    {
      name: "docker.io/library/busybox:latest",
      layers: [runtime, shell, demo],
      entrypoint: [],
      cmd: ["sh"],
      user: 0,
    },
    {
      name: "docker.io/curlimages/curl:latest",
      layers: [runtime, shell, demo],
      entrypoint: ["curl"],
      user: 0,
    },
    {
      name: "docker.io/library/node:latest",
      layers: [runtime, shell, demo],
      entrypoint: [],
      cmd: ["node"],
      user: 0,
    },
    weft,
  ]);
}

/** BusyBox under the names of all its programs, and the directories that a person expects. */
function putShell(root: string): void {
  const busybox = findProgram("busybox")!;
  for (const directory of ["home", "root", "usr/bin"]) mkdirSync(join(root, directory), { recursive: true });
  symlinkSync("usr/bin", join(root, "bin"));
  copyFileSync(busybox, join(root, "usr/bin/busybox"));
  const names = execFileSync(busybox, ["--list"], { encoding: "utf8" }).trim().split("\n");
  for (const name of names) if (name !== "busybox") symlinkSync("busybox", join(root, "usr/bin", name));
}

/** This machine's curl, with the libraries that it is linked with. */
function putCurl(root: string): void {
  const curl = findProgram("curl")!;
  const linked = execFileSync("ldd", [curl], { encoding: "utf8" });
  const libraries = [...linked.matchAll(/(?:=> |^\s+)(\/\S+) \(0x/gm)].map(([, library]) => library!);
  for (const file of [curl, ...libraries]) {
    // The layer below has /lib and /lib64 in /usr, whatever this machine has.
    const to = join(root, file.replace(/^\/(?=lib|bin)/, "/usr/"));
    mkdirSync(dirname(to), { recursive: true });
    copyFileSync(realpathSync(file), to);
  }
}
