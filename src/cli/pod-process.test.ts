import assert from "node:assert/strict";
import { request } from "node:http";
import type { AddressInfo } from "node:net";
import { after, test } from "node:test";
import { serveHttp } from "./pod-process.ts";

const server = await serveHttp({ port: 0, address: "127.0.0.1" }, (path, query) => {
  if (path === "/bug") throw new Error("a bug");
  return path === "/state" ? [200, { path, key: query.get("key") }] : [404, "not found"];
});
after(() => server.close());

/** The status and body of what is asked for, the path being whatever it is. */
function ask(path: string, method = "GET"): Promise<[status: number, body: string]> {
  return new Promise((resolve, reject) => {
    const { port } = server.address() as AddressInfo;
    const asked = request({ port, method, path, agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => {
        text += chunk;
      });
      response.on("end", () => resolve([response.statusCode ?? 0, text]));
    });
    asked.on("error", reject).end();
  });
}

test("paths that are no URL, and our own bugs, end their request and nothing else", async () => {
  // Each of these threw out of the listener once, which ended the process.
  for (const path of ["//", "//[", "http://[", "/\\\\"]) assert.equal((await ask(path))[0], 404, path);
  assert.deepEqual(await ask("/bug"), [500, "this is a bug: the log says more\n"]);
  assert.equal((await ask("/state", "POST"))[0], 405);
  const [status, body] = await ask("/state?key=a%2Fb");
  assert.equal(status, 200);
  assert.deepEqual(JSON.parse(body), { path: "/state", key: "a/b" });
});
