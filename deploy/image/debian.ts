/** Files of Debian packages, unpacked without installing anything: what a program needs besides itself. */
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import type { Component } from "./sbom.ts";

/** What the pinned Node is linked with. */
export const nodeNeeds = ["libc6", "libgcc-s1", "libstdc++6"];

/** nft, which writes the redirection of sidecars, and what it is linked with. */
export const nftNeeds = [
  ...["nftables", "libnftables1", "libnftnl11", "libmnl0", "libxtables12", "libjansson4", "libgmp10"],
  ...["libedit2", "libbsd0", "libmd0", "libtinfo6"],
];

/** Of no use to a program that runs: manuals, translations, character sets other than UTF-8. Licences stay. */
const left = [
  "./usr/share/man",
  "./usr/share/locale",
  "./usr/share/lintian",
  "./usr/share/gcc*",
  "./usr/share/gdb",
  "./usr/share/doc/*/changelog*",
  "./usr/share/doc/*/NEWS*",
  "./usr/share/doc/*/README*",
  "*/gconv",
  "*/audit",
  "./etc/ld.so.conf.d",
];

/**
 * Unpacks the packages in the version that apt would install now, below `root`. Packages are kept in `cache`.
 * Returns what was unpacked. Needs apt-get and dpkg-deb, no rights. Throws when a package cannot be had or is not what
 * apt says it is.
 */
export function unpackPackages(root: string, packages: readonly string[], cache: string): Component[] {
  const unpacked: Component[] = [];
  mkdirSync(cache, { recursive: true });
  // One file system layout whatever the release: /lib and /lib64 are below /usr.
  for (const dir of ["bin", "lib", "lib64"]) {
    mkdirSync(join(root, "usr", dir), { recursive: true });
    if (!existsSync(join(root, dir))) symlinkSync(`usr/${dir}`, join(root, dir));
  }
  // 'URI' NAME SIZE HASH
  for (const line of addresses(packages).trim().split("\n")) {
    const [, file, hash] = /^'[^']+' (\S+) \d+ (\S+)$/.exec(line) ?? [];
    if (!file || !hash) throw new Error(`apt-get said what is not understood: ${line}`);
    const path = join(cache, file);
    if (!existsSync(path)) {
      // Another build may be at it as well: what is in the cache is whole.
      const own = mkdtempSync(join(cache, "download-"));
      execFileSync("apt-get", ["download", "-q", file.split("_")[0]!], { cwd: own, stdio: "pipe" });
      renameSync(join(own, file), path);
      rmSync(own, { recursive: true });
    }
    check(path, hash);
    const archive = execFileSync("dpkg-deb", ["--fsys-tarfile", path], { maxBuffer: 1 << 30 });
    const exclude = left.map((pattern) => `--exclude=${pattern}`);
    execFileSync("tar", ["--keep-directory-symlink", "-x", "-C", root, ...exclude], { input: archive });
    unpacked.push(componentOf(file, path));
  }
  return unpacked.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** `libc6_2.36-9%2bdeb12u13_amd64.deb`; apt writes characters that file names may not have as URLs do. */
function componentOf(file: string, path: string): Component {
  const [name = "", version = "", arch] = file
    .replace(/\.deb$/, "")
    .split("_")
    .map(decodeURIComponent);
  const [, distribution = "debian"] = /^ID=(\w+)$/m.exec(readFileSync("/etc/os-release", "utf8")) ?? [];
  return {
    type: "library",
    name,
    version,
    purl: `pkg:deb/${distribution}/${name}@${encodeURIComponent(version)}?arch=${arch}`,
    hashes: [{ alg: "SHA-256", content: createHash("sha256").update(readFileSync(path)).digest("hex") }],
  };
}

/** Where apt would take the packages from. A machine that never asked for package lists does so first. */
function addresses(packages: readonly string[]): string {
  const ask = () =>
    execFileSync("apt-get", ["download", "--print-uris", "-q", ...packages], {
      encoding: "utf8",
      stdio: "pipe",
    });
  try {
    return ask();
  } catch {
    const update = spawnSync("apt-get", ["update", "-q"], { encoding: "utf8" });
    if (update.status !== 0)
      throw new Error(`apt-get knows no packages, and 'apt-get update': ${update.stderr}`);
    return ask();
  }
}

function check(path: string, expected: string): void {
  const [algorithm, digest] = expected.split(":") as [string, string | undefined];
  if (!digest) throw new Error(`apt-get gave no hash of ${path}`);
  const found = createHash(algorithm.replace("Sum", "").toLowerCase())
    .update(readFileSync(path))
    .digest("hex");
  if (found !== digest) throw new Error(`${path} is not what apt-get says it is; take it away and try again`);
}
