/**
 * Laws 3 to 6 for traffic: random histories of its kinds, and what a change evaluates. WEFT_RUNS multiplies the number of
 * histories; WEFT_SEED replays one campaign.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { KubeObject } from "../api/index.ts";
import { objectsOf, type TestMesh, testMesh, workload } from "./testing.ts";
import { pool as good, hostile, proxies } from "./testing-pool.ts";

const pool = [...good, ...hostile];
const seed = Number(process.env.WEFT_SEED ?? Math.floor(Math.random() * 2 ** 31));
const runs = Math.ceil(80 * Number(process.env.WEFT_RUNS ?? 1));
console.log(`traffic laws: WEFT_SEED=${seed}, ${runs} histories`);

/** All rows of the outputs, as plain data. */
function stateOf(mesh: TestMesh): unknown {
  return Object.fromEntries(
    [mesh.scopes, mesh.configs, mesh.endpoints, mesh.findings].map((collection) => [
      collection.name,
      new Map([...collection.entries()].sort(([a], [b]) => (a < b ? -1 : 1)) as [string, unknown][]),
    ]),
  );
}

type Step =
  | { kind: "put" | "remove"; object: number }
  | { kind: "connect"; proxy: number }
  | { kind: "disconnect"; proxy: number };

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({ kind: fc.constant("put" as const), object: fc.nat(pool.length - 1) }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant("remove" as const), object: fc.nat(pool.length - 1) }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant("connect" as const), proxy: fc.nat(proxies.length - 1) }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant("disconnect" as const), proxy: fc.nat(proxies.length - 1) }),
    },
  ),
  { minLength: 5, maxLength: 40 },
);

describe("the laws, for traffic", () => {
  test("law 3: after any history it holds what a fresh engine makes of the same objects", () => {
    fc.assert(
      fc.property(steps, (history) => {
        const mesh = testMesh();
        const objects = new Map<string, KubeObject>();
        const connected = new Set<number>();
        for (const step of history) {
          if ("object" in step) {
            const object = pool[step.object]!;
            const { namespace, name } = object.metadata;
            const key = namespace ? `${namespace}/${name}` : name;
            if (step.kind === "put") mesh.put(object);
            else mesh.remove(object.kind, key);
            if (step.kind === "put") objects.set(`${object.kind} ${key}`, object);
            else objects.delete(`${object.kind} ${key}`);
            if (step.kind === "remove" && object.kind === "Namespace") mesh.put(object);
            if (step.kind === "remove" && object.kind === "Namespace")
              objects.set(`${object.kind} ${key}`, object);
          } else if (step.kind === "connect") {
            mesh.connect(proxies[step.proxy]!);
            connected.add(step.proxy);
          } else {
            mesh.disconnect({ id: proxies[step.proxy]!.id } as Parameters<TestMesh["disconnect"]>[0]);
            connected.delete(step.proxy);
          }
        }
        const fresh = testMesh();
        fresh.put(...objects.values());
        for (const i of connected) fresh.connect(proxies[i]!);
        assert.deepEqual(mesh.bugs, []);
        assert.deepEqual(stateOf(mesh), stateOf(fresh));
      }),
      { seed, numRuns: runs },
    );
  });

  test("every upstream of a config that has endpoints has its row; names in a table are not taken twice", () => {
    fc.assert(
      fc.property(fc.subarray(pool), (objects) => {
        const mesh = testMesh();
        mesh.put(...objects);
        for (const proxy of proxies) mesh.connect(proxy);
        for (const config of mesh.configs.values()) {
          for (const upstream of config.upstreams.values())
            if (upstream.discovery === "endpoints")
              assert.ok(mesh.endpoints.get(upstream.endpointsName), upstream.endpointsName);
          for (const table of config.routes.values()) {
            const domains = table.virtualHosts.flatMap((host) => host.domains);
            assert.equal(new Set(domains).size, domains.length);
            // What is routed without anybody's rule leads somewhere.
            for (const { name, action, origins } of table.virtualHosts.flatMap(({ routes }) => routes))
              if (name === "default" && action.kind === "forward" && origins[0]?.kind === "Service")
                assert.ok(config.upstreams.has(action.clusters[0]!.upstream), action.clusters[0]!.upstream);
          }
          const asked = new Set<string>();
          for (const listener of config.listeners.values()) {
            const matches = listener.chains.map(({ match }) => JSON.stringify(match));
            assert.equal(new Set(matches).size, matches.length, listener.name);
            for (const { handler } of listener.chains)
              if (handler.kind === "http" && typeof handler.routes === "string") {
                assert.ok(config.routes.has(handler.routes), `${listener.name} ${handler.routes}`);
                asked.add(handler.routes);
              }
          }
          assert.deepEqual([...asked].sort(), [...config.routes.keys()].sort());
        }
      }),
      { seed, numRuns: runs },
    );
  });

  test("law 4: an endpoint's change evaluates its slice, its service and its upstreams' rows, whatever else there is", () => {
    const evaluatedWith = (services: number): number => {
      const mesh = testMesh();
      for (let i = 0; i < services; i++) {
        const base = `10.12.${i}`;
        mesh.apply(workload(`s${i}`, { base, ip: `10.11.1.${i}`, versions: ["v1", "v2"] }));
      }
      mesh.apply(`
kind: DestinationRule
metadata: { name: s0 }
spec: { host: s0, subsets: [{ name: v1, labels: { version: v1 } }, { name: v2, labels: { version: v2 } }] }`);
      for (const proxy of proxies) mesh.connect(proxy);
      const slice = objectsOf(workload("s0", { base: "10.12.0", versions: ["v1", "v2"] })).at(-1)!;
      const before = mesh.engine.work.evaluated;
      const changes: string[] = [];
      mesh.endpoints.subscribe((all) => changes.push(...all.map(({ key }) => key)));
      mesh.configs.subscribe((all) => changes.push(...all.map(({ key }) => key)));
      const changed = structuredClone(slice) as KubeObject & {
        endpoints: { conditions: { ready: boolean } }[];
      };
      changed.endpoints[1]!.conditions.ready = false;
      mesh.put(changed);
      assert.deepEqual(changes.sort(), [
        "outbound|8080|v2|s0.coolapp.svc.cluster.local",
        "outbound|8080||s0.coolapp.svc.cluster.local",
      ]);
      return mesh.engine.work.evaluated - before;
    };
    const few = evaluatedWith(2);
    assert.equal(evaluatedWith(40), few);
    assert.ok(few <= 9, `${few} evaluations`);
  });

  test("law 4: a VirtualService's change keeps every other virtual host, listener and upstream as the same object", () => {
    const mesh = testMesh();
    for (const name of ["a", "b", "c"])
      mesh.apply(
        workload(name, { base: `10.12.${name.charCodeAt(0)}`, ip: `10.11.2.${name.charCodeAt(0)}` }),
      );
    const client = mesh.connect(proxies[0]!);
    const before = mesh.config(client);
    mesh.apply(`
kind: VirtualService
metadata: { name: b }
spec: { hosts: [b], http: [{ timeout: 3s, route: [{ destination: { host: c } }] }] }`);
    const after = mesh.config(client);
    const hosts = (config: typeof before) => config.routes.get("8080")!.virtualHosts;
    for (const [i, host] of hosts(before).entries())
      assert.equal(hosts(after)[i] === host, host.name !== "b.coolapp.svc.cluster.local:8080", host.name);
    for (const [name, listener] of before.listeners) assert.equal(after.listeners.get(name), listener);
    for (const [name, upstream] of before.upstreams) assert.equal(after.upstreams.get(name), upstream);
  });
});
