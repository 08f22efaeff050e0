import assert from "node:assert/strict";
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { parseDuration } from "./flags.ts";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const running = new Set<ChildProcessWithoutNullStreams>();
after(() => {
  for (const child of running) child.kill("SIGKILL");
});

function start(program: string, args: string[], env: Record<string, string> = {}) {
  const child = spawn(process.execPath, [here(`${program}/main.ts`), ...args], {
    env: { ...process.env, ...env },
  });
  running.add(child);
  child.once("exit", () => running.delete(child));
  return child;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

/** The message that a demo's Deployment gives to its program, as YAML readers see it. */
function messageOf(file: string): string {
  const deployment = parse(readFileSync(here(`mcs-demo/${file}`), "utf8"));
  const [arg] = deployment.spec.template.spec.containers[0].args as string[];
  assert.match(arg!, /^--message=/);
  return arg!;
}

describe("serve", () => {
  for (const cluster of [1, 2]) {
    test(`with the arguments of dep${cluster}.yaml it greets as in the seed`, async () => {
      const port = await freePort();
      const child = start("serve", [messageOf(`dep${cluster}.yaml`), `--port=${port}`], {
        NODE_NAME: `c${cluster}-control-plane`,
        POD_NAME: "serve-9b5b94f65-tb4cx",
      });
      await once(child.stdout, "data");
      const response = await fetch(`http://127.0.0.1:${port}/any/path`);
      assert.equal(response.headers.get("connection"), "close");
      assert.match(
        await response.text(),
        new RegExp(
          `^'hello from cluster ${cluster} \\(Node: c${cluster}-control-plane Pod: serve-9b5b94f65-tb4cx Address: [0-9a-f.:]+\\)'$`,
        ),
      );
      child.kill("SIGTERM");
      const [code] = await once(child, "exit");
      assert.equal(code, 0, "SIGTERM is a good end");
    });
  }

  test("bytes that are no request do not end it", async () => {
    const port = await freePort();
    const child = start("serve", ["--message=hi", `--port=${port}`]);
    await once(child.stdout, "data");
    const socket = connect(port, "127.0.0.1");
    socket.end("\u0000\u0001garbage\r\n\r\n");
    socket.resume();
    await once(socket, "close");
    assert.equal(await (await fetch(`http://127.0.0.1:${port}/`)).text(), "hi");
    child.kill("SIGTERM");
    await once(child, "exit");
  });

  test("an action that the template does not know is named", async () => {
    const child = start("serve", ["--message={{nonsense}}"]);
    child.stderr.setEncoding("utf8");
    const [said] = (await once(child.stderr, "data")) as [string];
    assert.match(said, /\{\{nonsense\}\}/);
  });
});

describe("request", () => {
  test("prints one stamped answer a second, each on a connection of its own", async () => {
    const ports = new Set<number | undefined>();
    const server = createServer((incoming, response) => {
      ports.add(incoming.socket.remotePort);
      response.end("'hello'");
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const child = start("request", ["--duration=2s", `--address=127.0.0.1:${port}`]);
    const out = text(child);
    const [code] = await once(child, "exit");
    server.close();
    assert.equal(code, 0);
    const lines = (await out).trimEnd().split("\n");
    assert.equal(lines.length, 2);
    for (const line of lines) assert.match(line, /^\d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d 'hello'$/);
    assert.equal(ports.size, 2);
  });

  test("prints what went wrong as Go's client does, and goes on", async () => {
    const port = await freePort();
    const child = start("request", ["--duration", "2s", "--address", `127.0.0.1:${port}`]);
    const out = text(child);
    await once(child, "exit");
    const lines = (await out).trimEnd().split("\n");
    assert.equal(lines.length, 2);
    const error = `Get "http://127.0.0.1:${port}": dial tcp 127.0.0.1:${port}: connect: connection refused`;
    for (const line of lines) assert.equal(line.slice("2022/06/23 01:56:21 ".length), error);
  });

  test("refuses flags that it does not know", async () => {
    const child = start("request", ["--speed=9"]);
    const [code] = await once(child, "exit");
    assert.equal(code, 2);
  });

  test("reads durations", () => {
    assert.equal(parseDuration("5s"), 5000);
    assert.equal(parseDuration("1m30s"), 90_000);
    assert.equal(parseDuration("250ms"), 250);
    assert.equal(parseDuration("1.5h"), 5_400_000);
    assert.equal(parseDuration("5"), undefined);
    assert.equal(parseDuration("fast"), undefined);
  });
});

async function text(child: ChildProcessWithoutNullStreams): Promise<string> {
  let all = "";
  for await (const chunk of child.stdout.setEncoding("utf8")) all += chunk;
  return all;
}

describe("the manifests of the demo", () => {
  test("all are one object with a kind and a name in namespace demo", () => {
    const files = readdirSync(here("mcs-demo")).filter((file) => file.endsWith(".yaml"));
    assert.ok(files.length >= 6);
    for (const file of files) {
      const object = parse(readFileSync(here(`mcs-demo/${file}`), "utf8"));
      assert.ok(object.apiVersion && object.kind, file);
      assert.equal(object.metadata.namespace, "demo", file);
    }
  });

  const slice = `addressType: IPv4
apiVersion: discovery.k8s.io/v1
endpoints:
- addresses:
  - 10.10.0.7
  conditions:
    ready: true
kind: EndpointSlice
metadata:
  creationTimestamp: "2022-06-23T01:55:55Z"
  generateName: serve-
  labels:
    kubernetes.io/service-name: serve
  name: serve-z9r87
  namespace: demo
  uid: 77
ports:
- name: ""
  port: 8080
  protocol: TCP
`;
  const edit = (input: string, ...args: string[]) =>
    spawnSync(process.execPath, [here("mcs-demo/edit-meta"), ...args], { input, encoding: "utf8" });

  test("edit-meta replaces the metadata, whole, and nothing else", () => {
    const metadata =
      "{name: imported-serve-z9r87, namespace: demo, labels: {multicluster.kubernetes.io/service-name: serve}}";
    const { stdout, status } = edit(slice, "--metadata", metadata);
    assert.equal(status, 0);
    assert.deepEqual(parse(stdout), {
      ...parse(slice),
      metadata: {
        name: "imported-serve-z9r87",
        namespace: "demo",
        labels: { "multicluster.kubernetes.io/service-name": "serve" },
      },
    });
  });

  test("edit-meta keeps strings that YAML 1.1 would read as something else", () => {
    const { stdout } = edit('kind: X\nvalue: "yes"\nother: "on"\nnumber: "0x1f"\n');
    assert.deepEqual(parse(stdout, { version: "1.1" }), {
      kind: "X",
      value: "yes",
      other: "on",
      number: "0x1f",
    });
    assert.doesNotMatch(stdout, /^%YAML/);
  });

  test("edit-meta says what is wrong", () => {
    const { status, stderr } = edit("");
    assert.equal(status, 1);
    assert.match(stderr, /^edit-meta: standard input holds no object/);
  });
});
