/** Volumes that show what the API has: brought up to date, tokens replaced in time, and nothing touched without need. */
import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import type { Pod } from "../../api/index.ts";
import { SimulatedWorld } from "../../world/index.ts";
import { volumePath } from "./container-config.ts";
import type { NodeContext } from "./context.ts";
import { ConfigError } from "./env.ts";
import { forgetTokens, refreshVolumes, setUpVolumes } from "./pod-volumes.ts";

let dir: string;
let world: SimulatedWorld;
let data: Record<string, string>;
let asked: { path: string; spec: Record<string, unknown> }[];

const pod = {
  metadata: { namespace: "coolapp", name: "catalog", uid: "u1" },
  spec: {
    serviceAccountName: "catalog",
    containers: [],
    volumes: [
      {
        name: "istio-token",
        projected: {
          sources: [
            { serviceAccountToken: { audience: "istio-ca", expirationSeconds: 43200, path: "istio-token" } },
          ],
        },
      },
      { name: "istiod-ca-cert", configMap: { name: "istio-ca-root-cert" } },
    ],
  },
} as unknown as Pod;

function context(): NodeContext {
  return {
    world,
    stateDir: join(dir, "state"),
    runDir: join(dir, "run"),
    node: { address: "172.18.0.2" },
    configMap: async () => ({ data }),
    client: {
      async json(_: string, path: string, { body }: { body: { spec: Record<string, unknown> } }) {
        asked.push({ path, spec: body.spec });
        const seconds = body.spec.expirationSeconds as number;
        return {
          status: {
            token: `token ${asked.length}`,
            expirationTimestamp: new Date(world.now() + seconds * 1000).toISOString(),
          },
        };
      },
    },
  } as unknown as NodeContext;
}

const file = (volume: string, name: string) => join(dir, "run/pods/u1/volumes/files", volume, name);
const read = (volume: string, name: string) => readFileSync(file(volume, name), "utf8");

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "weft-volumes-"));
  world = new SimulatedWorld(1);
  data = { "root-cert.pem": "one" };
  asked = [];
});
afterEach(() => {
  forgetTokens("u1");
  rmSync(dir, { recursive: true, force: true });
});

test("a token is asked for with its audience, its time and the pod that it is bound to", async () => {
  await setUpVolumes(context(), pod, "10.10.0.2");
  assert.equal(read("istio-token", "istio-token"), "token 1");
  assert.deepEqual(asked, [
    {
      path: "/api/v1/namespaces/coolapp/serviceaccounts/catalog/token",
      spec: {
        audiences: ["istio-ca"],
        expirationSeconds: 43200,
        boundObjectRef: { apiVersion: "v1", kind: "Pod", name: "catalog", uid: "u1" },
      },
    },
  ]);
});

test("a token is replaced when four fifths of its time are over, and not before", async () => {
  await setUpVolumes(context(), pod, "10.10.0.2");
  await world.advance(0.79 * 43_200_000);
  await refreshVolumes(context(), pod, "10.10.0.2");
  assert.equal(read("istio-token", "istio-token"), "token 1");
  await world.advance(0.02 * 43_200_000);
  await refreshVolumes(context(), pod, "10.10.0.2");
  assert.equal(read("istio-token", "istio-token"), "token 2");
});

test("files that are as they should be are not written again; those that changed are, all together", async () => {
  await setUpVolumes(context(), pod, "10.10.0.2");
  const before = statSync(file("istiod-ca-cert", "root-cert.pem"));
  const version = readlinkSync(file("istiod-ca-cert", "..data"));
  await refreshVolumes(context(), pod, "10.10.0.2");
  assert.equal(statSync(file("istiod-ca-cert", "root-cert.pem")).ino, before.ino);
  assert.equal(readlinkSync(file("istiod-ca-cert", "..data")), version);
  data = { "root-cert.pem": "two", "crl.pem": "more" };
  await refreshVolumes(context(), pod, "10.10.0.2");
  assert.equal(read("istiod-ca-cert", "root-cert.pem"), "two");
  assert.equal(read("istiod-ca-cert", "crl.pem"), "more");
  assert.notEqual(readlinkSync(file("istiod-ca-cert", "..data")), version);
});

test("a subPath is made where there is nothing, and never outside of its volume, whatever links are in it", async () => {
  const home = mkdtempSync(join(tmpdir(), "weft-subpath-"));
  try {
    const [dir, outside] = [join(home, "volume"), join(home, "outside")];
    for (const each of [join(dir, "sub"), outside]) mkdirSync(each, { recursive: true });
    writeFileSync(join(dir, "file"), "x");
    symlinkSync("sub", join(dir, "inside"));
    symlinkSync(outside, join(dir, "leak"));
    symlinkSync(join(outside, "made"), join(dir, "dangling"));
    const of = (subPath: string) => volumePath({ dir, isFile: false }, subPath);
    assert.deepEqual(await of(""), { source: dir, isFile: false });
    assert.deepEqual(await of("file"), { source: join(dir, "file"), isFile: true });
    assert.deepEqual(await of("new/deep"), { source: join(dir, "new/deep"), isFile: false });
    assert.deepEqual(await of("inside/x"), { source: join(dir, "sub/x"), isFile: false });
    for (const hostile of ["leak", "leak/made", "dangling", "dangling/x", "../outside"]) {
      await assert.rejects(of(hostile), ConfigError, hostile);
    }
    // Directories were once made first and judged afterwards.
    assert.equal(existsSync(join(outside, "made")), false);
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
});
