/** Objects as people write them, through traffic/ and xds/, on real Envoy and on the embedded proxy. */
import assert from "node:assert/strict";
import { connect, createServer } from "node:net";
import { type TestContext, test } from "node:test";
import { Listener } from "#protocols/envoy/config/listener/v3/listener.ts";
import { endpoint, socketAddress } from "../../src/proxy/testing/resources.ts";
import { type TestMesh, testMesh, workload } from "../../src/traffic/testing.ts";
import { encodeListener } from "../../src/xds/encode/index.ts";
import { listening, startBoth } from "./harness.ts";

/** A gateway called `front` with these servers, its routes, and services `old`, `new` and `rest` behind it. */
function meshWith(servers: string, ...yaml: string[]): TestMesh {
  const mesh = testMesh();
  const tcp = { ports: "[{ name: tcp, port: 5432 }]" };
  mesh.apply(
    [
      workload("old", { ip: "10.11.0.1", base: "10.10.1", ...tcp }),
      workload("new", { ip: "10.11.0.2", base: "10.10.2", ...tcp }),
      workload("rest", { ip: "10.11.0.3", base: "10.10.3", ...tcp }),
      `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: front }
spec: { selector: { app: front }, servers: ${servers} }`,
      ...yaml,
    ].join("\n---\n"),
  );
  assert.deepEqual(mesh.bugs, []);
  return mesh;
}

/** The gateway's listeners on both proxies; each upstream is a server that says its name and ends. */
async function startGateway(t: TestContext, mesh: TestMesh) {
  const config = mesh.config(
    mesh.connect({ namespace: "coolapp", type: "gateway", labels: { app: "front" } }),
  );
  const clusters = [];
  for (const name of config.upstreams.keys()) {
    const { port } = await listening(
      t,
      createServer((socket) => socket.on("error", () => undefined).end(name)),
    );
    clusters.push({
      name,
      clusterDiscoveryType: { $case: "type" as const, value: 0 as const },
      loadAssignment: { clusterName: name, endpoints: [{ lbEndpoints: [endpoint("127.0.0.1", port)] }] },
    });
  }
  return startBoth(t, () => ({
    clusters,
    listeners: [...config.listeners.values()].map((listener) => ({
      ...Listener.decode(encodeListener(listener).message),
      address: socketAddress("0.0.0.0", 0),
    })),
  }));
}

/** What the server says that a connection to this address comes to. */
function said(ip: string, port: number): Promise<string> {
  return new Promise((resolve) => {
    let text = "";
    const socket = connect({ host: ip, port });
    socket.on("data", (data) => (text += data));
    socket.on("error", () => undefined);
    socket.on("close", () => resolve(text));
  });
}

test("tcp routes by destinationSubnets: the first that is for an address takes it", async (t) => {
  const route = (host: string) => `route: [{ destination: { host: ${host} } }]`;
  const mesh = meshWith(
    "[{ port: { number: 5432, name: tcp, protocol: TCP }, hosts: ['*'] }]",
    `
kind: VirtualService
metadata: { name: rules }
spec:
  hosts: ["*"]
  gateways: [front]
  tcp:
  - { match: [{ sourceLabels: { app: other } }], ${route("rest")} }
  - { match: [{ destinationSubnets: [127.0.1.0/24], port: 5432 }], ${route("old")} }
  - { match: [{ destinationSubnets: [127.0.1.7, 127.0.0.0/16], sourceLabels: { app: front } }], ${route("new")} }
  - { ${route("rest")} }`,
  );
  const both = await startGateway(t, mesh);
  const wanted = { "127.0.1.1": "old", "127.0.1.7": "old", "127.0.0.2": "new", "127.9.0.1": "rest" };
  await both.same(async (proxy) => {
    const { port } = proxy.address("0.0.0.0_5432");
    for (const [ip, host] of Object.entries(wanted))
      assert.equal(await said(ip, port), `outbound|5432||${host}.coolapp.svc.cluster.local`, ip);
  });
});
