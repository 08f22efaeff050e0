/**
 * An image name stands for a program on this machine. There is nothing to pull and no registry is asked: a name
 * is known because it is built in, because the program that it is known for is installed, because the user added
 * it (`weft image add NAME [-- COMMAND]`), or because the lab file says what it is.
 */
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { leanNode } from "../lean.ts";
import { compiled, imageMain } from "./bundle.ts";
import { formatImageName, type ImageName, parseImageName, repositoryOf } from "./names.ts";

/** What an image says about the program in it, as an OCI image's config does. */
export interface Image {
  /** Full name, with tag or digest. */
  name: string;
  /** `sha256:` and the hash of what the image stands for. */
  id: string;
  entrypoint: string[];
  cmd: string[];
  /** `NAME=value`. */
  env: string[];
  workingDir: string;
}

/** What a user adds: an image name and the command that it runs; no command for this machine's own file system. */
export interface AddedImage {
  name: string;
  command?: string[];
}

/** An image name that stands for nothing here. The message says how to add it. */
export class UnknownImage extends Error {
  constructor(name: string) {
    super(
      `image "${name}" stands for no program on this machine; add it with: weft image add ${name} -- COMMAND ` +
        "(without a command, the image is this machine's own file system)",
    );
    this.name = "UnknownImage";
  }
}

/** A name that no container tool would take. */
export class InvalidImageName extends Error {
  constructor(name: string) {
    super(`couldn't parse image name "${name}": invalid reference format`);
    this.name = "InvalidImageName";
  }
}

/** PATH of every image that does not set its own; the one that Docker's base images have. */
export const imagePath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

interface Program {
  entrypoint: string[];
  cmd?: string[];
  env?: string[];
  /** The image is known only where this program is installed; looked for in `imagePath`. */
  needs?: string;
}

export interface ImagesOptions {
  /** Where pods see the checkout of Weft: built-in programs run from there. */
  packageMount: string;
  /**
   * What our own image runs, once it is there (see `podBundle`): `directory` as this process sees it, `path` below
   * `packageMount`. The sources otherwise.
   */
  bundle?: { directory: string; path: string } | undefined;
  /** Where pods see programs that are not installed where all users find them (Envoy): part of our own images' PATH. */
  programs?: string;
  /** The user's own images, JSON: AddedImage[]. Read again for every image, so that an addition works at once. */
  file: string;
  /** Images of the lab itself; they come before all others. */
  lab?: readonly AddedImage[] | undefined;
}

/** Every image that pods of the lab may name. */
export interface Images {
  /** Throws InvalidImageName or UnknownImage. */
  resolve(name: string): Image;
  /** All of them, in the order in which they are looked for. */
  list(): { name: string; command: string[]; from: "lab file" | "added" | "built in" }[];
}

