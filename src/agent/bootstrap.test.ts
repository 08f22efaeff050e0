import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { makeCa } from "../xds/testing/certificates.ts";
import { noEnvoy, validate } from "../xds/testing/envoy.ts";
import { bootstrap, discoveryRootsFile } from "./bootstrap.ts";

test("Envoy takes what it is started with, with and without an address of its own", {
  skip: noEnvoy,
}, async () => {
  const directory = mkdtempSync(join(tmpdir(), "weft-bootstrap-"));
  try {
    const { ca } = await (await makeCa()).issue({ dns: ["istiod.example"] });
    writeFileSync(join(directory, "DISCOVERY.json"), discoveryRootsFile(ca));
    writeFileSync(join(directory, "default.json"), '{"resources":[]}');
    const node = {
      id: "sidecar~10.10.0.7~a.b~b.svc.cluster.local",
      cluster: "a.b",
      metadata: { LABELS: { app: "a" } },
      locality: { region: "r", zone: "z", subZone: "s" },
    };
    for (const bindAddress of [undefined, "169.254.77.1"]) {
      const ads = { host: "istiod-basic.istio-system.svc", port: 15012 };
      const file = join(directory, "bootstrap.json");
      writeFileSync(file, JSON.stringify(bootstrap({ node, ads, bindAddress, sds: directory })));
      assert.equal(validate(file), undefined);
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
