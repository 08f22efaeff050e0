/**
 * Makes the npm package: build/weft-VERSION-linux-ARCH.tgz, with everything that `weft` needs besides the programs of
 * the machine. Node runs no .ts below node_modules, so every source is plain JavaScript in it, in the same place as
 * here; dependencies and the pinned Node are bundled, so that installing asks no registry.
 *
 *   npm run package                   npm install -g build/weft-0.1.0-linux-x64.tgz; weft up
 */
import { execFileSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { npmComponents, sbom } from "../deploy/image/sbom.ts";

const root = fileURLToPath(new URL("..", import.meta.url));

interface PackageFile {
  name: string;
  version: string;
  dependencies?: Record<string, string>;
  [field: string]: unknown;
}

/** Writes the package into `directory`. Returns the file. Needs npm. */
export async function makePackage(directory: string): Promise<string> {
  const staging = mkdtempSync(join(tmpdir(), "weft-package-"));
  try {
    await putSources(staging);
    const own = readPackage(root);
    const bundled = putDependencies(staging);
    writeJson(join(staging, "package.json"), {
      name: own.name,
      version: own.version,
      description: own.description,
      license: own.license,
      type: "module",
      bin: own.bin,
      engines: own.engines,
      os: ["linux"],
      cpu: [process.arch],
      imports: own.imports,
      dependencies: bundled,
      bundleDependencies: Object.keys(bundled),
    });
    writeJson(join(staging, "sbom.cdx.json"), sbom(own.name, own.version, components()));
    mkdirSync(directory, { recursive: true });
    const [packed] = JSON.parse(
      execFileSync("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", directory], {
        cwd: staging,
        encoding: "utf8",
        stdio: ["ignore", "pipe", "pipe"],
        maxBuffer: 1 << 28,
      }),
    ) as [{ filename: string }];
    const file = join(directory, `weft-${own.version}-linux-${process.arch}.tgz`);
    renameSync(join(directory, packed.filename), file);
    return file;
  } finally {
    rmSync(staging, { recursive: true, force: true });
  }
}

/** What is run, where it is here, as JavaScript; what is read, as it is. */
async function putSources(staging: string): Promise<void> {
  const { transform } = await import("esbuild");
  const folders = ["src", "samples", "deploy/image", "build/protocols"];
  for (const file of folders.flatMap((folder) =>
    globSync(`${folder}/**/*`, { cwd: root, withFileTypes: true }),
  )) {
    if (!file.isFile()) continue;
    const path = relative(root, join(file.parentPath, file.name));
    if (/\.test\.ts$|\/testing\/|\.fixture\./.test(path)) continue;
    const target = join(staging, path);
    mkdirSync(dirname(target), { recursive: true });
    if (!path.endsWith(".ts")) {
      cpSync(join(root, path), target);
      continue;
    }
    const { code } = await transform(readFileSync(join(root, path), "utf8"), {
      loader: "ts",
      target: "node24",
      format: "esm",
      legalComments: "none",
    });
    writeFileSync(target.replace(/\.ts$/, ".js"), asJavaScript(code, path));
  }
  mkdirSync(join(staging, "bin"));
  writeFileSync(
    join(staging, "bin/weft"),
    asJavaScript(readFileSync(join(root, "bin/weft"), "utf8"), "bin/weft"),
    {
      mode: 0o755,
    },
  );
  for (const file of ["LICENSE", "README.md", "docs"])
    cpSync(join(root, file), join(staging, file), { recursive: true });
}

/** Sources name each other, and the programs that they start, by their files. */
function asJavaScript(code: string, path: string): string {
  const renamed = code.replace(/(["'`])([\w@#./-]+)\.ts\1/g, "$1$2.js$1");
  const left = /["'`][^"'`\n*]*\.ts["'`]/.exec(renamed); // patterns of file names are none
  if (left) throw new Error(`${path} names a source in a way that is not seen: ${left[0]}`);
  return renamed;
}

/** What only compilers and debuggers read: headers, npm and manuals beside the pinned Node; koffi's sources. */
const forCompilers =
  /\.d\.[cm]?ts$|\.map$|\/node-linux-[^/]+\/(include|lib|share|CHANGELOG\.md|bin\/(?!node$))|\/koffi\/(lib\/native|vendor|src\/.*\.(cc|hh))/;
const isTypes = (name: string) => name.startsWith("@types/") || name === "undici-types";
const components = () => npmComponents(root).filter(({ name }) => !isTypes(name));

/** What `npm ci --omit=dev` would install, with the pinned Node. Returns the direct ones. */
function putDependencies(staging: string): Record<string, string> {
  const direct: Record<string, string> = {};
  const node = `node-linux-${process.arch}`;
  for (const name of [...Object.keys(readPackage(root).dependencies ?? {}), node]) {
    direct[name] = readPackage(join(root, "node_modules", name)).version;
  }
  for (const { path } of components()) {
    const target = join(staging, path);
    const isLeft = (from: string) => from.includes(`${path}/node_modules`) || forCompilers.test(from);
    cpSync(join(root, path), target, { recursive: true, filter: (from) => !isLeft(from) });
    const { scripts: _, dependencies = {}, ...rest } = readPackage(target); // what scripts would do is done
    for (const name of Object.keys(dependencies)) if (isTypes(name)) delete dependencies[name];
    writeJson(join(target, "package.json"), { ...rest, dependencies });
  }
  if (!existsSync(join(staging, "node_modules", node))) throw new Error("the pinned Node is not installed");
  return direct;
}

function readPackage(directory: string): PackageFile {
  return JSON.parse(readFileSync(join(directory, "package.json"), "utf8")) as PackageFile;
}

function writeJson(file: string, value: unknown): void {
  writeFileSync(file, `${JSON.stringify(value, undefined, 2)}\n`);
}

if (import.meta.main) console.log(`${await makePackage(join(root, "build"))} is the npm package`);
