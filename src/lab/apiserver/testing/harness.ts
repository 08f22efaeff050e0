/** An API server for tests: in memory, under a simulated clock, with a small JSON client. */
import { SimulatedWorld, type World } from "../../../world/index.ts";
import { type ApiServer, type ApiServerOptions, createApiServer, type UserInfo } from "../index.ts";

export type Json = Record<string, unknown>;
// biome-ignore lint/suspicious/noExplicitAny: tests look into answers of any shape
export type Loose = any;

export interface Answer {
  code: number;
  headers: Record<string, string>;
  /** The body as JSON. */
  body: Loose;
}

export interface Client {
  get(path: string, headers?: Record<string, string>): Promise<Answer>;
  post(path: string, body: unknown, headers?: Record<string, string>): Promise<Answer>;
  put(path: string, body: unknown): Promise<Answer>;
  /** Merge patch unless `type` (`json`, `strategic`, `apply`) says otherwise. */
  patch(path: string, body: unknown, type?: "merge" | "json" | "strategic" | "apply"): Promise<Answer>;
  delete(path: string, body?: unknown): Promise<Answer>;
  watch(path: string): Promise<Events>;
}

export const admin: UserInfo = { name: "admin", groups: ["system:masters"] };

/** A server, its admin's client, and `as` for other users. */
export async function testServer(options: Partial<ApiServerOptions> & { seed?: number } = {}) {
  const world: World = options.world ?? new SimulatedWorld(options.seed ?? 1);
  const bugs: unknown[] = [];
  const server = await createApiServer({
    cluster: "c1",
    storage: { kind: "memory" },
    serviceRange: "10.11.0.0/16",
    advertise: { address: "172.18.0.1", port: 6443 },
    onBug: (bug) => bugs.push(bug),
    ...options,
    world,
  });
  return {
    server,
    bugs,
    world: world as SimulatedWorld,
    client: clientOf(server, admin),
    as: (name: string, ...groups: string[]) => clientOf(server, { name, groups }),
    [Symbol.asyncDispose]: () => server.close(),
  };
}

const patchTypes = {
  merge: "application/merge-patch+json",
  json: "application/json-patch+json",
  strategic: "application/strategic-merge-patch+json",
  apply: "application/apply-patch+yaml",
};

export function clientOf(server: ApiServer, user: UserInfo): Client {
  const transport = server.as(user);
  const call = async (
    method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE",
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<Answer> => {
    const text = body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body);
    const response = await transport({
      method,
      path,
      headers: { "user-agent": "test/1", ...headers },
      ...(text !== undefined && { body: text }),
    });
    if (response.status === 200 && path.includes("watch=1")) {
      // A watch that was to be refused, and was not: it would not end.
      await response.body[Symbol.asyncIterator]().return?.();
      return { code: 200, headers: response.headers, body: "" };
    }
    const chunks: Uint8Array[] = [];
    for await (const chunk of response.body) chunks.push(chunk);
    const said = Buffer.concat(chunks).toString();
    return {
      code: response.status,
      headers: response.headers,
      body: response.headers["content-type"]?.startsWith("application/json") ? JSON.parse(said) : said,
    };
  };
  return {
    get: (path, headers) => call("GET", path, undefined, headers),
    post: (path, body, headers) =>
      call("POST", path, body, { "content-type": "application/json", ...headers }),
    put: (path, body) => call("PUT", path, body, { "content-type": "application/json" }),
    patch: (path, body, type = "merge") => call("PATCH", path, body, { "content-type": patchTypes[type] }),
    delete: (path, body) => call("DELETE", path, body, { "content-type": "application/json" }),
    async watch(path) {
      const response = await transport({ method: "GET", path, headers: {} });
      if (response.status !== 200) throw new Error(`watch was refused with ${response.status}`);
      return new Events(response.body);
    },
  };
}

export interface WatchEvent {
  type: string;
  object: Loose;
}

/** The events of a watch, in order. */
export class Events {
  readonly #body: AsyncIterator<Uint8Array>;
  #text = "";
  #ready: WatchEvent[] = [];

  constructor(body: AsyncIterable<Uint8Array>) {
    this.#body = body[Symbol.asyncIterator]();
  }

  /** The next event; undefined when the stream has ended. */
  async next(): Promise<WatchEvent | undefined> {
    while (this.#ready.length === 0) {
      const { value, done } = await this.#body.next();
      if (done) return undefined;
      const lines = (this.#text + Buffer.from(value).toString()).split("\n");
      this.#text = lines.pop()!;
      this.#ready.push(...lines.map((line) => JSON.parse(line) as WatchEvent));
    }
    return this.#ready.shift();
  }

  async take(count: number): Promise<WatchEvent[]> {
    const events: WatchEvent[] = [];
    while (events.length < count) {
      const event = await this.next();
      if (!event) break;
      events.push(event);
    }
    return events;
  }

  async stop(): Promise<void> {
    await this.#body.return?.();
  }
}

export const configMap = (name: string, data: Json = {}, more: Json = {}) => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name, ...more },
  data,
});
