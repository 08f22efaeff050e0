/**
 * Builds Helm 3 and CoreDNS from their Go modules, for the tests that use them. Needs Go; takes about 8 minutes on
 * 2 cores with an empty build cache, seconds with a warm one.
 *
 *   node test/real/build-tools.mjs [DIRECTORY]
 */
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";

const cache = process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache");
const directory = resolve(process.argv[2] ?? process.env.WEFT_TOOLS ?? join(cache, "weft/tools"));
mkdirSync(directory, { recursive: true });
for (const module of ["helm.sh/helm/v3/cmd/helm@v3.18.6", "github.com/coredns/coredns@v1.12.4"]) {
  execFileSync("go", ["install", "-trimpath", "-ldflags=-s -w", module], {
    env: { ...process.env, GOBIN: directory, GOFLAGS: "-mod=mod", CGO_ENABLED: "0" },
    stdio: ["ignore", "inherit", "inherit"],
  });
  console.log(`built ${module} in ${directory}`);
}
