import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { globSync, readFileSync } from "node:fs";
import { createServer, type IncomingHttpHeaders, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { hostname } from "node:os";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { parseAllDocuments } from "yaml";
import { eventually } from "../../test/support/eventually.ts";

const here = fileURLToPath(new URL(".", import.meta.url));
const running = new Set<ChildProcess>();
after(() => {
  for (const child of running) child.kill("SIGKILL");
});

/** Starts one of the applications; resolves when it listens. */
async function start(app: string, ...args: string[]): Promise<{ url: string; child: ChildProcess }> {
  const port = await freePort();
  const child = spawn(process.execPath, [`${here}apps/${app}.ts`, `--port=${port}`, ...args]);
  running.add(child);
  child.once("exit", () => running.delete(child));
  await once(child.stdout, "data");
  return { url: `http://127.0.0.1:${port}/`, child };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

async function listening(listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, "127.0.0.1");
  server.unref();
  await once(server, "listening");
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

const ask = async (url: string, headers: Record<string, string> = {}) => {
  const response = await fetch(url, { headers });
  return { status: response.status, text: await response.text() };
};

describe("the applications of coolapp", () => {
  test("one behind the other they answer as in the seed, and catalog counts; probes do not count", async () => {
    const catalog = await start("catalog", "--version=v1");
    const partner = await start("hop", "--name=partner", `--next=${catalog.url}`);
    const gateway = await start("hop", "--name=gateway", `--next=${partner.url}`);
    for (const count of [1, 2, 3]) {
      assert.equal((await ask(`${catalog.url}health`)).status, 200);
      assert.deepEqual(await ask(gateway.url), {
        status: 200,
        text: `gateway => partner => catalog v1 from '${hostname()}': ${count}\n`,
      });
    }
  });

  test("an error of the last one comes back as 503, with the status that each hop met", async () => {
    const empty = await listening((_, response) => response.writeHead(503).end());
    const partner = await start("hop", "--name=partner", `--next=${empty}`);
    const gateway = await start("hop", "--name=gateway", `--next=${partner.url}`);
    const { status, text } = await ask(gateway.url);
    assert.equal(status, 503);
    assert.equal(text, "gateway => 503 partner => 503\n");
    assert.equal(Buffer.byteLength(text), 30, "the content-length of the seed");

    const spoken = await listening((_, response) => response.writeHead(429).end("slow down"));
    const told = await start("hop", "--name=partner", `--next=${spoken}`);
    assert.deepEqual(await ask(told.url), { status: 503, text: "partner => 429 slow down\n" });
  });

  test("nobody there is a 503 too", async () => {
    const partner = await start("hop", "--name=partner", `--next=http://127.0.0.1:${await freePort()}/`);
    const { status, text } = await ask(partner.url);
    assert.equal(status, 503);
    assert.match(text, /^partner => connect ECONNREFUSED/);
  });

  test("what traces a call is passed on, other headers are not", async () => {
    let seen: IncomingHttpHeaders = {};
    const next = await listening((request, response) => {
      seen = request.headers;
      response.end("ok");
    });
    const hop = await start("hop", "--name=hop", `--next=${next}`);
    const traced = {
      "x-request-id": "r-1",
      "x-b3-traceid": "80f198ee56343ba864fe8b2a57d3eff7",
      "x-b3-sampled": "1",
      traceparent: "00-80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-01",
    };
    await ask(hop.url, { ...traced, authorization: "secret" });
    for (const [name, value] of Object.entries(traced)) assert.equal(seen[name], value);
    assert.equal(seen.authorization, undefined);
  });

  test("SIGTERM is a good end: what was begun is answered, and who comes a little late as well", async () => {
    const answers: (() => void)[] = [];
    const slow = await listening((_, response) => answers.push(() => response.end("late")));
    const hop = await start("hop", "--name=hop", `--next=${slow}`);
    const answer = ask(hop.url);
    await eventually("the first request comes", () => answers.length === 1);
    hop.child.kill("SIGTERM");
    // Who has not heard yet still comes, and is asked to close.
    const other = ask(hop.url);
    await eventually("the second request comes", () => answers.length === 2);
    answers[1]!();
    assert.deepEqual(await other, { status: 200, text: "hop => late\n" });
    const ended = once(hop.child, "exit");
    answers[0]!();
    assert.deepEqual(await answer, { status: 200, text: "hop => late\n" });
    assert.deepEqual(await ended, [0, null]);
  });
});

describe("the manifests of coolapp", () => {
  test("every file holds whole objects that name no namespace: the seed gives it with -n", () => {
    const files = globSync("**/*.{yml,yaml}", { cwd: here });
    assert.ok(files.length >= 14, String(files));
    for (const file of files) {
      for (const document of parseAllDocuments(readFileSync(here + file, "utf8"))) {
        assert.deepEqual(document.errors, [], file);
        const { apiVersion, kind, metadata } = document.toJS();
        assert.ok(apiVersion && kind && metadata.name, file);
        assert.equal(metadata.namespace, undefined, file);
      }
    }
  });
});
