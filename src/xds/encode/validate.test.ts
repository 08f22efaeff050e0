/** Envoy itself looks at everything that the encoders can say. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { Bootstrap } from "#protocols/envoy/config/bootstrap/v3/bootstrap.ts";
import { Cluster } from "#protocols/envoy/config/cluster/v3/cluster.ts";
import { ClusterLoadAssignment } from "#protocols/envoy/config/endpoint/v3/endpoint.ts";
import { Listener } from "#protocols/envoy/config/listener/v3/listener.ts";
import { makeCa } from "../testing/certificates.ts";
import { noEnvoy, validate } from "../testing/envoy.ts";
import {
  chain,
  endpoints,
  httpHandler,
  listener,
  listeners,
  tables,
  upstreams,
} from "../testing/features.ts";
import { encodeEndpoints, encodeListener, encodeUpstream, sdsDirectory } from "./index.ts";

/** Stands in for the agent's directory in the encoded messages, which must exist: its path is as long. */
const directory = mkdtempSync(join(tmpdir(), "weft-sds-"));
const ca = await makeCa();
const own = await ca.issue({ dns: ["client.example"] });
writeFileSync(join(directory, "ca.pem"), `${own.ca}\n`);
writeFileSync(join(directory, "cert.pem"), `${own.cert}\n`);
writeFileSync(join(directory, "key.pem"), own.key);
for (const name of ["default", "ROOTCA"]) writeFileSync(join(directory, `${name}.json`), '{"resources":[]}');
after(() => rmSync(directory, { recursive: true, force: true }));

type Resources = NonNullable<Parameters<typeof Bootstrap.fromPartial>[0]["staticResources"]>;

/** What Envoy says about these resources; undefined when it takes them. */
function judge(resources: Resources): string | undefined {
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
    staticResources: { ...resources, clusters: [ads, ...(resources.clusters ?? [])] },
  });
  const file = join(directory, "bootstrap.pb");
  const bytes = Buffer.from(Bootstrap.encode(bootstrap).finish()).toString("latin1");
  assert.equal(directory.length, sdsDirectory.length);
  writeFileSync(file, bytes.replaceAll(sdsDirectory, directory), "latin1");
  return validate(file);
}

test("Envoy takes every listener, filter and route that can be said", { skip: noEnvoy }, () => {
  // Route tables come as parts of listeners here; over ADS they are asked for by name.
  const all = [
    ...listeners,
    ...tables.map((table, i) => listener(table.name, 20_000 + i, [chain("http", httpHandler(table))])),
  ].map((each) => Listener.decode(encodeListener(each).message));
  assert.equal(judge({ listeners: all }), undefined);
});

test("Envoy takes every cluster and all endpoints that can be said", { skip: noEnvoy }, () => {
  const clusters = upstreams.map((each) => Cluster.decode(encodeUpstream(each).message));
  const inside = endpoints.map((each) =>
    Cluster.fromPartial({
      name: `with ${each.name}`,
      clusterDiscoveryType: { $case: "type", value: 0 },
      loadAssignment: {
        ...ClusterLoadAssignment.decode(encodeEndpoints(each).message),
        clusterName: `with ${each.name}`,
      },
    }),
  );
  assert.equal(judge({ clusters: [...clusters, ...inside] }), undefined);
});

test("what Envoy does not take is noticed here", { skip: noEnvoy }, () => {
  const broken = encodeListener(listener("broken", 20_000, []));
  assert.match(judge({ listeners: [Listener.decode(broken.message)] }) ?? "", /no filter chains/);
});
