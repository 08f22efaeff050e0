import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import {
  commandOf,
  formatImageName,
  InvalidImageName,
  openImages,
  parseImageName,
  UnknownImage,
} from "./index.ts";

const dir = mkdtempSync(join(tmpdir(), "weft-images-"));
const file = join(dir, "images.json");
const images = openImages({ packageMount: "/weft", file });
after(() => rmSync(dir, { recursive: true }));

describe("image names", () => {
  const full = (name: string) => {
    const parsed = parseImageName(name);
    return parsed && formatImageName(parsed);
  };

  test("are completed as container tools do it", () => {
    const digest = `sha256:${"0123456789abcdef".repeat(4)}`;
    for (const [name, expected] of [
      ["nginx", "docker.io/library/nginx:latest"],
      ["nginx:1.27", "docker.io/library/nginx:1.27"],
      ["jeremyot/serve:0a40de8", "docker.io/jeremyot/serve:0a40de8"],
      ["index.docker.io/library/redis", "docker.io/library/redis:latest"],
      ["localhost/x", "localhost/x:latest"],
      ["localhost:5000/a/b:t", "localhost:5000/a/b:t"],
      ["registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9"],
      [`busybox@${digest}`, `docker.io/library/busybox@${digest}`],
      [`busybox:1@${digest}`, `docker.io/library/busybox:1@${digest}`],
    ] as const) {
      assert.equal(full(name), expected);
    }
  });

  test("that no tool takes are none", () => {
    for (const bad of ["", "UPPER", "a b", "x:", ":t", "a//b", "x@sha256:12", "x@", "-x", "a/b:t/c:"]) {
      assert.equal(full(bad), undefined, bad);
    }
  });
});

describe("images", () => {
  test("of the samples and of Weft itself are programs of the checkout", () => {
    const serve = images.resolve("jeremyot/serve:0a40de8");
    assert.equal(serve.entrypoint[0], "/weft/node_modules/.bin/node");
    assert.equal(serve.entrypoint.at(-1), "/weft/samples/serve/main.ts");
    assert.match(serve.id, /^sha256:[0-9a-f]{64}$/);
    const { entrypoint } = images.resolve("weft/control-plane:latest");
    assert.equal(entrypoint.at(-1), "/weft/deploy/image/main.ts");
    const catalog = (tag: string) =>
      images.resolve(`docker.io/rhtgptetraining/foundation-catalog-service:${tag}`).entrypoint.at(-1);
    assert.equal(catalog("1.0.0"), "/weft/samples/coolapp/apps/catalog.ts");
    assert.equal(catalog("2.0.0"), "--version=v2", "an image for one tag alone");
  });

  test("of Weft is its bundle once that is there", () => {
    const bundle = { directory: join(dir, "bundle"), path: "build/pods/1" };
    const images = openImages({ packageMount: "/weft", file, bundle });
    const main = () => images.resolve("weft/control-plane").entrypoint.at(-1);
    assert.equal(main(), "/weft/deploy/image/main.ts");
    mkdirSync(bundle.directory);
    assert.equal(main(), "/weft/build/pods/1/main.js");
    assert.ok(
      images.resolve("weft/control-plane").env.includes("NODE_COMPILE_CACHE=/weft/build/pods/1/compiled"),
    );
    assert.equal(images.resolve("jeremyot/serve:1").entrypoint.at(-1), "/weft/samples/serve/main.ts");
  });

  test("of base systems are the machine's own files, with a shell and nothing else to run", () => {
    for (const name of ["busybox", "alpine:3.20", "docker.io/library/debian"]) {
      const image = images.resolve(name);
      assert.deepEqual(image.entrypoint, []);
      assert.equal(image.cmd.length, 1);
    }
  });

  test("that stand for nothing say how to add them", () => {
    assert.throws(
      () => images.resolve("example.com/app:1"),
      (error: Error) =>
        error instanceof UnknownImage &&
        error.message.includes("weft image add example.com/app:1 -- COMMAND"),
    );
    assert.throws(() => images.resolve("Not An Image"), InvalidImageName);
  });

  test("that are added are known at once, for every tag when none is named, and win over built-in ones", () => {
    writeFileSync(
      file,
      JSON.stringify([
        { name: "example.com/app", command: ["/bin/echo", "app"] },
        { name: "example.com/tagged:2" },
        { name: "busybox:special", command: ["true"] },
      ]),
    );
    assert.deepEqual(images.resolve("example.com/app:77").entrypoint, ["/bin/echo", "app"]);
    assert.deepEqual(images.resolve("example.com/tagged:2").cmd, ["/bin/sh"]);
    assert.throws(() => images.resolve("example.com/tagged:3"), UnknownImage);
    assert.deepEqual(images.resolve("busybox:special").entrypoint, ["true"]);
    assert.deepEqual(images.resolve("busybox:1").entrypoint, []);
    assert.deepEqual(
      images
        .list()
        .filter(({ from }) => from === "added")
        .map(({ name }) => name),
      ["example.com/app", "example.com/tagged:2", "busybox:special"],
    );
  });

  test("of the lab file win over all others", () => {
    writeFileSync(file, JSON.stringify([{ name: "example.com/app", command: ["/bin/echo", "app"] }]));
    const lab = [{ name: "example.com/app", command: ["/bin/echo", "lab"] }, { name: "busybox" }];
    const images = openImages({ packageMount: "/weft", file, lab });
    assert.deepEqual(images.resolve("example.com/app:1").entrypoint, ["/bin/echo", "lab"]);
    assert.deepEqual(images.resolve("busybox:1").cmd, ["/bin/sh"]);
    const origins = images.list().map(({ name, from }) => `${name} ${from}`);
    assert.deepEqual(origins.slice(0, 3), [
      "example.com/app lab file",
      "busybox lab file",
      "example.com/app added",
    ]);
  });
});

test("command and args of a pod replace ENTRYPOINT and CMD as documented", () => {
  const image = { name: "x", id: "x", env: [], workingDir: "/", entrypoint: ["/ep"], cmd: ["c"] };
  assert.deepEqual(commandOf(image, undefined, undefined), ["/ep", "c"]);
  assert.deepEqual(commandOf(image, undefined, ["a"]), ["/ep", "a"]);
  assert.deepEqual(commandOf(image, ["cmd"], undefined), ["cmd"]);
  assert.deepEqual(commandOf(image, ["cmd"], ["a"]), ["cmd", "a"]);
});
