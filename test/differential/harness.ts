/**
 * The same resources on real Envoy and on the embedded proxy, and the same traffic through both: what they do is
 * compared. A test writes its resources once, as partial messages:
 *
 *   const both = await startBoth(t, ({ log }) => ({
 *     clusters: [{ name: "app", … }],
 *     listeners: [{ name: "front", … }],       // address 127.0.0.1 with port 0: each proxy takes its own
 *   }));
 *   await both.same(async (proxy) => exchange(proxy.address("front"), "GET / HTTP/1.1\r\n…"));
 *
 * Log lines: give the file access logger the path `log`, read `proxy.logged()`.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { connect, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { Bootstrap } from "#protocols/envoy/config/bootstrap/v3/bootstrap.ts";
import { Cluster } from "#protocols/envoy/config/cluster/v3/cluster.ts";
import { Listener } from "#protocols/envoy/config/listener/v3/listener.ts";
import { Secret } from "#protocols/envoy/extensions/transport_sockets/tls/v3/secret.ts";
import { type EmbeddedProxy, startProxy } from "../../src/proxy/index.ts";
import { findEnvoy } from "../../src/xds/testing/envoy.ts";

type Partial<T> = T extends { fromPartial(object: infer P): unknown } ? P : never;

export interface Resources {
  listeners: Partial<typeof Listener>[];
  clusters: Partial<typeof Cluster>[];
  secrets?: Partial<typeof Secret>[];
}

/** One of the two. */
export interface TestProxy {
  kind: "envoy" | "weft";
  address(listener: string): { ip: string; port: number };
  /** Lines of the access log, once there are `count`. */
  logged(count: number): Promise<string[]>;
  /** The admin interface's answer. */
  admin(path: string, method?: string): Promise<string>;
}

export interface Both {
  envoy: TestProxy;
  weft: TestProxy;
  /** Does the same on both, Envoy first, and holds the embedded proxy's answer to Envoy's. Returns it. */
  same<T>(act: (proxy: TestProxy) => Promise<T>): Promise<T>;
}

