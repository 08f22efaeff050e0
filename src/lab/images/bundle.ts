/**
 * One bundle of what runs in pods: the programs of our own image, as plain JavaScript. Loaded from sources, they take
 * twice the memory and three times as long to start; a lab has many of them. The image and the lab bundle in the same way.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { Plugin } from "esbuild";
import { leanNode } from "../lean.ts";

/** What our image runs, below the checkout: the parts of Weft that live in clusters. */
export const imageMain = "deploy/image/main.ts";

/** Packages with a library in machine code are not bundled: what they load lies in `node_modules` beside or above. */
export const nativePackages = ["koffi", `@koromix/koffi-linux-${process.arch}`];

/**
 * Bundles `imageMain` into `directory` as main.js and its parts, or another program in the same way (benches have some).
 * Resolves with the sources that are in it.
 */
export async function bundleImage(root: string, directory: string, entry = imageMain): Promise<string[]> {
  const { build } = await import("esbuild");
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: [entry],
    outdir: directory,
    bundle: true,
    splitting: true,
    platform: "node",
    target: "node24",
    format: "esm",
    legalComments: "none",
    metafile: true,
    external: nativePackages,
    logLevel: "warning",
    plugins: [lateRequires, plainHttp],
    // Packages that are CommonJS ask for Node's own modules by `require`.
    banner: {
      js: 'import { createRequire as weftRequire } from "node:module"; const require = weftRequire(import.meta.url);',
    },
  });
  writeFileSync(join(directory, "package.json"), '{"type":"module"}\n');
  return Object.keys(metafile.inputs);
}

/**
 * A source that loads a package only when it needs it does so by `createRequire` of its own URL; here the package is to
 * be in the bundle. Written in another way it would be missing, so that is an error.
 */
const lateRequires: Plugin = {
  name: "late-requires",
  setup({ onLoad }) {
    onLoad({ filter: /\/src\/.*\.ts$/ }, ({ path }) => {
      const source = readFileSync(path, "utf8");
      const contents = source.replace(/createRequire\(import\.meta\.url\)\(/g, "require(");
      if (/createRequire\(/.test(contents)) return { errors: [{ text: `${path} loads what is not seen` }] };
      return { contents, loader: "ts" };
    });
  },
};

/**
 * `import` of node:http reads all that it exports, WebSocket too, for which Node loads a whole client (undici): 6 MB and
 * 30 ms for nothing. Taken as `require` has it, what nobody reads is not loaded. (A late import stays as it is: bundled, it
 * would have a default export alone.)
 */
const plainHttp: Plugin = {
  name: "plain-http",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^(node:)?http$/ }, ({ kind }) =>
      kind === "dynamic-import" ? { external: true } : { path: "node:http", namespace: "plain-http" },
    );
    onLoad({ filter: /.*/, namespace: "plain-http" }, () => ({
      contents: 'module.exports = process.getBuiltinModule("node:http");',
    }));
  },
};

/** The bundle that pods of a lab run. */
export interface PodBundle {
  /** Its directory, below the checkout: `build/pods/0a1b2c3d4e5f`. */
  path: string;
  /** Resolves when it is there; rejects when it cannot be made. */
  ready: Promise<void>;
}

/** Where Node finds compiled code of a bundle, below the bundle. */
export const compiled = "compiled";
/** ms that a bundle is kept after a lab was last started with it. */
const kept = 7 * 24 * 3600 * 1000;

/**
 * The bundle of the sources as they are now; made when there is none yet (a second). Its name tells the sources, so it
 * is never a stale one, and labs of older sources keep theirs. Undefined where there are no sources or no esbuild.
 */
export function podBundle(root: string, now: number): PodBundle | undefined {
  if (!existsSync(join(root, imageMain)) || !existsSync(join(root, "node_modules/esbuild"))) return undefined;
  const all = join(root, "build/pods");
  const path = join("build/pods", sourcesId(root));
  const directory = join(root, path);
  mkdirSync(all, { recursive: true });
  for (const old of readdirSync(all)) {
    const file = join(all, old);
    if (now - statSync(file).mtimeMs > kept) rmSync(file, { recursive: true, force: true });
  }
  if (existsSync(directory)) {
    utimesSync(directory, now / 1000, now / 1000);
    return { path, ready: Promise.resolve() };
  }
  return { path, ready: make(root, directory) };
}

async function make(root: string, directory: string): Promise<void> {
  const work = mkdtempSync(`${directory}.`);
  try {
    await bundleImage(root, work);
    await compile(work);
    renameSync(work, directory);
  } catch (error) {
    if (!existsSync(directory)) throw error; // another one was quicker
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Paths, sizes and times of all sources, and what is installed, as a name. */
function sourcesId(root: string): string {
  const hash = createHash("sha256").update(process.version).update(leanNode.join(" "));
  const sources = globSync(["src/**/*.ts", "deploy/image/*.ts"], { cwd: root }).sort();
  for (const file of [...sources, "build/protocols/stamp", "package-lock.json"]) {
    const { mtimeMs, size } = statSync(join(root, file));
    hash.update(`${file} ${mtimeMs} ${size}\n`);
  }
  return hash.digest("hex").slice(0, 12);
}

/**
 * Has Node keep what V8 makes of each part, for pods cannot write. Flags are those of the pods: code that was compiled
 * with others does not count.
 */
function compile(directory: string): Promise<void> {
  const parts = readdirSync(directory).filter((file) => file.endsWith(".js") && file !== "main.js");
  const program = `for (const part of ${JSON.stringify(parts)}) await import(${JSON.stringify(`${directory}/`)} + part);
    process.exit();`;
  const child = spawn(process.execPath, [...leanNode, "--input-type=module", "--eval", program], {
    env: { NODE_COMPILE_CACHE: join(directory, compiled), NODE_COMPILE_CACHE_PORTABLE: "1" },
    stdio: "ignore",
  });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => (code === 0 ? resolve() : reject(new Error(`the bundle does not load`))));
  });
}
