/** A workload's end under simulated time: when it renews, what it does while nobody answers, what it believes. */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { test } from "node:test";
import { SimulatedWorld } from "../world/index.ts";
import { type Post, startWorkloadIdentity, type WorkloadCertificate } from "./index.ts";
import { issue, makeRoot, openSigner, readRequest } from "./x509.ts";

const hour = 3600_000;
const minute = 60_000;
const identity = { trustDomain: "td", namespace: "coolapp", serviceAccount: "catalog" };

/** Discovery as a workload meets it, with its faults at our command. */
async function scene(seed: number) {
  const world = new SimulatedWorld(seed);
  const root = await makeRoot(world, "td");
  const signer = await openSigner(root.certificate, root.key);
  const files: Record<string, string> = {
    "/tokens/token": "token 1",
    "/roots/root-cert.pem": root.certificate,
  };
  const discovery = {
    lifetime: 24 * hour,
    fault: undefined as undefined | "refuses" | "down" | "lies" | "garbage",
    bundles: { td: root.certificate } as Record<string, string>,
    requests: [] as { at: number; token: string; ca: string }[],
    busy: 0,
  };
  const answer: Post = async (_, { ca, token, body }) => {
    discovery.requests.push({ at: world.monotonic(), token, ca });
    if (discovery.fault === "down") throw new Error("connect ECONNREFUSED");
    if (discovery.fault === "refuses") return { status: 401, body: '{"error":"the token is refused"}' };
    if (discovery.fault === "garbage") return { status: 200, body: "<html>" };
    const namespace = discovery.fault === "lies" ? "kube-system" : "coolapp";
    const certificateChain = await issue(world, signer, {
      publicKey: await readRequest((body as { csr: string }).csr),
      names: [{ type: "url", value: `spiffe://td/ns/${namespace}/sa/catalog` }],
      usages: ["server", "client"],
      notBefore: world.now() - 2 * minute,
      notAfter: world.now() + discovery.lifetime,
    });
    const notAfter = new Date(world.now() + discovery.lifetime).toISOString();
    return {
      status: 200,
      body: JSON.stringify({ certificateChain, trustBundles: discovery.bundles, notAfter }),
    };
  };
  const post: Post = (...request) => {
    discovery.busy++;
    return answer(...request).finally(() => discovery.busy--);
  };
  const lines: string[] = [];
  const seen: WorkloadCertificate[] = [];
  const start = () => {
    const workload = startWorkloadIdentity({
      world,
      url: "https://istiod-basic.istio-system.svc:15017/certificates",
      tokenFile: "/tokens/token",
      rootFile: "/roots/root-cert.pem",
      identity,
      post,
      read: (file) =>
        files[file] === undefined
          ? Promise.reject(new Error(`ENOENT: ${file}`))
          : Promise.resolve(files[file]!),
      log: (line) => void lines.push(line),
    });
    workload.onChange((certificate) => void seen.push(certificate));
    return workload;
  };
  /** Signing takes real turns of the event loop, which simulated time does not wait for. */
  const advance = async (time: number) => {
    for (let left = time; left > 0; left -= 5000) {
      await world.advance(Math.min(5000, left));
      while (discovery.busy > 0) await new Promise((resolve) => setImmediate(resolve));
    }
  };
  const settled = async (done: () => boolean) => {
    // Keys are made by other threads, in time of their own.
    const end = performance.now() + 20_000;
    while (!done() && performance.now() < end) await new Promise((resolve) => setImmediate(resolve));
    assert.ok(done(), lines.join("\n"));
  };
  return { world, files, discovery, start, seen, lines, advance, settled, root };
}