/** Starts both with the same resources; they end with the test. `make` is called once for each. */
export async function startBoth(
  t: TestContext,
  make: (proxy: { kind: "envoy" | "weft"; log: string; directory: string }) => Resources,
): Promise<Both> {
  const directory = mkdtempSync(join(tmpdir(), "weft-differential-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const logs = { envoy: join(directory, "envoy.log"), weft: join(directory, "weft.log") };
  const [envoy, weft] = await Promise.all([
    startEnvoy(t, directory, make({ kind: "envoy", log: logs.envoy, directory }), logs.envoy),
    startWeft(t, make({ kind: "weft", log: logs.weft, directory }), logs.weft),
  ]);
  return {
    envoy,
    weft,
    async same(act) {
      const wanted = await act(envoy);
      const got = await act(weft);
      assert.deepEqual(got, wanted, "the embedded proxy (actual) does not do what Envoy does (expected)");
      return got;
    },
  };
}

const named = (name: unknown) => String(name);

/** With resources of Istio's kind: these are what its bootstrap sets. */
const runtime = {
  "re2.max_program_size.error_level": 32768,
  "envoy.reloadable_features.http_reject_path_with_fragment": false,
};

async function startEnvoy(
  t: TestContext,
  directory: string,
  resources: Resources,
  log: string,
): Promise<TestProxy> {
  const binary = findEnvoy();
  assert.ok(binary, "the differential tests need Envoy: 'weft up --proxy envoy' fetches one");
  const adminFile = join(directory, "admin");
  const bootstrap = Bootstrap.encode(
    Bootstrap.fromPartial({
      node: { id: "differential", cluster: "differential" },
      staticResources: {
        listeners: resources.listeners,
        clusters: resources.clusters,
        secrets: resources.secrets ?? [],
      },
      layeredRuntime: {
        layers: [{ name: "static", layerSpecifier: { $case: "staticLayer", value: runtime } }],
      },
      admin: {
        address: {
          address: {
            $case: "socketAddress",
            value: { address: "127.0.0.1", portSpecifier: { $case: "portValue", value: 0 } },
          },
        },
      },
    } as Partial<typeof Bootstrap>),
  ).finish();
  const file = join(directory, "bootstrap.pb");
  writeFileSync(file, bootstrap);
  const child: ChildProcess = spawn(
    binary,
    [
      ...[
        "-c",
        file,
        "-l",
        process.env.WEFT_ENVOY_LOG ?? "error",
        "--concurrency",
        "1",
        "--use-dynamic-base-id",
      ],
      ...["--admin-address-path", adminFile, "--drain-time-s", "1", "--file-flush-interval-msec", "20"],
    ],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  let output = "";
  for (const stream of [child.stdout!, child.stderr!]) stream.on("data", (data) => (output += data));
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  t.after(async () => {
    child.kill("SIGKILL");
    await exited;
    if (process.env.WEFT_ENVOY_LOG) console.error(output);
  });
  const admin = async (path: string, method = "GET") => {
    const address = readFileSync(adminFile, "utf8");
    return (await fetch(`http://${address}${path}`, { method })).text();
  };
  await until("Envoy is ready", async () => {
    assert.equal(child.exitCode, null, `Envoy ended: ${output}`);
    return (await admin("/ready")).startsWith("LIVE");
  });
  const listeners = new Map<string, { ip: string; port: number }>();
  const statuses = JSON.parse(await admin("/listeners?format=json")) as {
    listener_statuses?: {
      name: string;
      local_address: { socket_address: { address: string; port_value: number } };
    }[];
  };
  for (const { name, local_address } of statuses.listener_statuses ?? []) {
    const { address, port_value } = local_address.socket_address;
    listeners.set(name, { ip: address, port: port_value });
  }
  return {
    kind: "envoy",
    address: (name) => listeners.get(name) ?? assert.fail(`Envoy has no listener ${name}: ${output}`),
    logged: (count) => lines(log, count),
    admin,
  };
}

async function startWeft(t: TestContext, resources: Resources, log: string): Promise<TestProxy> {
  const problems: string[] = [];
  const proxy: EmbeddedProxy = await startProxy({
    node: {
      id: "differential",
      cluster: "differential",
      metadata: {},
      locality: { region: "", zone: "", subZone: "" },
    },
    adminPort: 0,
    drainTime: 1_000,
    log: (level, message) => {
      if (level === "warning" || level === "error") problems.push(message);
    },
    fixed: {
      listeners: new Map(
        resources.listeners.map((l) => [named(l.name), Listener.encode(Listener.fromPartial(l)).finish()]),
      ),
      clusters: new Map(
        resources.clusters.map((c) => [named(c.name), Cluster.encode(Cluster.fromPartial(c)).finish()]),
      ),
      secrets: (resources.secrets ?? []).map((secret) => Secret.fromPartial(secret)),
    },
  });
  t.after(() => proxy.stop());
  await proxy.ready;
  assert.deepEqual(problems, [], "the embedded proxy takes the resources");
  return {
    kind: "weft",
    address: (name) =>
      proxy.listenerAddress(name) ?? assert.fail(`the embedded proxy has no listener ${name}`),
    logged: (count) => lines(log, count),
    admin: async (path, method = "GET") =>
      (await fetch(`http://127.0.0.1:${proxy.adminPort}${path}`, { method })).text(),
  };
}

async function lines(file: string, count: number): Promise<string[]> {
  let found: string[] = [];
  await until(`${file} has ${count} lines`, async () => {
    found = readFileSync(file, "utf8").split("\n").filter(Boolean);
    return found.length >= count;
  });
  return found;
}

/** Asks until it is so; fails after 10 s, with what it says then. */
export async function until(what: string, isSo: () => Promise<boolean>, patience = 10_000): Promise<void> {
  const deadline = performance.now() + patience;
  let problem: unknown;
  for (;;) {
    try {
      if (await isSo()) return;
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      problem = error;
    }
    if (performance.now() > deadline) assert.fail(`never: ${what}${problem ? ` (${String(problem)})` : ""}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

export interface Answer {
  status: number;
  reason: string;
  /** In order, names in lower case; without `date`, and with `x-envoy-upstream-service-time` as `n`. */
  headers: [string, string][];
  body: string;
  /** Whether the proxy closed the connection after it. */
  closed: boolean;
}

/**
 * Writes bytes as they are to a proxy and reads HTTP/1.1 answers until there are `count`, or it closes. Interim answers
 * (1xx) count. `pieces` are written one by one, each in a segment of its own.
 */
export function exchange(
  to: { ip: string; port: number },
  pieces: string | Buffer | readonly (string | Buffer)[],
  { count = 1, head = false, patience = 10_000 } = {},
): Promise<Answer[]> {
  const list = Array.isArray(pieces)
    ? [...(pieces as readonly (string | Buffer)[])]
    : [pieces as string | Buffer];
  return new Promise((resolve, reject) => {
    const socket = connect({ host: to.ip, port: to.port, noDelay: true });
    let text = "";
    let over = false;
    let linger: NodeJS.Timeout | undefined;
    const timer = setTimeout(
      () => finish(new Error(`no answer in ${patience} ms; so far: ${JSON.stringify(text)}`)),
      patience,
    );
    const finish = (problem?: Error, closed = false) => {
      if (over) return;
      over = true;
      clearTimeout(timer);
      clearTimeout(linger);
      socket.destroy();
      if (problem) return reject(problem);
      const answers = readAnswers(text, true, head);
      const last = answers.at(-1);
      if (last) last.closed = closed;
      resolve(answers);
    };
    const write = () => {
      const piece = list.shift();
      if (piece === undefined) return;
      socket.write(typeof piece === "string" ? Buffer.from(piece, "latin1") : piece, () =>
        setTimeout(write, 5),
      );
    };
    socket.setEncoding("latin1");
    socket.on("connect", write);
    socket.on("data", (chunk: string) => {
      text += chunk;
      // A moment longer: does it close?
      if (readAnswers(text, false, head).length >= count) linger ??= setTimeout(() => finish(), 50);
    });
    socket.on("end", () => finish(undefined, true));
    socket.on("error", () => finish(undefined, true));
    socket.on("close", () => finish(undefined, true));
  });
}

/** Reads complete answers; with `ended`, one without a length ends with the connection. */
function readAnswers(text: string, ended: boolean, head: boolean): Answer[] {
  const answers: Answer[] = [];
  for (let at = 0; at < text.length; ) {
    const end = text.indexOf("\r\n\r\n", at);
    if (end < 0) break;
    const [first = "", ...fields] = text.slice(at, end).split("\r\n");
    const [, status = "0", reason = ""] = /^HTTP\/1\.[01] (\d{3}) ?(.*)$/.exec(first) ?? [];
    const headers = fields.map((field): [string, string] => {
      const colon = field.indexOf(":");
      return [field.slice(0, colon).toLowerCase(), field.slice(colon + 1).trim()];
    });
    const value = (name: string) => headers.find(([n]) => n === name)?.[1];
    let body = "";
    let next = end + 4;
    const empty = head || Number(status) < 200 || status === "204" || status === "304";
    if (!empty && value("transfer-encoding")?.includes("chunked")) {
      for (;;) {
        const line = text.indexOf("\r\n", next);
        if (line < 0) return answers;
        const size = Number.parseInt(text.slice(next, line), 16);
        if (size === 0) {
          const trailersEnd = text.startsWith("\r\n", line + 2)
            ? line + 2
            : text.indexOf("\r\n\r\n", line) + 2;
          if (trailersEnd < line + 2 || text.length < trailersEnd + 2) return answers;
          next = trailersEnd + 2;
          break;
        }
        if (text.length < line + 2 + size + 2) return answers;
        body += text.slice(line + 2, line + 2 + size);
        next = line + 2 + size + 2;
      }
    } else if (!empty && value("content-length") !== undefined) {
      const length = Number(value("content-length"));
      if (text.length < next + length && !ended) break;
      body = text.slice(next, next + length);
      next += length;
    } else if (!empty) {
      if (!ended) break;
      body = text.slice(next);
      next = text.length;
    }
    answers.push({
      status: Number(status),
      reason,
      headers: headers
        .filter(([name]) => name !== "date")
        .map(([name, v]) => (name === "x-envoy-upstream-service-time" ? [name, "n"] : [name, v])),
      body,
      closed: false,
    });
    at = next;
  }
  return answers;
}

/** One request as text: `get("/path", { host: "app" })`. */
export function get(path: string, headers: Record<string, string> = {}, method = "GET", body = ""): string {
  const fields = {
    host: "app.example",
    ...(body ? { "content-length": String(Buffer.byteLength(body)) } : {}),
    ...headers,
  };
  return `${method} ${path} HTTP/1.1\r\n${Object.entries(fields)
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join("")}\r\n${body}`;
}

/**
 * An HTTP server that says what it was asked (JSON: name, method, path, headers as they came, body). `?status=503` is
 * answered so, `?delay=100` after that many ms; `behave` comes first and may answer itself (true).
 */
export async function startBackend(
  t: TestContext,
  name: string,
  behave?: (request: IncomingMessage, response: ServerResponse) => boolean | undefined,
): Promise<{ ip: string; port: number; requests: { method: string; path: string; headers: string[] }[] }> {
  const requests: { method: string; path: string; headers: string[] }[] = [];
  const server = createServer((request, response) => {
    requests.push({ method: request.method!, path: request.url!, headers: request.rawHeaders });
    if (behave?.(request, response)) return;
    let body = "";
    request.setEncoding("utf8");
    request.on("data", (chunk) => (body += chunk));
    request.on("end", () => {
      const query = new URL(request.url!, "http://x").searchParams;
      const headers: Record<string, string> = {};
      for (let i = 0; i < request.rawHeaders.length; i += 2) {
        const field = request.rawHeaders[i]!.toLowerCase();
        headers[field] =
          field in headers ? `${headers[field]},${request.rawHeaders[i + 1]}` : request.rawHeaders[i + 1]!;
      }
      const answer = JSON.stringify({ name, method: request.method, path: request.url, headers, body });
      setTimeout(
        () => {
          response.sendDate = false;
          response.writeHead(Number(query.get("status") ?? 200), { "content-type": "application/json" });
          response.end(answer);
        },
        Number(query.get("delay") ?? 0),
      );
    });
  });
  server.keepAliveTimeout = 60_000;
  return { ...(await listening(t, server)), requests };
}

/** Listens on 127.0.0.1, any port, to the end of the test. */
export async function listening(t: TestContext, server: Server): Promise<{ ip: string; port: number }> {
  const open = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    open.add(socket);
    socket.on("close", () => open.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    for (const socket of open) socket.destroy();
    return new Promise<void>((resolve) => server.close(() => resolve()));
  });
  return { ip: "127.0.0.1", port: (server.address() as { port: number }).port };
}
