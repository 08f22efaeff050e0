/**
 * A typed client of one cluster's API server, over any Transport.
 * Protocol: Kubernetes API concepts (apimachinery `pkg/apis/meta/v1`), server-side apply (KEP-555).
 */
import { apiVersionOf, type KubeObject, pathOf, type Resource, splitName, WeftError } from "../api/index.ts";
import { sleep, type World } from "../world/index.ts";
import { Lines, readAll } from "./body.ts";
import { ApiError, apiError, isGone, isNotFound, ProtocolError } from "./errors.ts";
import type { Applied, DeepPartial, Draft, JsonPatch, Ref } from "./objects.ts";
import {
  type ApplyOptions,
  type CallOptions,
  type DeleteOptions,
  deleteBody,
  type List,
  type ListOptions,
  type PatchOptions,
  type Selection,
  selection,
  type WatchEvent,
  type WatchOptions,
  type WriteOptions,
  writeQuery,
} from "./options.ts";
import type { KubeRequest, KubeResponse, Transport } from "./transport.ts";
import { unreachableReason } from "./unreachable.ts";

const patchTypes = {
  merge: "application/merge-patch+json",
  json: "application/json-patch+json",
  strategic: "application/strategic-merge-patch+json",
  apply: "application/apply-patch+yaml",
};

const defaultTimeout = 30_000;
const defaultLongestAnswer = 256 * 1024 * 1024;
const defaultPageSize = 500;
const retries = 4;
const longestRetryAfter = 10_000;

export class KubeClient {
  readonly transport: Transport;
  readonly world: World;
  /** The cluster's name, as error messages call it. */
  readonly cluster: string;
  /** The server's address, for error messages only. */
  readonly server: string;
  /** Whether the server offers WatchList (KEP-3157); found out by the first reflector. */
  watchList: "unknown" | "yes" | "no" = "unknown";
  readonly #userAgent: string;
  readonly #longestAnswer: number;

  constructor(options: {
    transport: Transport;
    world: World;
    cluster: string;
    server?: string;
    userAgent?: string;
    /** Most bytes of one answer, or of one line of a watch; more is given up as garbage. 256 MB unless told. */
    longestAnswer?: number;
  }) {
    this.transport = options.transport;
    this.world = options.world;
    this.cluster = options.cluster;
    this.server = options.server ?? "its address";
    this.#userAgent = options.userAgent ?? "weft";
    this.#longestAnswer = options.longestAnswer ?? defaultLongestAnswer;
  }

