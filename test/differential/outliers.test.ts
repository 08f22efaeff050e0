/** Which hosts are ejected when connects to them fail, on real Envoy and on the embedded proxy. */
import assert from "node:assert/strict";
import { connect, createServer } from "node:net";
import { type TestContext, test } from "node:test";
import { endpoint, socketAddress, tcpFilter } from "../../src/proxy/testing/resources.ts";
import { listening, startBoth } from "./harness.ts";

/** Ports that nobody listens at. */
async function refusing(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise<ReturnType<typeof createServer>>((resolve) => {
          const server = createServer().listen(0, "127.0.0.1", () => resolve(server));
        }),
    ),
  );
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

const call = (to: { ip: string; port: number }) =>
  new Promise<void>((resolve) => {
    const socket = connect({ host: to.ip, port: to.port });
    socket.on("data", () => socket.destroy());
    socket.on("error", () => undefined);
    socket.on("close", () => resolve());
  });

async function greeting(t: TestContext): Promise<number> {
  const server = createServer((socket) => {
    socket.on("error", () => undefined).end("hello");
  });
  return (await listening(t, server)).port;
}

const seconds = (value: number) => ({ seconds: value, nanos: 0 });

for (const [what, good, bad, detection] of [
  ["a third of three, at most 10 %", 2, 1, {}],
  ["a third of three, at most 10 %, one always", 2, 1, { alwaysEjectOneHost: true }],
  ["a third of three, at most 50 %", 2, 1, { maxEjectionPercent: 50 }],
  ["two of four, at most 50 %", 2, 2, { maxEjectionPercent: 50 }],
  ["three of four, at most 50 %", 1, 3, { maxEjectionPercent: 50 }],
  ["three of four, at most 100 %", 1, 3, { maxEjectionPercent: 100 }],
  ["all of two, at most 100 %", 0, 2, { maxEjectionPercent: 100 }],
  [
    "split, after two",
    1,
    1,
    { maxEjectionPercent: 100, splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailure: 2 },
  ],
  [
    "split, local errors not enforced",
    1,
    1,
    {
      maxEjectionPercent: 100,
      splitExternalLocalOriginErrors: true,
      enforcingConsecutiveLocalOriginFailure: 0,
    },
  ],
  ["joined, 5xx not enforced", 1, 1, { maxEjectionPercent: 100, enforcingConsecutive5xx: 0 }],
  [
    "joined, gateway errors alone",
    1,
    1,
    {
      maxEjectionPercent: 100,
      enforcingConsecutive5xx: 0,
      consecutiveGatewayFailure: 3,
      enforcingConsecutiveGatewayFailure: 100,
    },
  ],
] as const) {
  test(`ejected: ${what}`, async (t) => {
    const dead = await refusing(bad);
    const ports = [...dead];
    for (let i = 0; i < good; i++) ports.push(await greeting(t));
    const both = await startBoth(t, () => ({
      clusters: [
        {
          name: "c",
          clusterDiscoveryType: { $case: "type", value: 0 },
          loadAssignment: {
            clusterName: "c",
            endpoints: [{ lbEndpoints: ports.map((port) => endpoint("127.0.0.1", port)) }],
          },
          outlierDetection: { interval: seconds(60), baseEjectionTime: seconds(60), ...detection },
          commonLbConfig: { healthyPanicThreshold: { value: 0 } },
        },
      ],
      listeners: [
        { name: "l", address: socketAddress("127.0.0.1", 0), filterChains: [{ filters: [tcpFilter("c")] }] },
      ],
    }));
    const counts = await both.same(async (proxy) => {
      // Round robin: each is called often enough.
      for (let i = 0; i < 12 * ports.length; i++) await call(proxy.address("l"));
      const flags = (await proxy.admin("/clusters")).match(/^c::[\d.:]+::health_flags::.*$/gm) ?? [];
      assert.equal(flags.length, ports.length);
      return {
        dead: flags.filter((line) => line.includes("/failed_outlier_check")).length,
        wrongly: flags.filter(
          (line) =>
            line.includes("/failed_outlier_check") && !dead.some((port) => line.includes(`:${port}:`)),
        ).length,
      };
    });
    assert.equal(counts.wrongly, 0);
  });
}
