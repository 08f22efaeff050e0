/**
 * Random histories of writes. Against the embedded server alone: what a watcher saw rebuilds the final list. With
 * `WEFT_CONFORMANCE_KUBECONFIG` also against a real kube-apiserver at the same time: every answer, the final lists and
 * the watch histories are the same.
 *
 * `WEFT_RANDOM_SECONDS` bounds the time of each (4 s, and 45 s with a real server); fast-check prints the seed of
 * what fails, and `WEFT_RANDOM_SEED` repeats it.
 */
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import fc from "fast-check";
import { configMap, deployment, deployments, maps, service, services } from "./objects.ts";
import { Api, embedded, type Loose, real, type Server, stepDifferences } from "./suite.ts";

const kubeconfig = process.env.WEFT_CONFORMANCE_KUBECONFIG;
const seconds = Number(process.env.WEFT_RANDOM_SECONDS ?? (kubeconfig ? 45 : 4));
const seed = process.env.WEFT_RANDOM_SEED ? Number(process.env.WEFT_RANDOM_SEED) : undefined;

const names = ["a", "b"];
const values = ["1", "2"];
const name = fc.constantFrom(...names);
const data = fc.dictionary(fc.constantFrom("x", "y", "z"), fc.constantFrom(...values), { maxKeys: 3 });
const dataWithNulls = fc.dictionary(fc.constantFrom("x", "y", "z"), fc.option(fc.constantFrom(...values)), {
  maxKeys: 3,
});
const metadata = fc.record(
  {
    labels: fc.dictionary(fc.constantFrom("l", "m"), fc.constantFrom(...values), { maxKeys: 2 }),
    annotations: fc.dictionary(fc.constantFrom("n", "o"), fc.constantFrom(...values), { maxKeys: 2 }),
    finalizers: fc.uniqueArray(fc.constantFrom("example.com/f", "example.com/g"), { maxLength: 2 }),
  },
  { requiredKeys: [] },
);
const manager = fc.constantFrom("one", "two", "three");
const isForced = fc.boolean();
/** Which revision a write names: none, the newest that was answered for this name, or the first. */
const revision = fc.constantFrom("none" as const, "newest" as const, "first" as const);
const ports = fc.uniqueArray(
  fc.record({ name: fc.constantFrom("p", "q", "r"), port: fc.constantFrom(80, 81, 82) }),
  { selector: (port) => port.name, minLength: 1, maxLength: 3 },
);
const container = fc.record(
  {
    image: fc.constantFrom("example.com/i:1", "example.com/i:2"),
    args: fc.array(fc.constantFrom("s", "t"), { maxLength: 2 }),
    env: fc.uniqueArray(
      fc.record({ name: fc.constantFrom("A", "B", "C"), value: fc.constantFrom(...values) }),
      {
        selector: (entry) => entry.name,
        maxLength: 3,
      },
    ),
  },
  { requiredKeys: ["image"] },
);
const workload = fc.record(
  { replicas: fc.constantFrom(0, 1, 2), paused: fc.boolean(), minReadySeconds: fc.constantFrom(0, 5) },
  { requiredKeys: [] },
);

/** One request, made for one server: `path` and `body` may name revisions that only that server knows. */
interface Step {
  method: string;
  path: string;
  body?: Loose;
  type?: string;
  /** The object whose revision goes into `body.metadata`. */
  revision?: "none" | "newest" | "first";
}

const merge = "application/merge-patch+json";
const strategic = "application/strategic-merge-patch+json";
const jsonPatch = "application/json-patch+json";
const applyPatch = "application/apply-patch+yaml";

