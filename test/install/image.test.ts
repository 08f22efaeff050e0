/** Weft's own image: the same sources give the same bytes, and what is in it runs. 10 seconds. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { weftImage } from "../../deploy/image/build.ts";
import { writeArchive } from "../../deploy/image/oci.ts";
import { labUnavailable, root } from "../support/lab.ts";

const missing = ["apt-get", "dpkg-deb"].find((program) => spawnSync(program, ["--version"]).error);
const reason = missing ? `the program '${missing}' is not installed` : labUnavailable();
if (reason) console.log(`skipped: Weft's image: ${reason}`);

interface Manifest {
  config: { digest: string };
  layers: { digest: string; size: number }[];
}
interface Config {
  config: { User: string; Entrypoint: string[] };
  rootfs: { diff_ids: string[] };
}

describe("Weft's image", { skip: reason, timeout: 120_000 }, () => {
  const dir = mkdtempSync(join(tmpdir(), "weft-image-test-"));
  const files = join(dir, "root");
  let config: Config;

  async function build(name: string): Promise<string> {
    const file = join(dir, `${name}.tar`);
    await writeArchive(file, [await weftImage(join(dir, name))]);
    return file;
  }

  before(async () => {
    const layout = join(dir, "layout");
    mkdirSync(layout);
    mkdirSync(files);
    execFileSync("tar", ["-xf", await build("first"), "-C", layout]);
    const json = (path: string) => JSON.parse(readFileSync(join(layout, path), "utf8")) as unknown;
    const blob = (digest: string) => `blobs/${digest.replace(":", "/")}`;
    const index = json("index.json") as { manifests: { digest: string }[] };
    const manifest = json(blob(index.manifests[0]!.digest)) as Manifest;
    config = json(blob(manifest.config.digest)) as Config;
    assert.deepEqual(
      config.rootfs.diff_ids,
      manifest.layers.map(({ digest }) => digest),
    );
    for (const { digest } of manifest.layers) {
      execFileSync("tar", ["-xf", join(layout, blob(digest)), "-C", files, "--no-same-owner"]);
    }
  });
  after(() => rmSync(dir, { recursive: true, force: true }));

  test("the same sources give the same bytes", async () => {
    const digest = (file: string) => createHash("sha256").update(readFileSync(file)).digest("hex");
    assert.equal(digest(await build("second")), digest(join(dir, "first.tar")));
  });

  test("its user is a number other than root's, so that a cluster can insist on it", () => {
    assert.match(config.config.User, /^[1-9]\d*$/);
  });

  test("it holds the bundle and the licences of what is in it, and nothing of where it was made", () => {
    const bundle = readFileSync(join(files, "weft/main.js"), "utf8");
    assert.ok(!bundle.includes(root), "no path of this checkout");
    const licences = readFileSync(join(files, "weft/LICENSES"), "utf8");
    for (const name of ["commander", "dns-packet", "yaml"])
      assert.match(licences, new RegExp(`^${name} \\d`, "m"));
  });

  test("it says what it is made of: every package of npm and Debian with its version and hash (CycloneDX)", () => {
    const bom = JSON.parse(readFileSync(join(files, "weft/sbom.cdx.json"), "utf8")) as {
      bomFormat: string;
      specVersion: string;
      components: { name: string; version: string; purl: string; hashes?: unknown[] }[];
      dependencies: { ref: string; dependsOn: string[] }[];
    };
    assert.deepEqual([bom.bomFormat, bom.specVersion], ["CycloneDX", "1.6"]);
    const found = new Set(bom.components.flatMap(({ name, version }) => [name, `${name} ${version}`]));
    const licences = readFileSync(join(files, "weft/LICENSES"), "utf8");
    for (const [, name, version] of licences.matchAll(/^(\S+) (\d+\.\d+\.\d+)\n\n/gm)) {
      assert.ok(found.has(`${name} ${version}`), `${name} ${version} is in the bundle`);
    }
    for (const doc of readdirSync(join(files, "usr/share/doc"))) {
      const name = doc === "node" ? `node-linux-${process.arch}` : doc;
      assert.ok(found.has(name) || doc.startsWith("gcc-"), `${doc} is in the image`);
    }
    for (const { purl, hashes } of bom.components) {
      assert.match(purl, /^pkg:(npm|deb\/\w+)\/[^@]+@\S+$/);
      assert.equal(hashes?.length, 1, purl);
    }
    assert.equal(bom.dependencies[0]!.dependsOn.length, bom.components.length);
  });

  test("it brings what proxies need besides: nft, the library that asks for original destinations, and weft by name", () => {
    const inImage = (...command: string[]) =>
      spawnSync("unshare", ["--user", "--map-root-user", "--mount", "--net", "chroot", files, ...command], {
        encoding: "utf8",
        env: { PATH: "/usr/sbin:/usr/bin" },
      });
    assert.match(inImage("/usr/sbin/nft", "--version").stdout, /^nftables v1/);
    const library =
      'import("/weft/node_modules/koffi/index.js").then((koffi) => console.log(koffi.default.version))';
    assert.match(inImage("/usr/bin/node", "-e", library).stdout, /^\d+\.\d+/);
    assert.match(
      inImage("/usr/bin/weft", "proxy", "nothing").stderr,
      /a proxy is sidecar or gateway, not 'nothing'/,
    );
    assert.match(inImage("/usr/bin/weft", "nonsense").stderr, /no part 'nonsense'/);
  });

  test("it runs on a file system that is read-only, with all that it loads later", () => {
    const readOnly = `mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec chroot "$0" "$@"`;
    const command = [...config.config.Entrypoint, "--kubeconfig", "/etc/passwd"];
    const namespaces = ["--user", "--map-root-user", "--mount"];
    const { stderr } = spawnSync("unshare", [...namespaces, "sh", "-c", readOnly, files, ...command], {
      encoding: "utf8",
      env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" },
    });
    // That it is not YAML of a kubeconfig is said by a package that is loaded where one is read.
    assert.match(stderr, /^error: \/etc\/passwd is not a valid kubeconfig: it is not a mapping/);
  });
});