  /** The object, or undefined when there is none of that name. */
  async get<T extends KubeObject>(
    resource: Resource<T>,
    ref: Ref,
    options: CallOptions & { subresource?: string } = {},
  ): Promise<T | undefined> {
    try {
      return await this.json<T>("GET", this.#path(resource, ref, options.subresource), options);
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  /** All objects that are selected, as one snapshot; pages are fetched as needed. */
  async list<T extends KubeObject>(resource: Resource<T>, options: ListOptions = {}): Promise<List<T>> {
    const { pageSize = defaultPageSize } = options;
    const query = {
      ...selection(options),
      resourceVersion: options.resourceVersion,
      resourceVersionMatch: options.resourceVersionMatch,
    };
    const path = pathOf(resource, options.namespace);
    const items: T[] = [];
    let next: string | undefined;
    let limit: number | undefined = pageSize > 0 ? pageSize : undefined;
    for (;;) {
      let page: { items?: T[]; metadata?: { resourceVersion?: string; continue?: string } };
      try {
        // A continue token holds the snapshot's resourceVersion; giving it twice is refused.
        const pageQuery = next ? { ...selection(options), limit, continue: next } : { ...query, limit };
        page = await this.json("GET", withQuery(path, pageQuery), options);
      } catch (error) {
        if (!next || !isGone(error)) throw error;
        // The snapshot was compacted away between two pages: take all of a newer one at once.
        items.length = 0;
        next = undefined;
        limit = undefined;
        continue;
      }
      // Real servers leave kind and apiVersion out of the items of typed lists.
      for (const item of page.items ?? []) items.push(withKind(resource, item));
      next = page.metadata?.continue || undefined;
      if (!next) return { items, resourceVersion: page.metadata?.resourceVersion ?? "" };
    }
  }

  async create<T extends KubeObject>(
    resource: Resource<T>,
    object: Draft<T>,
    options: WriteOptions & { name?: string } = {},
  ): Promise<T> {
    const { namespace, name } = object.metadata;
    // Subresources (binding, token, eviction) are created under an object's name.
    const of = options.subresource ? (options.name ?? name) : undefined;
    const path = pathOf(resource, this.#namespace(resource, namespace), of, options.subresource);
    return this.json<T>("POST", withQuery(path, writeQuery(options)), {
      ...options,
      body: withKind(resource, object),
    });
  }

  /** PUT. With a resourceVersion in the object it is refused with a Conflict when someone was faster. */
  async replace<T extends KubeObject>(
    resource: Resource<T>,
    object: Draft<T>,
    options: WriteOptions = {},
  ): Promise<T> {
    // What a reflector kept of managedFields would replace what the server knows of other managers.
    const { managedFields: _, ...metadata } = object.metadata;
    const path = this.#path(resource, named(object.metadata), options.subresource);
    return this.json<T>("PUT", withQuery(path, writeQuery(options)), {
      ...options,
      body: withKind(resource, { ...object, metadata }),
    });
  }

  async patch<T extends KubeObject>(
    resource: Resource<T>,
    ref: Ref,
    patch: DeepPartial<T> | Record<string, unknown> | JsonPatch,
    options: PatchOptions = {},
  ): Promise<T> {
    const path = this.#path(resource, ref, options.subresource);
    return this.json<T>("PATCH", withQuery(path, writeQuery(options)), {
      ...options,
      body: patch,
      contentType: patchTypes[options.type ?? "merge"],
    });
  }

  /**
   * Server-side apply: what the manager wants of the object, whole. Creates the object when there is none,
   * except when `metadata.uid` names one that is gone (then a Conflict). Refused with a Conflict
   * (`isFieldConflict`) when another manager owns a field with another value and `force` is not set.
   */
  async apply<T extends KubeObject>(
    resource: Resource<T>,
    object: Applied<T> | Draft<T>,
    options: ApplyOptions = {},
  ): Promise<T> {
    const { managedFields: _, ...metadata } = object.metadata;
    const path = this.#path(resource, named(object.metadata), options.subresource);
    const query = { ...writeQuery(options), force: options.force ? "true" : undefined };
    return this.json<T>("PATCH", withQuery(path, query), {
      ...options,
      body: withKind(resource, { ...object, metadata }),
      contentType: patchTypes.apply,
    });
  }

  /** Resolves to false when there was none of that name. Finalizers may keep the object for a while. */
  async delete<T extends KubeObject>(
    resource: Resource<T>,
    ref: Ref,
    options: DeleteOptions = {},
  ): Promise<boolean> {
    try {
      await this.json("DELETE", this.#path(resource, ref), { ...options, body: deleteBody(options) });
      return true;
    } catch (error) {
      if (isNotFound(error)) return false;
      throw error;
    }
  }

  async deleteCollection<T extends KubeObject>(
    resource: Resource<T>,
    options: Selection & DeleteOptions = {},
  ): Promise<void> {
    await this.json("DELETE", withQuery(pathOf(resource, options.namespace), selection(options)), {
      ...options,
      body: deleteBody(options),
    });
  }

  /**
   * Opens a watch; resolves when the server has accepted it. Each batch holds the events of one chunk that
   * arrived. The iteration ends when the server ends the watch and throws when the connection breaks or a
   * line is not an event.
   */
  async watch<T extends KubeObject>(
    resource: Resource<T>,
    options: WatchOptions = {},
  ): Promise<AsyncIterable<WatchEvent<T>[]>> {
    const path = withQuery(pathOf(resource, options.namespace), {
      ...selection(options),
      watch: "1",
      allowWatchBookmarks: "true",
      resourceVersion: options.resourceVersion,
      resourceVersionMatch: options.resourceVersionMatch,
      sendInitialEvents: options.sendInitialEvents ? "true" : undefined,
      timeoutSeconds: options.timeoutSeconds,
    });
    const response = await this.#within(
      options.timeout ?? defaultTimeout,
      options.signal,
      async (signal) => {
        const response = await this.request({ method: "GET", path, signal });
        if (response.status === 200) return response;
        throw apiError(
          this.cluster,
          response.status,
          await this.#readAll(response, signal),
          response.headers,
        );
      },
      true,
    );
    return watchEvents<T>(response.body, this.#longestAnswer);
  }

  /** One request as it is; resolves when the response's head is there, whatever it says. */
  async request(request: KubeRequest): Promise<KubeResponse> {
    const headers = { accept: "application/json", "user-agent": this.#userAgent, ...request.headers };
    try {
      return await this.transport({ ...request, headers });
    } catch (error) {
      if (request.signal?.aborted) throw request.signal.reason;
      throw this.#unreachable(error);
    }
  }

  /**
   * One request that is answered with JSON. Throws ApiError for a refusal and WeftError API_UNREACHABLE when no
   * answer could be had. 429 and 5xx answers with Retry-After are tried again, a few times.
   */
  async json<T>(
    method: KubeRequest["method"],
    path: string,
    options: CallOptions & { body?: unknown; contentType?: string; headers?: Record<string, string> } = {},
  ): Promise<T> {
    const headers = { ...options.headers };
    let body: string | undefined;
    if (options.body !== undefined) {
      headers["content-type"] = options.contentType ?? "application/json";
      body = JSON.stringify(options.body);
    }
    for (let attempt = 0; ; attempt++) {
      const { response, text } = await this.#within(
        options.timeout ?? defaultTimeout,
        options.signal,
        async (signal) => {
          const response = await this.request({
            method,
            path,
            headers,
            signal,
            ...(body !== undefined && { body }),
          });
          return { response, text: await this.#readAll(response, signal) };
        },
      );
      if (response.status >= 200 && response.status < 300) {
        try {
          return (text === "" ? {} : JSON.parse(text)) as T;
        } catch (error) {
          throw this.#unreachable(new Error("the answer is not JSON", { cause: error }));
        }
      }
      const error = apiError(this.cluster, response.status, text, response.headers);
      const wait = retryDelay(error, response);
      if (wait === undefined || attempt >= retries) throw error;
      await sleep(this.world, wait * (1 + 0.2 * this.world.random()), options.signal);
    }
  }

  async #readAll(response: KubeResponse, signal: AbortSignal): Promise<string> {
    try {
      return await readAll(response.body, this.#longestAnswer);
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      throw this.#unreachable(error);
    }
  }

  /**
   * Runs one exchange, ends it when `timeout` ms are over, and lets go of it even when it does not end.
   * Where the exchange is a stream, the outer signal ends it after `run` has resolved too.
   */
  async #within<R>(
    timeout: number,
    outer: AbortSignal | undefined,
    run: (signal: AbortSignal) => Promise<R>,
    stream = false,
  ): Promise<R> {
    outer?.throwIfAborted();
    const controller = new AbortController();
    const { promise: stopped, reject } = Promise.withResolvers<never>();
    stopped.catch(() => {});
    const stop = (reason: unknown) => {
      reject(reason);
      controller.abort(reason);
    };
    const onAbort = () => stop(outer?.reason);
    outer?.addEventListener("abort", onAbort, { once: true });
    const timer = this.world.after(timeout, () =>
      stop(this.#unreachable(new Error(`no answer within ${Math.round(timeout / 1000)} s`))),
    );
    try {
      return await Promise.race([run(controller.signal), stopped]);
    } catch (error) {
      outer?.removeEventListener("abort", onAbort);
      throw error;
    } finally {
      timer.cancel();
      if (!stream) outer?.removeEventListener("abort", onAbort);
    }
  }

  #path(resource: Resource, ref: Ref, subresource?: string): string {
    const { namespace, name } = typeof ref === "string" ? splitName(ref) : ref;
    return pathOf(resource, this.#namespace(resource, namespace), name, subresource);
  }

  /** An object of a namespaced kind has a namespace; forgetting it would address another URL. */
  #namespace(resource: Resource, namespace: string | undefined): string | undefined {
    if (resource.namespaced && !namespace) throw new TypeError(`a ${resource.kind} needs a namespace`);
    return namespace;
  }

  #unreachable(error: unknown): Error {
    if (error instanceof WeftError || error instanceof ApiError) return error;
    const reason = unreachableReason(error);
    return new WeftError("API_UNREACHABLE", { cluster: this.cluster, server: this.server, reason }, error);
  }
}

async function* watchEvents<T>(
  body: AsyncIterable<Uint8Array>,
  longest: number,
): AsyncGenerator<WatchEvent<T>[]> {
  const lines = new Lines(longest);
  for await (const chunk of body) {
    const complete = lines.take(chunk);
    if (complete.length > 0) yield complete.map(watchEvent<T>);
  }
}

const eventTypes = new Set(["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]);

function watchEvent<T>(line: string): WatchEvent<T> {
  let event: Partial<WatchEvent<T>> | null = null;
  try {
    event = JSON.parse(line);
  } catch {
    // Said below.
  }
  if (!eventTypes.has(event?.type ?? "") || typeof event?.object !== "object" || event.object === null) {
    throw new ProtocolError(`the server sent no watch event: ${line.slice(0, 100)}`);
  }
  return event as WatchEvent<T>;
}

/** Milliseconds to wait before another try, or undefined when the refusal is final. */
function retryDelay(error: ApiError, response: KubeResponse): number | undefined {
  if (response.status !== 429 && response.status < 500) return undefined;
  // As client-go does: only the header asks for another try of the same request.
  if (response.headers["retry-after"] === undefined || error.retryAfterSeconds === undefined)
    return undefined;
  return Math.min(error.retryAfterSeconds * 1000, longestRetryAfter);
}

/** The object with kind and apiVersion, which stay first as people expect them. */
export function withKind<T extends KubeObject>(resource: Resource<T>, object: object): T {
  const { kind = resource.kind, apiVersion = apiVersionOf(resource) } = object as Partial<KubeObject>;
  if ("kind" in object && "apiVersion" in object) return object as T;
  return { kind, apiVersion, ...object } as T;
}

function named(metadata: { namespace?: string; name?: string }): Ref {
  if (!metadata.name) throw new TypeError("the object has no name");
  return metadata as Ref;
}

/** Appends a query; values that are undefined or empty are left out. */
function withQuery(path: string, query: Record<string, string | number | undefined>): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== "") parameters.set(name, String(value));
  }
  return parameters.size === 0 ? path : `${path}?${parameters}`;
}