const mapOf = (of: string, content: object, meta: object) => configMap(of, content, meta);
const stepOnMaps = fc.oneof(
  fc
    .tuple(name, data, metadata)
    .map(([of, content, meta]): Step => ({ method: "POST", path: maps, body: mapOf(of, content, meta) })),
  fc.tuple(name, data, metadata, revision).map(
    ([of, content, meta, at]): Step => ({
      method: "PUT",
      path: `${maps}/${of}`,
      body: mapOf(of, content, meta),
      revision: at,
    }),
  ),
  fc.tuple(name, dataWithNulls, metadata, revision).map(
    ([of, content, meta, at]): Step => ({
      method: "PATCH",
      path: `${maps}/${of}`,
      body: { data: content, metadata: meta },
      type: merge,
      revision: at,
    }),
  ),
  fc.tuple(name, dataWithNulls, metadata).map(
    ([of, content, meta]): Step => ({
      method: "PATCH",
      path: `${maps}/${of}`,
      body: { data: content, metadata: meta },
      type: strategic,
    }),
  ),
  fc
    .tuple(
      name,
      fc.constantFrom("add", "replace", "remove", "test"),
      fc.constantFrom("x", "y"),
      fc.constantFrom(...values),
    )
    .map(
      ([of, op, key, value]): Step => ({
        method: "PATCH",
        path: `${maps}/${of}`,
        body: [{ op, path: `/data/${key}`, value }],
        type: jsonPatch,
      }),
    ),
  fc.tuple(name, data, metadata, manager, isForced).map(
    ([of, content, meta, by, force]): Step => ({
      method: "PATCH",
      path: `${maps}/${of}?fieldManager=${by}&force=${force}`,
      body: mapOf(of, content, meta),
      type: applyPatch,
    }),
  ),
  fc
    .tuple(
      name,
      fc.constantFrom(
        "",
        "?propagationPolicy=Foreground",
        "?propagationPolicy=Orphan",
        "?propagationPolicy=Background",
        "?dryRun=All",
      ),
    )
    .map(([of, query]): Step => ({ method: "DELETE", path: `${maps}/${of}${query}` })),
  fc.constant<Step>({
    method: "PATCH",
    path: `${maps}/a`,
    body: { metadata: { finalizers: null } },
    type: merge,
  }),
  fc.tuple(fc.constantFrom("l=1", "l", "m notin (2)")).map(
    ([selector]): Step => ({
      method: "DELETE",
      path: `${maps}?labelSelector=${encodeURIComponent(selector)}`,
    }),
  ),
);
const stepOnServices = fc.oneof(
  fc
    .tuple(name, ports)
    .map(([of, list]): Step => ({ method: "POST", path: services, body: service(of, { ports: list }) })),
  fc.tuple(name, ports, revision).map(
    ([of, list, at]): Step => ({
      method: "PUT",
      path: `${services}/${of}`,
      body: service(of, { ports: list }),
      revision: at,
    }),
  ),
  fc.tuple(name, ports).map(
    ([of, list]): Step => ({
      method: "PATCH",
      path: `${services}/${of}`,
      body: { spec: { ports: list } },
      type: strategic,
    }),
  ),
  fc.tuple(name, ports, manager, isForced).map(
    ([of, list, by, force]): Step => ({
      method: "PATCH",
      path: `${services}/${of}?fieldManager=${by}&force=${force}`,
      body: service(of, { ports: list }),
      type: applyPatch,
    }),
  ),
  name.map((of): Step => ({ method: "DELETE", path: `${services}/${of}` })),
);
const stepOnDeployments = fc.oneof(
  fc
    .tuple(name, workload, container)
    .map(
      ([of, spec, inner]): Step => ({ method: "POST", path: deployments, body: deployment(of, spec, inner) }),
    ),
  fc.tuple(name, workload, container, revision).map(
    ([of, spec, inner, at]): Step => ({
      method: "PUT",
      path: `${deployments}/${of}`,
      body: deployment(of, spec, inner),
      revision: at,
    }),
  ),
  fc.tuple(name, workload, container).map(
    ([of, spec, inner]): Step => ({
      method: "PATCH",
      path: `${deployments}/${of}`,
      body: { spec: { ...spec, template: { spec: { containers: [{ name: "c", ...inner }] } } } },
      type: strategic,
    }),
  ),
  fc.tuple(name, workload, container, manager, isForced).map(
    ([of, spec, inner, by, force]): Step => ({
      method: "PATCH",
      path: `${deployments}/${of}?fieldManager=${by}&force=${force}`,
      body: deployment(of, spec, inner),
      type: applyPatch,
    }),
  ),
  fc.tuple(name, fc.constantFrom(0, 1), manager).map(
    ([of, replicas, by]): Step => ({
      method: "PATCH",
      path: `${deployments}/${of}/status?fieldManager=${by}`,
      body: { status: { replicas } },
      type: merge,
    }),
  ),
  name.map((of): Step => ({ method: "DELETE", path: `${deployments}/${of}` })),
);
const histories: [kind: string, collection: string, history: fc.Arbitrary<Step[]>][] = [
  ["ConfigMaps", maps, fc.array(stepOnMaps, { minLength: 3, maxLength: 14 })],
  ["Services", services, fc.array(stepOnServices, { minLength: 3, maxLength: 10 })],
  ["Deployments", deployments, fc.array(stepOnDeployments, { minLength: 3, maxLength: 10 })],
];

