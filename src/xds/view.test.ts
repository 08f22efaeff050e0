/** Which resources a proxy may have. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { derive, Engine, source } from "../collections/index.ts";
import type { Proxy as MeshProxy, ScopeConfig, UpstreamEndpoints } from "../traffic/index.ts";
import { realWorld } from "../world/index.ts";
import type { TlsSecret } from "./encode/index.ts";
import { endpoint, upstream } from "./testing/features.ts";
import { changesOf, ProxyView } from "./view.ts";

const engine = new Engine({ world: realWorld() });
const synced = { synced: true };
const configs = source<ScopeConfig>(engine, { name: "configs", key: ({ scope }) => scope, ...synced });
const endpoints = source<UpstreamEndpoints>(engine, {
  name: "endpoints",
  key: ({ name }) => name,
  ...synced,
});
const secrets = source<TlsSecret>(engine, { name: "secrets", key: ({ name }) => name, ...synced });
const proxies = source<MeshProxy>(engine, { name: "proxies", key: ({ id }) => id, ...synced });
const traffic = { configs, endpoints, scopes: derive(proxies, () => ["one", "two"], { name: "scopes" }) };

function viewOf(namespace: string, more: Partial<MeshProxy> = {}): ProxyView {
  const proxy: MeshProxy = {
    id: `sidecar~10.0.0.1~a.${namespace}~x`,
    type: "sidecar",
    namespace,
    labels: {},
    addresses: [],
    serviceAccount: "default",
    cluster: "c1",
    locality: { region: "", zone: "" },
    ...more,
  };
  proxies.put(proxy);
  engine.settle();
  return new ProxyView(proxy, traffic, secrets);
}

function scope(name: string, more: Partial<ScopeConfig> = {}): ScopeConfig {
  return {
    scope: name,
    listeners: new Map(),
    routes: new Map(),
    upstreams: new Map(),
    secrets: new Set(),
    ...more,
  };
}

test("until all scopes are there, nothing is known; then it is the union of them", () => {
  configs.replace([scope("one", { upstreams: new Map([["a", upstream("a")]]) })]);
  const view = viewOf("coolapp");
  assert.equal(view.known, false);
  configs.put(scope("two", { upstreams: new Map([["b", upstream("b")]]) }));
  engine.settle();
  view.changed();
  assert.equal(view.known, true);
  assert.deepEqual([...view.names("cluster")], ["a", "b"]);
  assert.ok(view.find("cluster", "a") && view.find("cluster", "b"));
  assert.equal(view.find("cluster", "c"), undefined);
});

test("endpoints of a cluster without any are an empty answer, of no cluster none", () => {
  const view = viewOf("coolapp");
  assert.ok(view.find("endpoints", "a"));
  assert.equal(view.find("endpoints", "c"), undefined);
});

test("a key goes to proxies of its own namespace, and only where a listener or cluster names it", () => {
  const key = (namespace: string, name: string) => `kubernetes://${namespace}/${name}`;
  for (const name of [key("istio-system", "shop"), key("istio-system", "other")])
    secrets.put({ name, certificate: "CERTIFICATE", key: "KEY" });
  configs.put(scope("two", { secrets: new Set([key("istio-system", "shop")]) }));
  engine.settle();
  assert.ok(viewOf("istio-system").find("secret", key("istio-system", "shop")));
  assert.equal(viewOf("istio-system").find("secret", key("istio-system", "other")), undefined);
  assert.equal(viewOf("coolapp").find("secret", key("istio-system", "shop")), undefined);
});

test("clients of one place share the endpoints as they see them; those of another see others first", () => {
  const locality = { failover: true, regions: [], priorityLabels: [], distribute: [] };
  configs.put(scope("two", { upstreams: new Map([["far", upstream("far", { locality })]]) }));
  const at = (zone: string, address: string) => ({
    region: "r",
    zone,
    priority: 0,
    weight: 1,
    endpoints: [endpoint(address, 1)],
  });
  endpoints.put({ name: "far", localities: [at("z1", "10.0.0.1"), at("z2", "10.0.0.2")] });
  engine.settle();
  const from = (zone: string, id: string) =>
    viewOf("coolapp", { id, locality: { region: "r", zone } }).find("endpoints", "far");
  assert.equal(from("z1", "p1"), from("z1", "p2"));
  assert.notEqual(from("z1", "p1")?.version, from("z2", "p3")?.version);
});

test("what differs between two configurations is found by object", () => {
  const [a, b] = [upstream("a"), upstream("b")];
  const before = scope("one", {
    upstreams: new Map([
      ["a", a],
      ["b", b],
    ]),
  });
  const after = scope("one", {
    upstreams: new Map([
      ["a", a],
      ["c", b],
    ]),
    secrets: before.secrets,
  });
  assert.deepEqual([...changesOf(before, after)], [["cluster", ["c", "b"]]]);
});
