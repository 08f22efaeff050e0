/**
 * watch: the changes of a kind as a stream. An event is encoded once for all watchers that see it alike.
 * Source of the rules: apiserver `pkg/endpoints/handlers/watch.go`, KEP-3157 (WatchList).
 */
import type { Timer } from "../../../world/index.ts";
import type { Core, Reply, ResourceCall } from "../core.ts";
import { encoded } from "../encode.ts";
import { type Form, includeObject, negotiate, partialOf, tableOf } from "../negotiate.ts";
import type { ApiObject } from "../object.ts";
import { ByteQueue } from "../queue.ts";
import { shown, versionOf } from "../registry.ts";
import { isTrue } from "../route.ts";
import { expired, futureRevision, notAcceptable } from "../status.ts";
import type { StoreEvent } from "../store/store.ts";
import { checkListOptions, numberOf, revisionOf, storageError } from "./read.ts";
import { selectionOf } from "./select.ts";

type EventType = "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";

/** How long a watch lives when the client does not say, and at most. Seconds. */
const usual = 1800;
const longest = 86_400;
/** Bookmarks are sent this often when nothing else is, in milliseconds. */
const bookmarkEvery = 60_000;
/** A watcher that is further behind is cut off, and resumes from what it has seen. Bytes. */
const backlogLimit = 32 * 1024 * 1024;
const initialEventsEnd = "k8s.io/initial-events-end";

export function watch(core: Core, call: ResourceCall): Reply {
  const { type } = call;
  const bucket = core.store.bucket(type.bucket);
  const { namespace, name, test } = selectionOf(call);
  const options = watchOptions(call);
  const wanted = negotiate(call.headers.accept);
  if (wanted.yaml) throw notAcceptable(["application/json"]);
  const encode = encoder(core, call, wanted.form);
  const matches = (object: ApiObject) =>
    (namespace === undefined || object.metadata.namespace === namespace) &&
    (name === undefined || object.metadata.name === name) &&
    (!test || test(object));

  const start = core.store.revision;
  if (options.initial && options.since !== undefined && options.since > start) {
    throw futureRevision(options.since, start);
  }
  const since = options.since ?? start;
  const tooOld = () => expired(`too old resource version: ${since} (${bucket.compacted})`);
  if (!options.initial && since < bucket.compacted) throw tooOld();

  const timers: Timer[] = [];
  const queue = new ByteQueue(() => {
    bucket.watchers.delete(watcher);
    for (const timer of timers) timer.cancel();
    call.signal?.removeEventListener("abort", onAbort);
  });
  const onAbort = () => queue.end();
  const watcher = { event: (event: StoreEvent) => onEvent(event), end: () => queue.end() };

  // A watch from a revision that is still to come waits for it.
  let seen = Math.max(start, since);
  const onEvent = (event: StoreEvent) => {
    if (event.revision <= seen) return;
    seen = event.revision;
    const frame = change(event, matches, encode);
    if (!frame) return;
    queue.push(frame);
    if (queue.size > backlogLimit) queue.end();
  };
  const bookmark = (annotations?: Record<string, string>) =>
    queue.push(
      encode.fresh("BOOKMARK", {
        apiVersion: versionOf(type),
        kind: type.kind,
        metadata: {
          resourceVersion: String(seen),
          creationTimestamp: null,
          ...(annotations && { annotations }),
        },
      } as unknown as ApiObject),
    );

  // Snapshot and registration happen in one turn: nothing comes between.
  if (options.initial) {
    for (const key of bucket.keys(namespace)) {
      const object = bucket.objects.get(key)!;
      if (matches(object)) queue.push(encode.fresh("ADDED", shown(type, object)));
    }
    if (options.bookmarkInitialEnd) bookmark({ [initialEventsEnd]: "true" });
  } else {
    for (const event of bucket.since(since)) {
      const frame = change(event, matches, encode);
      if (frame) queue.push(frame);
      // To list anew is less work.
      if (queue.size > backlogLimit) throw tooOld();
    }
  }
  bucket.watchers.add(watcher);

  const lifetime = options.timeoutSeconds * 1000;
  const ring = (delay: number) => {
    timers[0] = core.world.after(delay, () => {
      // Nothing up to here is still to come: the store's revision may stand in for this kind's.
      seen = Math.max(seen, core.store.revision);
      bookmark();
      ring(bookmarkEvery);
    });
  };
  if (options.bookmarks) ring(Math.max(0, Math.min(bookmarkEvery, lifetime - 2000)));
  timers.push(core.world.after(lifetime, () => queue.end()));
  if (call.signal?.aborted) queue.end();
  else call.signal?.addEventListener("abort", onAbort, { once: true });
  return {
    status: 200,
    headers: { "content-type": "application/json", "cache-control": "no-cache, private" },
    body: queue,
  };
}