test("it renews at half to two thirds of the life, each workload at a moment of its own, with a new key", async () => {
  const moments = new Set<number>();
  for (let seed = 1; seed <= 5; seed++) {
    const { discovery, start, seen, settled, world } = await scene(seed);
    const workload = start();
    await settled(() => seen.length === 1);
    await world.advance(12 * hour - minute);
    assert.equal(discovery.requests.length, 1, "not before half of its life");
    await world.advance(4 * hour + 2 * minute);
    await settled(() => seen.length === 2);
    assert.notEqual(seen[0]!.keyPem, seen[1]!.keyPem);
    assert.ok(seen[1]!.notAfter > seen[0]!.notAfter);
    assert.equal(workload.current, seen[1]);
    moments.add(Math.floor(discovery.requests[1]!.at / minute));
    workload.stop();
    await world.advance(48 * hour);
    assert.equal(discovery.requests.length, 2, "stopped");
  }
  assert.ok(moments.size >= 4, `they come together: ${[...moments].join()}`);
});

for (const fault of ["down", "refuses", "garbage", "lies"] as const) {
  test(`while discovery ${fault}, it goes on with what it has, and asks again and again, ever more rarely`, async () => {
    const { discovery, start, seen, lines, settled, advance, world } = await scene(7);
    const workload = start();
    await settled(() => seen.length === 1);
    discovery.fault = fault;
    await advance(20 * hour);
    assert.equal(workload.current, seen[0]);
    const { requests } = discovery;
    assert.ok(requests.length > 100, `${requests.length} requests`);
    const gaps = requests.slice(-5).map(({ at }, i, all) => (i === 0 ? 30_000 : at - all[i - 1]!.at));
    assert.ok(
      gaps.every((gap) => gap > 20_000 && gap < 45_000),
      `gaps ${gaps.join()}`,
    );
    const [says] = [
      {
        down: /ECONNREFUSED/,
        refuses: /answered 401: the token is refused/,
        garbage: /not complete/,
        lies: /is for td\/kube-system\/catalog, not for td\/coolapp\/catalog/,
      }[fault],
    ];
    assert.match(lines.at(-1)!, says);
    assert.match(lines.at(-1)!, /the one we have is valid until 2026-01-02T00:00:00/);
    discovery.fault = undefined;
    await world.advance(minute);
    await settled(() => seen.length === 2);
    workload.stop();
  });
}

test("before there is any, it is asked for often at first, and the token is read anew each time", async () => {
  const { discovery, start, files, settled, seen, advance } = await scene(3);
  delete files["/tokens/token"];
  const workload = start();
  await advance(5_000);
  assert.equal(discovery.requests.length, 0, "without a token nobody is asked");
  assert.equal(workload.current, undefined);
  files["/tokens/token"] = "token 1\n";
  discovery.fault = "down";
  await advance(60_000);
  files["/tokens/token"] = "token 2\n";
  discovery.fault = undefined;
  await advance(60_000);
  await settled(() => seen.length === 1);
  assert.equal(discovery.requests[0]?.token, "token 1");
  assert.equal(discovery.requests.at(-1)?.token, "token 2");
  workload.stop();
});

test("mounted bundles that change are taken up in seconds, without a new certificate", async () => {
  const { discovery, start, files, settled, seen, world, root } = await scene(4);
  const workload = start();
  await settled(() => seen.length === 1);
  assert.deepEqual(workload.current?.bundles, { td: root.certificate });
  const other = await makeRoot(world, "td");
  const both = root.certificate + other.certificate;
  files["/roots/root-cert.pem"] = both;
  await world.advance(6_000);
  await settled(() => seen.length === 2);
  assert.deepEqual(workload.current?.bundles, { td: both });
  assert.equal(seen[0]!.certificatePem, seen[1]!.certificatePem);
  const peer = await makeRoot(world, "peer");
  files["/roots/trust-bundles.json"] = JSON.stringify({ td: both, peer: peer.certificate });
  await world.advance(6_000);
  await settled(() => seen.length === 3);
  assert.deepEqual(workload.current?.bundles, { td: both, peer: peer.certificate });
  files["/roots/trust-bundles.json"] = "{";
  await world.advance(60_000);
  assert.equal(seen.length, 3, "what cannot be read changes nothing");
  discovery.bundles = { td: both };
  await world.advance(20 * hour);
  await settled(() => discovery.requests.length > 1 && seen.length > 3);
  assert.ok(discovery.requests[1]!.ca.includes(new X509Certificate(other.certificate).toString().trim()));
  workload.stop();
});