let count = 0;

/** Plays a history on one server; the steps of `api` are what it answered. Returns the watch's events. */
async function play(
  server: Server,
  collection: string,
  history: Step[],
  run: number,
): Promise<{ api: Api; events: Loose[]; list: Loose }> {
  const api = new Api(server.transport, `random-${process.pid}-${run}`);
  const made = await api.ask("POST", "/api/v1/namespaces", { metadata: { name: api.namespace } });
  assert.equal(made.code, 201);
  try {
    const { body: empty } = await api.ask("GET", collection);
    const watch = await api.watch(`${collection}?watch=1&resourceVersion=${empty.metadata.resourceVersion}`);
    const newest = new Map<string, string>();
    const first = new Map<string, string>();
    for (const { method, path, body, type, revision } of history) {
      const of = path.replace(/\?.*/, "");
      const at = revision === "newest" ? newest.get(of) : revision === "first" ? first.get(of) : undefined;
      const sent =
        at && !Array.isArray(body) ? { ...body, metadata: { ...body.metadata, resourceVersion: at } } : body;
      const answer = await api.say(method, path, sent, type ? { "content-type": type } : {});
      const object = answer.body?.metadata;
      if (object?.name && object.resourceVersion) {
        const key = of.endsWith(`/${object.name}`) ? of : `${of}/${object.name}`;
        newest.set(key, object.resourceVersion);
        if (!first.has(key)) first.set(key, object.resourceVersion);
      }
    }
    const { body: list } = await api.ask("GET", collection);
    api.note("list", { items: list.items });
    // A last object tells that the watch has seen all that came before.
    await api.ask(
      "POST",
      collection,
      collection === maps ? configMap("zz") : collection === services ? service("zz") : deployment("zz"),
    );
    const events: Loose[] = [];
    for (;;) {
      const [event] = await watch.take(1);
      api.steps.pop();
      if (!event || event.object.metadata.name === "zz") break;
      events.push(event);
    }
    api.note("events", events);
    return { api, events, list };
  } finally {
    await api.end();
    await api.ask("DELETE", `${collection}`);
    await api.ask("DELETE", `/api/v1/namespaces/${api.namespace}`);
  }
}

/** What the events say is there, against the list. */
function rebuilds(events: Loose[], list: Loose): void {
  const objects = new Map<string, Loose>();
  let last = 0;
  for (const { type, object } of events) {
    const revision = Number(object.metadata.resourceVersion);
    assert.ok(revision > last, "events are in the order of revisions");
    last = revision;
    const { name } = object.metadata;
    assert.equal(objects.has(name), type !== "ADDED", `${type} of ${name}`);
    if (type === "DELETED") objects.delete(name);
    else objects.set(name, object);
  }
  const found = list.items.map(({ kind: _, apiVersion: __, ...item }: Loose) => item);
  const rebuilt = [...objects.values()].map(({ kind: _, apiVersion: __, ...item }) => item);
  assert.deepEqual(
    rebuilt.sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1)),
    found,
  );
}

describe("random histories", () => {
  const servers = [embedded(), ...(kubeconfig ? [real(kubeconfig)] : [])];
  after(async () => {
    for (const server of servers) await (await server).close();
  });
  for (const [kind, collection, history] of histories) {
    test(`of ${kind}`, async () => {
      const [ours, theirs] = await Promise.all(servers);
      const check = fc.asyncProperty(history, async (steps) => {
        const run = ++count;
        const [mine, other] = await Promise.all([
          play(ours!, collection, steps, run),
          theirs && play(theirs, collection, steps, run),
        ]);
        rebuilds(mine.events, mine.list);
        if (!other) return;
        const found = stepDifferences(other.api.steps, mine.api.steps);
        assert.equal(found.length, 0, `the embedded server differs:\n${found.join("\n")}`);
      });
      await fc.assert(check, {
        numRuns: 1_000_000,
        interruptAfterTimeLimit: (seconds * 1000) / histories.length,
        markInterruptAsFailure: false,
        ...(seed !== undefined && { seed }),
      });
    });
  }
});