interface WatchOptions {
  /** Whether the present contents come first, as ADDED. */
  initial: boolean;
  bookmarkInitialEnd: boolean;
  bookmarks: boolean;
  /** Changes after this revision; undefined: after the newest. */
  since: number | undefined;
  timeoutSeconds: number;
}

function watchOptions({ query }: ResourceCall): WatchOptions {
  const timeout = numberOf(query, "timeoutSeconds") ?? 0;
  numberOf(query, "limit");
  checkListOptions(query, true);
  const revision = revisionOf(query.get("resourceVersion"), storageError);
  const bookmarks = isTrue(query.get("allowWatchBookmarks"));
  const send = query.get("sendInitialEvents");
  const initial = isTrue(send) || (send === null && !revision);
  return {
    initial,
    bookmarkInitialEnd: isTrue(send) && bookmarks,
    bookmarks,
    since: revision || undefined,
    timeoutSeconds: timeout > 0 ? Math.min(timeout, longest) : usual,
  };
}

interface Encoder {
  /** The frame of an event that is the same for every watcher with this encoder's form. */
  shared(event: StoreEvent, type: EventType, object: ApiObject): Uint8Array;
  /** A frame for this watcher alone; the object is in the type's version. */
  fresh(type: EventType, object: ApiObject): Uint8Array;
}

function encoder(core: Core, call: ResourceCall, form: Form): Encoder {
  const { type } = call;
  if (form === "table") {
    const include = includeObject(call);
    let first = true;
    const fresh = (event: EventType, object: ApiObject) => {
      if (event === "BOOKMARK" || event === "ERROR") {
        const bare = { kind: "Table", apiVersion: "meta.k8s.io/v1", metadata: object.metadata };
        return frame(event, { ...bare, columnDefinitions: null, rows: [] });
      }
      const table = tableOf(core, type, [object], include, {
        resourceVersion: object.metadata.resourceVersion,
      });
      if (!first) (table as { columnDefinitions: unknown }).columnDefinitions = null;
      first = false;
      return frame(event, table);
    };
    return { fresh, shared: (_, event, object) => fresh(event, shown(type, object)) };
  }
  const partial = form === "partial" || form === "partialList";
  const fresh = (event: EventType, object: ApiObject) =>
    partial ? frame(event, partialOf(object)) : framed(event, encoded(object));
  const cacheKey = partial ? "partial" : versionOf(type);
  return {
    fresh,
    shared(event, eventType, object) {
      // The object of a MODIFIED or DELETED that a selector made differs from the event's own.
      const key = `${cacheKey} ${eventType}${object === event.object ? "" : " before"}`;
      let bytes = event.frames.get(key);
      if (!bytes) {
        bytes = fresh(eventType, shown(type, object));
        event.frames.set(key, bytes);
      }
      return bytes;
    },
  };
}

function frame(type: EventType, object: object): Uint8Array {
  return framed(type, Buffer.from(JSON.stringify(object)));
}

const tail = Buffer.from("}\n");

function framed(type: EventType, object: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.from(`{"type":"${type}","object":`), object, tail]);
}

/** What a change means to a watcher with a selector: an object may come into view or leave it. */
function change(
  event: StoreEvent,
  matches: (object: ApiObject) => boolean,
  encode: Encoder,
): Uint8Array | undefined {
  if (event.type === "DELETED") {
    return matches(event.previous ?? event.object)
      ? encode.shared(event, "DELETED", event.object)
      : undefined;
  }
  const now = matches(event.object);
  const before = event.previous !== undefined && matches(event.previous);
  if (now) return encode.shared(event, before ? "MODIFIED" : "ADDED", event.object);
  if (!before) return undefined;
  // The object as it was in view, with the revision at which it left.
  const previous = event.previous!;
  return encode.shared(event, "DELETED", {
    ...previous,
    metadata: { ...previous.metadata, resourceVersion: String(event.revision) },
  });
}
