/**
 * For this room's tests: the part of an API server that reflectors meet, with its faults at our command.
 * One kind (ConfigMaps), list with pages, watch, bookmarks, WatchList, compaction.
 */
import { type ConfigMap, configMaps, nameOf } from "../../api/index.ts";
import type { KubeRequest, KubeResponse, Transport } from "../transport.ts";

interface Logged {
  version: number;
  type: "ADDED" | "MODIFIED" | "DELETED";
  object: ConfigMap;
}

export class FakeApi {
  readonly resource = configMaps;
  /** What the server does with `sendInitialEvents`. */
  watchList: "offered" | "refused" | "ignored" | "failing" = "offered";
  /** Every request so far, as `METHOD path?query`. */
  readonly requests: string[] = [];
  /** While set, every request fails like this before an answer. */
  unreachable: Error | undefined;
  /** While set, watches are accepted and then never say a word. */
  mute = false;
  /** Answers instead of the server when it returns something. */
  intercept:
    | ((request: KubeRequest, url: URL) => KubeResponse | Promise<KubeResponse> | undefined)
    | undefined;
  #version = 100;
  #compacted = 0;
  readonly #objects = new Map<string, ConfigMap>();
  readonly #log: Logged[] = [];
  readonly #watches = new Set<OpenWatch>();

  readonly transport: Transport = async (request) => {
    const url = new URL(request.path, "http://fake");
    this.requests.push(`${request.method} ${request.path}`);
    await Promise.resolve();
    request.signal?.throwIfAborted();
    if (this.unreachable) throw this.unreachable;
    const other = await this.intercept?.(request, url);
    if (other) return other;
    return url.searchParams.has("watch") ? this.#watch(request, url) : this.#list(url);
  };

