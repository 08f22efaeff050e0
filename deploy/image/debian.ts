/** Files of Debian packages, unpacked without installing anything: what a program needs besides itself. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";

/** What the pinned Node is linked with. */
export const nodeNeeds = ["libc6", "libgcc-s1", "libstdc++6"];

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
 * Needs apt-get and dpkg-deb, no rights. Throws when a package cannot be had or is not what apt says it is.
 */
export function unpackPackages(root: string, packages: readonly string[], cache: string): void {
  mkdirSync(cache, { recursive: true });
  // One file system layout whatever the release: /lib and /lib64 are below /usr.
  for (const dir of ["bin", "lib", "lib64"]) {
    mkdirSync(join(root, "usr", dir), { recursive: true });
    if (!existsSync(join(root, dir))) symlinkSync(`usr/${dir}`, join(root, dir));
  }
  // 'URI' NAME SIZE HASH
  const listed = execFileSync("apt-get", ["download", "--print-uris", "-q", ...packages], {
    encoding: "utf8",
  });
  for (const line of listed.trim().split("\n")) {
    const [, file, hash] = /^'[^']+' (\S+) \d+ (\S+)$/.exec(line) ?? [];
    if (!file || !hash) throw new Error(`apt-get said what is not understood: ${line}`);
    const path = join(cache, file);
    if (!existsSync(path)) {
      const name = file.split("_")[0]!;
      execFileSync("apt-get", ["download", "-q", name], { cwd: cache, stdio: "pipe" });
    }
    check(path, hash);
    const archive = execFileSync("dpkg-deb", ["--fsys-tarfile", path], { maxBuffer: 1 << 30 });
    const exclude = left.map((pattern) => `--exclude=${pattern}`);
    execFileSync("tar", ["--keep-directory-symlink", "-x", "-C", root, ...exclude], { input: archive });
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