export function openImages({ packageMount, bundle, programs, file, lab = [] }: ImagesOptions): Images {
  const node = join(packageMount, "node_modules/.bin/node");
  const program = (main: string, cache: string, args: readonly string[] = []): Program => ({
    entrypoint: [node, join(packageMount, main), ...args],
    // Compiled once on the machine (a portable cache names files relative to itself), read by every pod.
    env: [
      // Not among the arguments: a pod may have others, as discovery's does (src/mesh/objects.ts).
      `NODE_OPTIONS=${leanNode.join(" ")}`,
      `NODE_COMPILE_CACHE=${join(packageMount, cache)}`,
      "NODE_COMPILE_CACHE_PORTABLE=1",
      ...(programs ? [`PATH=${imagePath}:${programs}`] : []),
    ],
  });
  const own = (source: string, ...args: string[]) => program(source, "node_modules/.cache/node", args);
  const ourImage = () =>
    bundle && existsSync(bundle.directory)
      ? program(join(bundle.path, "main.js"), join(bundle.path, compiled))
      : own(imageMain);
  /** By repository, or by repository and tag where only that version is meant. */
  const builtIn = (): Record<string, Program> => ({
    "docker.io/jeremyot/serve": own("samples/serve/main.ts"),
    "docker.io/jeremyot/request": own("samples/request/main.ts"),
    "docker.io/rhtgptetraining/foundation-catalog-service": own("samples/coolapp/apps/catalog.ts"),
    "docker.io/rhtgptetraining/foundation-catalog-service:2.0.0": own(
      "samples/coolapp/apps/catalog.ts",
      "--version=v2",
    ),
    "docker.io/rhtgptetraining/foundation-partner-service": own(
      "samples/coolapp/apps/hop.ts",
      ...["--name=partner", "--next=http://catalog:8080/"],
    ),
    "docker.io/rhtgptetraining/foundation-gateway-service": own(
      "samples/coolapp/apps/hop.ts",
      ...["--name=gateway", "--next=http://partner:8080/"],
    ),
    "docker.io/weft/control-plane": ourImage(),
    "docker.io/library/busybox": { entrypoint: [], cmd: ["sh"] },
    "docker.io/library/alpine": { entrypoint: [], cmd: ["/bin/sh"] },
    "docker.io/library/debian": { entrypoint: [], cmd: ["bash"] },
    "docker.io/library/ubuntu": { entrypoint: [], cmd: ["/bin/bash"] },
    "docker.io/library/bash": { entrypoint: [], cmd: ["bash"], needs: "bash" },
    "docker.io/library/node": { entrypoint: [], cmd: [node] },
    "docker.io/library/python": { entrypoint: [], cmd: ["python3"], needs: "python3" },
    "docker.io/curlimages/curl": { entrypoint: ["curl"], needs: "curl" },
    "docker.io/library/nginx": {
      entrypoint: ["nginx"],
      cmd: ["-g", "daemon off; user root;"],
      needs: "nginx",
    },
    "docker.io/library/redis": {
      entrypoint: [],
      cmd: ["redis-server", "--protected-mode", "no"],
      needs: "redis-server",
    },
    "registry.k8s.io/pause": { entrypoint: ["sleep", "infinity"] },
    "registry.k8s.io/e2e-test-images/busybox": { entrypoint: [], cmd: ["sh"] },
    "mirror.gcr.io/library/busybox": { entrypoint: [], cmd: ["sh"] },
  });

  const find = (image: ImageName): Program | undefined => {
    const full = formatImageName(image);
    for (const added of [...lab, ...readAdded(file)]) {
      const parsed = parseImageName(added.name);
      if (!parsed) continue;
      // An added name without a tag is for every tag.
      const anyTag = !added.name.includes("@") && !/:[^/]+$/.test(added.name);
      if (formatImageName(parsed) === full || (anyTag && repositoryOf(parsed) === repositoryOf(image))) {
        return { entrypoint: added.command ?? [], cmd: added.command ? [] : ["/bin/sh"] };
      }
    }
    const known = builtIn();
    const found = known[full] ?? known[repositoryOf(image)];
    return found && (found.needs === undefined || isInstalled(found.needs)) ? found : undefined;
  };

  return {
    resolve(name) {
      const parsed = parseImageName(name);
      if (!parsed) throw new InvalidImageName(name);
      const program = find(parsed);
      if (!program) throw new UnknownImage(name);
      const { entrypoint, cmd = [], env = [] } = program;
      const id = createHash("sha256")
        .update(JSON.stringify([repositoryOf(parsed), entrypoint, cmd]))
        .digest("hex");
      return {
        name: formatImageName(parsed),
        id: `sha256:${id}`,
        entrypoint,
        cmd,
        env: [`PATH=${imagePath}`, ...env],
        workingDir: "/",
      };
    },
    list() {
      const theirs = [
        ...lab.map((image) => ({ ...image, from: "lab file" as const })),
        ...readAdded(file).map((image) => ({ ...image, from: "added" as const })),
      ].map(({ name, command = [], from }) => ({ name, command, from }));
      const known = Object.entries(builtIn())
        .filter(([, { needs }]) => needs === undefined || isInstalled(needs))
        .map(([name, { entrypoint, cmd = [] }]) => ({
          name,
          command: [...entrypoint, ...cmd],
          from: "built in" as const,
        }));
      return [...theirs, ...known];
    },
  };
}

/** What the user added; nothing when the file is not there. Throws SyntaxError when it is not JSON. */
export function readAdded(file: string): AddedImage[] {
  return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as AddedImage[]) : [];
}

/**
 * What a container runs: the pod's `command` replaces ENTRYPOINT and, with it, CMD; `args` replaces CMD.
 * Source: Kubernetes documentation, "Define a Command and Arguments for a Container".
 */
export function commandOf(image: Image, command: string[] | undefined, args: string[] | undefined): string[] {
  if (command?.length) return [...command, ...(args ?? [])];
  return [...image.entrypoint, ...(args?.length ? args : image.cmd)];
}

function isInstalled(program: string): boolean {
  return imagePath.split(":").some((dir) => existsSync(join(dir, program)));
}