  get version(): string {
    return String(this.#version);
  }

  get openWatches(): number {
    return this.#watches.size;
  }

  objects(): ConfigMap[] {
    return [...this.#objects.values()].sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
  }

  put(name: string, data: Record<string, string> = {}, more: Partial<ConfigMap["metadata"]> = {}): ConfigMap {
    const before = this.#objects.get(`demo/${name}`);
    const object: ConfigMap = {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: {
        namespace: "demo",
        name,
        uid: before?.metadata.uid ?? `uid-${this.#version}`,
        ...more,
        resourceVersion: String(++this.#version),
      },
      data,
    };
    this.#objects.set(nameOf(object), object);
    this.#publish({ version: this.#version, type: before ? "MODIFIED" : "ADDED", object });
    return object;
  }

  remove(name: string): void {
    const before = this.#objects.get(`demo/${name}`);
    if (!before) return;
    this.#objects.delete(`demo/${name}`);
    const object = { ...before, metadata: { ...before.metadata, resourceVersion: String(++this.#version) } };
    this.#publish({ version: this.#version, type: "DELETED", object });
  }

  /** History up to now is forgotten: older resourceVersions are answered with 410. */
  compact(): void {
    this.#compacted = this.#version;
  }

  bookmark(): void {
    for (const watch of this.#watches) watch.send(bookmark(this.#version));
  }

  /** Ends all watches as a server does whose time is over. */
  endWatches(): void {
    for (const watch of this.#watches) watch.end();
  }

  /** Breaks all watches, each after the first part of one more event when `midJson`. */
  cutWatches({ midJson = false } = {}): void {
    for (const watch of this.#watches) {
      if (midJson) watch.sendBytes(Buffer.from('{"type":"MODIFIED","object":{"metadata":{"name":"ha'));
      watch.break(Object.assign(new Error("socket hang up"), { code: "ECONNRESET" }));
    }
  }

  /** Sends bytes as they are to all watches. */
  sendBytes(bytes: Uint8Array): void {
    for (const watch of this.#watches) watch.sendBytes(bytes);
  }

  #publish(entry: Logged): void {
    this.#log.push(entry);
    if (!this.mute) for (const watch of this.#watches) watch.send(entry);
  }

  #list(url: URL): KubeResponse {
    const { searchParams } = url;
    const limit = Number(searchParams.get("limit") ?? 0);
    const token = searchParams.get("continue");
    const [version, start] = token ? token.split(",").map(Number) : [this.#version, 0];
    if (token && version! <= this.#compacted) return refuse(410, "Expired", "the continue token is too old");
    const all = this.#at(version!);
    const items = limit ? all.slice(start, start! + limit) : all.slice(start);
    const next = start! + items.length;
    // As real servers do, without kind and apiVersion in the items.
    const bare = items.map(({ kind: _k, apiVersion: _v, ...rest }) => rest);
    return json(200, {
      kind: "ConfigMapList",
      apiVersion: "v1",
      metadata: {
        resourceVersion: String(version),
        ...(next < all.length && { continue: `${version},${next}` }),
      },
      items: bare,
    });
  }

  /** The objects as they were at a version. */
  #at(version: number): ConfigMap[] {
    const objects = new Map<string, ConfigMap>();
    for (const entry of this.#log) {
      if (entry.version > version) break;
      if (entry.type === "DELETED") objects.delete(nameOf(entry.object));
      else objects.set(nameOf(entry.object), entry.object);
    }
    return [...objects.values()];
  }

  #watch(request: KubeRequest, url: URL): KubeResponse {
    const { searchParams } = url;
    const initial = searchParams.get("sendInitialEvents") === "true";
    const from = searchParams.get("resourceVersion") ?? "";
    if (initial && this.watchList === "refused") {
      return refuse(422, "Invalid", "sendInitialEvents is forbidden for watch");
    }
    if (initial && this.watchList === "failing") {
      // kube-apiserver over an etcd that cannot report progress answers so, with status 200.
      const message = "the required storage feature RequestWatchProgress is disabled";
      const object = { kind: "Status", status: "Failure", reason: "InternalError", code: 500, message };
      const event = JSON.stringify({ type: "ERROR", object });
      return { status: 200, headers: {}, body: once(`${event}\n`) };
    }
    if (from !== "" && Number(from) < this.#compacted)
      return refuse(410, "Expired", "too old resource version");
    const watch = new OpenWatch(() => this.#watches.delete(watch));
    this.#watches.add(watch);
    request.signal?.addEventListener("abort", () => watch.break(request.signal?.reason), { once: true });
    if (!this.mute) {
      if (from === "") {
        for (const object of this.objects()) watch.send({ type: "ADDED", object });
        if (initial && this.watchList === "offered") watch.send(bookmark(this.#version, true));
      } else {
        for (const entry of this.#log) if (entry.version > Number(from)) watch.send(entry);
      }
    }
    return { status: 200, headers: {}, body: watch };
  }
}

class OpenWatch implements AsyncIterable<Uint8Array> {
  readonly #chunks: Uint8Array[] = [];
  readonly #onEnd: () => void;
  #ended: { error?: unknown } | undefined;
  #wake = () => {};

  constructor(onEnd: () => void) {
    this.#onEnd = onEnd;
  }

  send({ type, object }: { type: string; object: unknown }): void {
    this.sendBytes(Buffer.from(`${JSON.stringify({ type, object })}\n`));
  }

  /** What is sent in one turn arrives as one chunk. */
  sendBytes(bytes: Uint8Array): void {
    this.#chunks.push(bytes);
    this.#wake();
  }

  end(): void {
    this.#ended ??= {};
    this.#onEnd();
    this.#wake();
  }

  break(error: unknown): void {
    this.#ended ??= { error };
    this.#onEnd();
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for (;;) {
      if (this.#chunks.length > 0) yield Buffer.concat(this.#chunks.splice(0));
      else if (this.#ended && "error" in this.#ended) throw this.#ended.error;
      else if (this.#ended) return;
      else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }
}

function bookmark(version: number, initialEventsEnd = false) {
  return {
    type: "BOOKMARK",
    object: {
      kind: "ConfigMap",
      apiVersion: "v1",
      metadata: {
        resourceVersion: String(version),
        ...(initialEventsEnd && { annotations: { "k8s.io/initial-events-end": "true" } }),
      },
    },
  };
}

export function json(status: number, value: unknown, headers: Record<string, string> = {}): KubeResponse {
  return { status, headers, body: once(JSON.stringify(value)) };
}

export function refuse(
  code: number,
  reason: string,
  message: string,
  headers: Record<string, string> = {},
): KubeResponse {
  const status = { kind: "Status", apiVersion: "v1", metadata: {}, status: "Failure", message, reason, code };
  return json(code, status, headers);
}

export async function* once(text: string): AsyncGenerator<Uint8Array> {
  yield Buffer.from(text);
}
