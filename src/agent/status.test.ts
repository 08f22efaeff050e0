import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { eventually } from "../../test/support/eventually.ts";
import { insideNamespaces } from "../lab/network/testing.ts";
import { makeCa } from "../xds/testing/certificates.ts";
import { findEnvoy, noEnvoy } from "../xds/testing/envoy.ts";
import { startEnvoy } from "./envoy.ts";
import { type StatusServers, serveStatus } from "./status.ts";
import { waitForProxy } from "./wait.ts";

function ask(
  port: number,
  path: string,
  method = "GET",
  from?: string,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const options = {
      host: "127.0.0.1",
      port,
      path,
      method,
      agent: false,
      ...(from && { localAddress: from }),
    };
    const asked = request(options, (response) => {
      let text = "";
      response.on("data", (chunk: Buffer) => (text += chunk.toString()));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
    });
    asked.on("error", reject);
    asked.end();
  });
}

// Its ports are fixed: in a network namespace nobody else has them.
if (insideNamespaces(fileURLToPath(import.meta.url))) {
  before(() => execFileSync("ip", ["link", "set", "lo", "up"]));

  describe("the agent's ports", () => {
    let reason: string | undefined = "it waits for a certificate";
    let told = 0;
    let status: StatusServers;
    before(async () => {
      const app = createServer((incoming, response) => {
        if (incoming.url === "/metrics") response.end("app_things 1\n");
        else response.writeHead(incoming.url === "/health" ? 200 : 500).end();
      }).listen(8080, "127.0.0.1");
      await once(app, "listening");
      app.unref();
      status = await serveStatus({
        notReady: () => Promise.resolve(reason),
        metrics: () => Promise.resolve("proxy_things 2\n"),
        address: "127.0.0.1",
        appProbes: {
          "/app-health/catalog/readyz": { httpGet: { path: "/health", port: 8080 } },
          "/app-health/catalog/livez": { httpGet: { path: "/ill", port: 8080 } },
        },
        appMetrics: { port: 8080, path: "/metrics" },
        quit: () => {
          told += 1;
        },
      });
    });
    after(() => status.close());

    test("say what the proxy waits for, and who waits goes on when it is ready", async () => {
      assert.deepEqual(await ask(15021, "/healthz/ready"), { status: 503, text: `${reason}\n` });
      let waiting = true;
      const waited = waitForProxy().then(() => {
        waiting = false;
      });
      assert.equal((await ask(15021, "/healthz/ready")).status, 503);
      assert.ok(waiting);
      reason = undefined;
      await waited;
      assert.equal((await ask(15021, "/healthz/ready")).status, 200);
      assert.equal((await ask(15020, "/healthz/ready")).status, 200);
    });

    test("ask the application in the kubelet's place", async () => {
      assert.equal((await ask(15020, "/app-health/catalog/readyz")).status, 200);
      assert.equal((await ask(15020, "/app-health/catalog/livez")).status, 500);
      assert.equal((await ask(15020, "/app-health/other/livez")).status, 404);
    });

    test("give metrics: of the proxy, and of both together", async () => {
      assert.equal((await ask(15090, "/stats/prometheus")).text, "proxy_things 2\n");
      assert.equal((await ask(15020, "/stats/prometheus")).text, "proxy_things 2\napp_things 1\n");
    });

    test("end the proxy when somebody in the pod asks for it, by POST", async () => {
      assert.equal((await ask(15020, "/quitquitquit")).status, 405);
      assert.equal(told, 0);
      assert.equal((await ask(15020, "/quitquitquit", "POST")).status, 200);
      assert.equal(told, 1);
    });
  });

  test("Envoy is run with its secrets in place; what it waits for and that it died is known", {
    skip: noEnvoy,
  }, async (t) => {
    const directory = mkdtempSync(join(tmpdir(), "weft-envoy-"));
    t.after(() => rmSync(directory, { recursive: true, force: true }));
    const identity = await (await makeCa()).issue({ uri: "spiffe://cluster.local/ns/a/sa/b" });
    const certificate = {
      id: "spiffe://cluster.local/ns/a/sa/b",
      certificatePem: identity.cert,
      keyPem: identity.key,
      bundles: { "cluster.local": identity.ca } as Record<string, string>,
      notAfter: 0,
    };
    let changed: (next: typeof certificate) => void = () => {};
    const start = () =>
      startEnvoy({
        node: {
          id: "sidecar~10.0.0.1~a.b~b.svc",
          cluster: "a.b",
          metadata: {},
          locality: { region: "", zone: "", subZone: "" },
        },
        ads: { host: "127.0.0.1", port: 1 },
        bindAddress: undefined,
        sds: join(directory, "sds"),
        bootstrapFile: join(directory, "envoy.json"),
        program: findEnvoy()!,
        concurrency: 1,
        logLevel: "off",
        drainSeconds: 1,
        identity: {
          current: () => certificate,
          onChange(listener) {
            changed = listener;
            return () => {};
          },
        },
        discoveryRoots: () => Promise.resolve(identity.ca),
        log: () => {},
      });
    const envoy = await start();
    await eventually("Envoy is there and has no configuration", async () =>
      /PRE_INITIALIZING/.test((await envoy.notReady()) ?? ""),
    );
    assert.match(await envoy.metrics(), /^# TYPE envoy_/m);
    assert.equal(await envoy.connections(), 0);
    changed({ ...certificate, bundles: { "cluster.local": identity.ca, "other.example": identity.ca } });
    await eventually("the new roots are written", () =>
      readFileSync(join(directory, "sds/ROOTCA.json"), "utf8").includes("other.example"),
    );
    await envoy.drain();
    await envoy.stop();

    const other = await start();
    await eventually(
      "the other answers",
      async () => !/not up|ECONNREFUSED/.test((await other.notReady()) ?? ""),
    );
    await ask(15000, "/quitquitquit", "POST");
    assert.match(await other.ended, /Envoy ended with/);
  });
}
