/** Envoy itself takes whatever is derived, from objects good and bad (law 6: none of them spoils the others'). */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import fc from "fast-check";
import { Bootstrap } from "#protocols/envoy/config/bootstrap/v3/bootstrap.ts";
import { Cluster } from "#protocols/envoy/config/cluster/v3/cluster.ts";
import { Listener } from "#protocols/envoy/config/listener/v3/listener.ts";
import type { KubeObject } from "../api/index.ts";
import { encodeEndpoints, encodeListener, encodeUpstream, sdsDirectory } from "../xds/index.ts";
import { makeCa } from "../xds/testing/certificates.ts";
import { noEnvoy, validate } from "../xds/testing/envoy.ts";
import type { FilterChain, ScopeConfig } from "./model.ts";
import { type TestMesh, testMesh } from "./testing.ts";
import { hostile, pool, proxies } from "./testing-pool.ts";

const seed = Number(process.env.WEFT_SEED ?? Math.floor(Math.random() * 2 ** 31));
console.log(`traffic for Envoy: WEFT_SEED=${seed}`);
const directory = mkdtempSync(join(tmpdir(), "weft-sds-"));
const own = await (await makeCa()).issue({ dns: ["client.example"] });
writeFileSync(join(directory, "ca.pem"), `${own.ca}\n`);
for (const name of ["default", "ROOTCA"]) writeFileSync(join(directory, `${name}.json`), '{"resources":[]}');
after(() => rmSync(directory, { recursive: true, force: true }));

/** What Envoy has against a configuration, tables and endpoints included; undefined where it takes it. */
function judge(config: ScopeConfig, mesh: TestMesh): string | undefined {
  // Tables come as parts of their listeners here; over ADS they are asked for by name.
  const inside = (chain: FilterChain): FilterChain => {
    const { handler } = chain;
    if (handler.kind !== "http" || typeof handler.routes !== "string") return chain;
    return { ...chain, handler: { ...handler, routes: config.routes.get(handler.routes)! } };
  };
  const listeners = [...config.listeners.values()].map((listener) =>
    Listener.decode(
      encodeListener({
        ...listener,
        chains: listener.chains.map(inside),
        ...(listener.fallback && { fallback: inside(listener.fallback) }),
      }).message,
    ),
  );
  const clusters = [...config.upstreams.values()].map((each) => Cluster.decode(encodeUpstream(each).message));
  for (const { endpointsName, discovery } of config.upstreams.values())
    if (discovery === "endpoints") assert.ok(encodeEndpoints(mesh.endpoints.get(endpointsName)!).message);
  const ads = Cluster.fromPartial({ name: "xds-grpc", clusterDiscoveryType: { $case: "type", value: 0 } });
  const bootstrap = Bootstrap.fromPartial({
    node: { id: "test", cluster: "test" },
    dynamicResources: {
      adsConfig: {
        apiType: 3, // DELTA_GRPC
        transportApiVersion: 2,
        grpcServices: [{ targetSpecifier: { $case: "envoyGrpc", value: { clusterName: ads.name } } }],
      },
    },
    staticResources: { listeners, clusters: [ads, ...clusters] },
  });
  const file = join(directory, "bootstrap.pb");
  const bytes = Buffer.from(Bootstrap.encode(bootstrap).finish()).toString("latin1");
  writeFileSync(file, bytes.replaceAll(sdsDirectory, directory), "latin1");
  // Envoy prints all that it was given before it says what is wrong.
  const said = validate(file);
  return said?.match(/Proto constraint[^\n]*|[^\n]*\n*$/)?.[0] ?? said;
}

function check(objects: readonly KubeObject[]): void {
  const mesh = testMesh();
  mesh.put(...objects);
  for (const proxy of proxies) mesh.connect(proxy);
  for (const config of mesh.configs.values()) assert.equal(judge(config, mesh), undefined, config.scope);
  assert.deepEqual(mesh.bugs, []);
}

test("Envoy takes what is derived from all objects of the pool", { skip: noEnvoy }, () => {
  check(pool);
  check([...pool].reverse());
});

for (const object of hostile)
  test(`Envoy takes what is derived beside ${object.kind} ${object.metadata.name}, which is bad`, {
    skip: noEnvoy,
  }, () => {
    check([...pool, object]);
  });

test("Envoy takes what is derived from any of them", { skip: noEnvoy }, () => {
  fc.assert(fc.property(fc.shuffledSubarray([...pool, ...hostile], { minLength: 15 }), check), {
    numRuns: Math.ceil(3 * Number(process.env.WEFT_RUNS ?? 1)),
    endOnFailure: true,
    seed,
  });
});
