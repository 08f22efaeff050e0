/**
 * Container images out of directories, without a base image and without a container tool: an archive of an OCI
 * image layout (image-spec 1.1), as `ctr images import`, `docker load`, `podman load` and `skopeo copy
 * oci-archive:` read it. The same files give the same bytes: nothing in it tells when or by whom it was made.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { createReadStream, mkdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

/** Whom a container runs as unless its pod says otherwise: nobody in particular, and not root. */
export const nonRoot = 65532;

export interface ImageSpec {
  /** Full name with a tag, e.g. `docker.io/weft/control-plane:0.1.0`. */
  name: string;
  /** Directories, lowest first, each of which becomes a layer. */
  layers: string[];
  entrypoint: string[];
  cmd?: string[];
  env?: string[];
  /** Numeric, so that `runAsNonRoot` can be checked; `nonRoot` unless told. */
  user?: number;
}

interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
}

export const manifestType = "application/vnd.oci.image.manifest.v1+json";
/** In a layout's index: the full name of the image, as containerd and we read it. */
export const imageNameAnnotation = "io.containerd.image.name";

/** What OCI calls this machine's processor. */
export function architecture(): string {
  return { x64: "amd64", arm64: "arm64" }[process.arch as string] ?? process.arch;
}

/** Writes one archive that holds all the images; layers that several have are in it once. */
export async function writeArchive(file: string, images: readonly ImageSpec[]): Promise<void> {
  const layout = `${resolve(file)}.layout`;
  rmSync(layout, { recursive: true, force: true });
  try {
    await writeLayout(layout, images);
    pack(layout, resolve(file));
  } finally {
    rmSync(layout, { recursive: true, force: true });
  }
}

/** The same as a directory. */
export async function writeLayout(layout: string, images: readonly ImageSpec[]): Promise<void> {
  const blobs = join(layout, "blobs/sha256");
  mkdirSync(blobs, { recursive: true });
  const layers = new Map<string, Descriptor>();
  for (const directory of new Set(images.flatMap((image) => image.layers))) {
    const tarball = join(layout, "layer.tar");
    pack(directory, tarball);
    const digest = await sha256(tarball);
    layers.set(directory, {
      mediaType: "application/vnd.oci.image.layer.v1.tar",
      digest: `sha256:${digest}`,
      size: statSync(tarball).size,
    });
    renameSync(tarball, join(blobs, digest));
  }
  const blob = (mediaType: string, value: unknown): Descriptor => {
    const text = JSON.stringify(value);
    const digest = createHash("sha256").update(text).digest("hex");
    writeFileSync(join(blobs, digest), text);
    return { mediaType, digest: `sha256:${digest}`, size: Buffer.byteLength(text) };
  };
  const manifests = images.map((image) => {
    const own = image.layers.map((directory) => layers.get(directory)!);
    const config = blob("application/vnd.oci.image.config.v1+json", {
      architecture: architecture(),
      os: "linux",
      config: {
        User: String(image.user ?? nonRoot),
        Entrypoint: image.entrypoint,
        ...(image.cmd && { Cmd: image.cmd }),
        Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", ...(image.env ?? [])],
        WorkingDir: "/",
      },
      rootfs: { type: "layers", diff_ids: own.map(({ digest }) => digest) },
    });
    return {
      ...blob(manifestType, { schemaVersion: 2, mediaType: manifestType, config, layers: own }),
      annotations: {
        [imageNameAnnotation]: image.name,
        "org.opencontainers.image.ref.name": image.name.slice(image.name.lastIndexOf(":") + 1),
      },
    };
  });
  writeFileSync(join(layout, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  const mediaType = "application/vnd.oci.image.index.v1+json";
  writeFileSync(join(layout, "index.json"), JSON.stringify({ schemaVersion: 2, mediaType, manifests }));
}

/** Everything belongs to root, is in order of names, and is as old as Unix time. */
function pack(directory: string, file: string): void {
  const flags = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--format=gnu"];
  execFileSync("tar", [...flags, "--directory", directory, "--create", "--file", file, "."]);
}

async function sha256(file: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}
