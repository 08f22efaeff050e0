/**
 * Figures of one API server: `node src/lab/apiserver/testing/bench.ts`. In process (no socket) and over HTTPS;
 * times in milliseconds.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { realWorld } from "../../../world/index.ts";
import { admin, clientOf, configMap, Events, testServer } from "./harness.ts";
import { listeningServer } from "./listening.ts";

const maps = "/api/v1/namespaces/default/configmaps";
const slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

function report(what: string, samples: number[]): void {
  const sorted = samples.toSorted((a, b) => a - b);
  const at = (share: number) =>
    sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!.toFixed(3);
  console.log(`${what.padEnd(44)} p50 ${at(0.5)}  p99 ${at(0.99)}  n ${samples.length}`);
}

async function timed(samples: number[], act: () => Promise<unknown>): Promise<void> {
  const start = performance.now();
  await act();
  samples.push(performance.now() - start);
}

const slice = (name: string) => ({
  apiVersion: "discovery.k8s.io/v1",
  kind: "EndpointSlice",
  metadata: { name, labels: { "kubernetes.io/service-name": name } },
  addressType: "IPv4",
  ports: [{ name: "http", port: 8080, protocol: "TCP" }],
  endpoints: Array.from({ length: 10 }, (_, i) => ({
    addresses: [`10.10.${i}.1`],
    conditions: { ready: true, serving: true, terminating: false },
    nodeName: "c1-control-plane",
    targetRef: { kind: "Pod", name: `${name}-${i}`, namespace: "default" },
  })),
});

async function inProcess(storage: { kind: "memory" } | { kind: "sqlite"; file: string }) {
  const world = realWorld();
  const began = performance.now();
  const cluster = await testServer({ world, storage });
  console.log(`-- ${storage.kind}: ready in ${(performance.now() - began).toFixed(1)} ms`);
  const client = clientOf(cluster.server, admin);
  const creates: number[] = [];
  for (let i = 0; i < 1000; i++) await timed(creates, () => client.post(slices, slice(`s${i}`)));
  report("create EndpointSlice (10 endpoints)", creates);
  const gets: number[] = [];
  for (let i = 0; i < 1000; i++) await timed(gets, () => client.get(`${slices}/s${i}`));
  report("get", gets);
  const lists: number[] = [];
  for (let i = 0; i < 5; i++) await timed(lists, () => client.get(slices));
  report("list 1,000 slices", lists);
  const events = await client.watch(
    `${slices}?watch=1&resourceVersion=${(await client.get(slices)).body.metadata.resourceVersion}`,
  );
  const patches: number[] = [];
  const latencies: number[] = [];
  for (let i = 0; i < 1000; i++) {
    const start = performance.now();
    const seen = events.next().then(() => latencies.push(performance.now() - start));
    await timed(patches, () =>
      client.patch(`${slices}/s${i}`, { metadata: { annotations: { n: String(i) } } }),
    );
    await seen;
  }
  report("merge patch", patches);
  report("patch → watch event", latencies);
  const applies: number[] = [];
  for (let i = 0; i < 500; i++) {
    const body = slice(`s${i}`);
    body.endpoints[0]!.conditions.ready = i % 2 === 0;
    await timed(applies, () => client.patch(`${slices}/s${i}?fieldManager=weft&force=true`, body, "apply"));
  }
  report("server-side apply", applies);
  const start = performance.now();
  await Promise.all(
    Array.from({ length: 2000 }, (_, i) => client.post(maps, configMap(`m${i}`, { x: "1" }))),
  );
  console.log(`writes at once: ${Math.round(2000 / ((performance.now() - start) / 1000))} per second`);
  await events.stop();
  await cluster.server.close();
}

async function overHttps() {
  const cluster = await listeningServer();
  const session = connect(`https://127.0.0.1:${cluster.port}`, {
    ca: cluster.pki.ca.cert,
    ...cluster.pki.admin,
  });
  const call = (method: string, path: string, type?: string, body?: unknown) =>
    new Promise<void>((resolve, reject) => {
      const stream = session.request({
        ":method": method,
        ":path": path,
        ...(type && { "content-type": type }),
      });
      stream.on("end", resolve).on("error", reject).resume();
      stream.end(body === undefined ? undefined : JSON.stringify(body));
    });
  const watching = session.request({ ":path": `${slices}?watch=1` });
  const events = new Events(watching);
  await call("GET", slices);
  await events.next();
  const creates: number[] = [];
  const latencies: number[] = [];
  for (let i = 0; i < 500; i++) {
    const start = performance.now();
    const seen = events.next().then(() => latencies.push(performance.now() - start));
    await timed(creates, () => call("POST", slices, "application/json", slice(`s${i}`)));
    await seen;
  }
  console.log("-- over HTTPS, HTTP/2");
  report("create EndpointSlice (10 endpoints)", creates);
  report("create → watch event", latencies);
  session.destroy();
  await cluster[Symbol.asyncDispose]();
}

const folder = mkdtempSync(join(tmpdir(), "weft-bench-"));
await inProcess({ kind: "memory" });
await inProcess({ kind: "sqlite", file: join(folder, "store.db") });
await overHttps();
console.log(`resident ${Math.round(process.memoryUsage().rss / 1e6)} MB`);
rmSync(folder, { recursive: true });
