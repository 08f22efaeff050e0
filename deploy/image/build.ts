/**
 * Builds Weft's own image, the parts of Weft that live in clusters, out of the pinned Node, a bundle of the sources, nft
 * and the libraries that these are linked with, from Debian packages. Needs no base image, no container tool and no rights; apt-get,
 * dpkg-deb and tar must be there. It runs as a user that is not root, on a root file system that is read-only.
 *
 *   npm run image -- [FILE] [NAME] [ENVOY]   an OCI archive; build/weft-image.tar and the name that `weft install`
 *                                            uses unless told; ENVOY is the program, which is in it then
 */
import {
  chmodSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { homedir, tmpdir } from "node:os";
import { dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { defaultImage } from "../../src/install/index.ts";
import { bundleImage, nativePackages } from "../../src/lab/index.ts";
import { nftNeeds, nodeNeeds, unpackPackages } from "./debian.ts";
import { type ImageSpec, nonRoot, writeArchive } from "./oci.ts";
import { npmComponents, sbom } from "./sbom.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const packageCache = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "weft/debian");

/** The Node that package.json pins. */
export const pinnedNode = join(root, `node_modules/node-linux-${process.arch}/bin/node`);

/**
 * Fills `directory` with the layers of Weft's image. The lower one (Node, nft and libraries) changes with their
 * versions only. `envoy` is a program that goes with it, for meshes whose proxies are Envoy.
 */
export async function weftImage(
  directory: string,
  name = `docker.io/${defaultImage}`,
  envoy?: string,
): Promise<ImageSpec> {
  const runtime = join(directory, "runtime");
  const weft = join(directory, "weft");
  const debian = unpackPackages(runtime, [...nodeNeeds, ...nftNeeds], packageCache);
  putNode(runtime);
  mkdirSync(join(runtime, "etc"), { recursive: true });
  writeFileSync(join(runtime, "etc/passwd"), `root:x:0:0::/:/\nweft:x:${nonRoot}:${nonRoot}::/:/\n`);
  writeFileSync(join(runtime, "etc/group"), `root:x:0:\nweft:x:${nonRoot}:\n`);
  writeFileSync(join(runtime, "etc/nsswitch.conf"), "hosts: files dns\n");
  const bundled = await bundle(join(weft, "weft"));
  putNative(join(weft, "weft"));
  const beside = [...nativePackages, `node-linux-${process.arch}`].map((name) => `node_modules/${name}`);
  const npm = npmComponents(root).filter(({ path }) => bundled.includes(path) || beside.includes(path));
  const document = sbom("weft", defaultImage.slice(defaultImage.indexOf(":") + 1), [...npm, ...debian]);
  writeFileSync(join(weft, "weft/sbom.cdx.json"), `${JSON.stringify(document, undefined, 2)}\n`);
  // For hooks of the kubelet, which run a program by its name.
  mkdirSync(join(weft, "usr/bin"), { recursive: true });
  writeFileSync(join(weft, "usr/bin/weft"), '#!/usr/bin/node\nimport("/weft/main.js");\n', { mode: 0o755 });
  const layers = [runtime, weft];
  if (envoy) {
    const layer = join(directory, "envoy");
    mkdirSync(join(layer, "usr/bin"), { recursive: true });
    copyFileSync(envoy, join(layer, "usr/bin/envoy"));
    chmodSync(join(layer, "usr/bin/envoy"), 0o755);
    const licence = readFileSync(join(root, "LICENSE"), "utf8"); // both are under Apache's
    mkdirSync(join(layer, "usr/share/doc/envoy"), { recursive: true });
    writeFileSync(
      join(layer, "usr/share/doc/envoy/copyright"),
      `Envoy, https://www.envoyproxy.io, by the Envoy Project Authors\n\n${licence}`,
    );
    layers.splice(1, 0, layer);
  }
  return {
    name,
    layers,
    entrypoint: ["/usr/bin/node", "/weft/main.js"],
    // Half of what Node sets aside for itself, for a program that does little most of the time.
    env: ["NODE_OPTIONS=--max-semi-space-size=2 --v8-pool-size=1"],
  };
}

/** Puts the pinned Node below `directory`, as /usr/bin/node, with its licence. */
export function putNode(directory: string): void {
  mkdirSync(join(directory, "usr/bin"), { recursive: true });
  mkdirSync(join(directory, "usr/share/doc/node"), { recursive: true });
  copyFileSync(pinnedNode, join(directory, "usr/bin/node"));
  copyFileSync(join(dirname(pinnedNode), "../LICENSE"), join(directory, "usr/share/doc/node/copyright"));
}

function putNative(directory: string): void {
  const kept = new Set([".js", ".cjs", ".json", ".node", ".txt"]); // the last is the licence
  for (const name of nativePackages) {
    cpSync(join(root, "node_modules", name), join(directory, "node_modules", name), {
      recursive: true,
      filter: (path) => statSync(path).isDirectory() || kept.has(extname(path)),
    });
  }
}

/** Bundles what our image runs into `directory`, with the licences of what is in it. Resolves with the packages' folders. */
async function bundle(directory: string): Promise<string[]> {
  const inputs = await bundleImage(root, directory);
  // Some bring others of their own: node_modules/a/node_modules/b.
  const packages = new Set(
    inputs.flatMap((file) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(file)?.[0] ?? []),
  );
  const licences = [...packages].sort().map((path) => {
    const { name, version } = JSON.parse(readFileSync(join(root, path, "package.json"), "utf8"));
    const sources = inputs.filter((file) => file.startsWith(`${path}/`));
    return `${name} ${version}\n\n${licenceOf(path, sources)}`;
  });
  copyFileSync(join(root, "LICENSE"), join(directory, "LICENSE"));
  writeFileSync(join(directory, "LICENSES"), licences.join(`\n${"-".repeat(80)}\n\n`));
  return [...packages];
}

function licenceOf(path: string, sources: readonly string[]): string {
  for (const file of ["LICENSE", "LICENSE.md", "LICENSE.txt", "license", "LICENCE"]) {
    try {
      return readFileSync(join(root, path, file), "utf8");
    } catch {
      // It has another name.
    }
  }
  // Some have it at the head of each source instead; Apache's own text lies beside these (LICENSE).
  const heads = sources.flatMap(
    (file) => /^(?:\/\/[^\n]*\n)+/.exec(readFileSync(join(root, file), "utf8"))?.[0] ?? [],
  );
  const written = [...new Set(heads.filter((head) => /copyright/i.test(head)))];
  if (written.length === 0) throw new Error(`the package ${path} brings no licence`);
  return written.join("\n");
}

if (import.meta.main) {
  const [file = join(root, "build/weft-image.tar"), name, envoy] = process.argv.slice(2);
  const work = mkdtempSync(join(tmpdir(), "weft-image-"));
  try {
    const image = await weftImage(work, name, envoy);
    await writeArchive(file, [image]);
    console.log(`${image.name} is in ${file}`);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
