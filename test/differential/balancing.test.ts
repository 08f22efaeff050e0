/** Who is chosen: hash balancers choose the same host as Envoy, the others share as it does. */
import assert from "node:assert/strict";
import { connect, createServer } from "node:net";
import { before, type TestContext, test } from "node:test";
import { endpoint, socketAddress, tcpFilter } from "../../src/proxy/testing/resources.ts";
import { listening, type Resources, startBoth, type TestProxy } from "./harness.ts";

const any = socketAddress("127.0.0.1", 0);

/** Servers that say their number. */
async function servers(t: TestContext, count: number): Promise<number[]> {
  const ports: number[] = [];
  for (let i = 0; i < count; i++) {
    const server = createServer((socket) => {
      socket.on("error", () => undefined).end(String(i));
    });
    ports.push((await listening(t, server)).port);
  }
  return ports;
}

function ask(to: { ip: string; port: number }, from = "127.0.0.1"): Promise<string> {
  return new Promise((resolve) => {
    let said = "";
    const socket = connect({ host: to.ip, port: to.port, localAddress: from });
    socket.on("data", (data) => {
      said += String(data);
    });
    socket.on("error", () => undefined);
    socket.on("close", () => resolve(said || "closed"));
  });
}

type Endpoints = { weight?: number; priority?: number; port: number; share?: number; health?: number }[][];

/** Localities of endpoints; the first of each says the locality's priority and weight. */
const cluster = (localities: Endpoints, more: object): Resources["clusters"][number] => ({
  name: "c",
  clusterDiscoveryType: { $case: "type", value: 0 },
  loadAssignment: {
    clusterName: "c",
    endpoints: localities.map((endpoints, i) => ({
      locality: { region: "r", zone: `z${i}`, subZone: "" },
      priority: endpoints[0]?.priority ?? 0,
      ...(endpoints[0]?.share === undefined ? {} : { loadBalancingWeight: endpoints[0].share }),
      lbEndpoints: endpoints.map(({ port, weight, health }) =>
        endpoint("127.0.0.1", port, {
          ...(weight === undefined ? {} : { loadBalancingWeight: weight }),
          ...(health === undefined ? {} : { healthStatus: health }),
        }),
      ) as never,
    })),
  },
  ...more,
});

const resources = (made: Resources["clusters"][number]): Resources => ({
  clusters: [made],
  listeners: [
    {
      name: "l",
      address: any,
      filterChains: [
        {
          filters: [tcpFilter("c", { hashPolicy: [{ policySpecifier: { $case: "sourceIp", value: {} } }] })],
        },
      ],
    },
  ],
});

const sources = Array.from({ length: 60 }, (_, i) => `127.0.${i % 4}.${i + 1}`);
before(() => assert.equal(new Set(sources).size, sources.length));
const whoFor = (proxy: TestProxy) => Promise.all(sources.map((from) => ask(proxy.address("l"), from)));

const localityWeighted = {
  commonLbConfig: { localityConfigSpecifier: { $case: "localityWeightedLbConfig", value: {} } },
};

for (const [what, policy] of [
  ["ring hash", { lbPolicy: 2, lbConfig: { $case: "ringHashLbConfig", value: { minimumRingSize: 1024 } } }],
  ["a small ring", { lbPolicy: 2, lbConfig: { $case: "ringHashLbConfig", value: { minimumRingSize: 7 } } }],
  ["Maglev", { lbPolicy: 5 }],
  [
    "a small Maglev table",
    { lbPolicy: 5, lbConfig: { $case: "maglevLbConfig", value: { tableSize: 1009 } } },
  ],
] as const) {
  test(`${what} chooses the very same hosts`, async (t) => {
    const ports = await servers(t, 5);
    const shapes: Record<string, [Endpoints, object]> = {
      "all alike": [[ports.map((port) => ({ port }))], {}],
      weighted: [[ports.map((port, i) => ({ port, weight: i + 1 }))], {}],
      "by localities": [
        [
          ports.slice(0, 2).map((port) => ({ port, share: 3 })),
          ports.slice(2).map((port, i) => ({ port, share: 1, weight: i + 1 })),
        ],
        localityWeighted,
      ],
      "by localities, one half gone": [
        [
          ports.slice(0, 2).map((port, i) => ({ port, share: 3, ...(i === 0 ? { health: 2 } : {}) })),
          ports.slice(2).map((port) => ({ port, share: 1 })),
        ],
        localityWeighted,
      ],
      "by localities, in panic": [
        [
          ports.slice(0, 2).map((port) => ({ port, share: 3, health: 2 })),
          ports.slice(2).map((port, i) => ({ port, share: 1, ...(i < 2 ? { health: 2 } : {}) })),
        ],
        localityWeighted,
      ],
      "one unhealthy": [[ports.map((port, i) => ({ port, ...(i === 1 ? { health: 2 } : {}) }))], {}],
      "a priority half gone": [
        [
          ports.slice(0, 3).map((port, i) => ({ port, priority: 0, ...(i < 2 ? { health: 2 } : {}) })),
          ports.slice(3).map((port) => ({ port, priority: 1 })),
        ],
        { commonLbConfig: { healthyPanicThreshold: { value: 0 } } },
      ],
    };
    for (const [name, [localities, more]] of Object.entries(shapes)) {
      await t.test(name, async (t) => {
        const both = await startBoth(t, () => resources(cluster(localities, { ...policy, ...more })));
        const got = await both.same(whoFor);
        assert.ok(new Set(got).size > 1);
      });
    }
  });
}

/** How often each was chosen of `count`. */
async function shares(proxy: TestProxy, count: number): Promise<Record<string, number>> {
  const found: Record<string, number> = {};
  for (let left = count; left > 0; left -= 50) {
    const some = await Promise.all(Array.from({ length: Math.min(50, left) }, () => ask(proxy.address("l"))));
    for (const one of some) found[one] = (found[one] ?? 0) + 1;
  }
  return found;
}

const count = 600;
for (const [what, lbPolicy] of [
  ["round robin", 0],
  ["least request", 1],
  ["random", 3],
] as const) {
  test(`${what} shares as Envoy does, by weights, localities, priorities and health`, async (t) => {
    const ports = await servers(t, 4);
    const [a, b, c, d] = ports as [number, number, number, number];
    const shapes: Record<string, [Endpoints, object]> = {
      weighted: [
        [
          [
            { port: a, weight: 5 },
            { port: b, weight: 3 },
            { port: c, weight: 2 },
          ],
        ],
        {},
      ],
      "by localities": [
        [
          [
            { port: a, share: 4 },
            { port: b, share: 4 },
          ],
          [{ port: c, share: 1 }],
        ],
        localityWeighted,
      ],
      "a locality half gone": [
        [[{ port: a, share: 1, health: 2 }, { port: b }], [{ port: c, share: 1 }]],
        localityWeighted,
      ],
      "localities without weights": [[[{ port: a }, { port: b }], [{ port: c }]], localityWeighted],
      "localities of which one has no weight": [
        [[{ port: a, share: 2 }, { port: b }], [{ port: c }]],
        localityWeighted,
      ],
      "localities in panic": [
        [
          [
            { port: a, share: 4, health: 2 },
            { port: b, health: 2 },
          ],
          [
            { port: c, share: 1 },
            { port: d, health: 2 },
          ],
        ],
        localityWeighted,
      ],
      "a priority half gone": [
        [
          [
            { port: a, priority: 0 },
            { port: b, health: 2 },
          ],
          [{ port: c, priority: 1 }, { port: d }],
        ],
        {},
      ],
      "nobody healthy, and no panic": [
        [
          [
            { port: a, health: 2 },
            { port: b, health: 2 },
          ],
        ],
        { commonLbConfig: { healthyPanicThreshold: { value: 0 } } },
      ],
      "nobody healthy: panic": [
        [
          [
            { port: a, health: 2 },
            { port: b, health: 2 },
          ],
        ],
        {},
      ],
      "few healthy: panic": [
        [[{ port: a }, { port: b, health: 2 }, { port: c, health: 2 }, { port: d, health: 2 }]],
        {},
      ],
      draining: [[[{ port: a }, { port: b, health: 3 }, { port: c }]], {}],
    };
    for (const [name, [localities, more]] of Object.entries(shapes)) {
      await t.test(name, async (t) => {
        const both = await startBoth(t, () => resources(cluster(localities, { lbPolicy, ...more })));
        const wanted = await shares(both.envoy, count);
        const got = await shares(both.weft, count);
        for (const who of new Set([...Object.keys(wanted), ...Object.keys(got)])) {
          const [p, q] = [(wanted[who] ?? 0) / count, (got[who] ?? 0) / count];
          // Four standard deviations of the difference of two such counts.
          const mean = (p + q) / 2;
          const bound = 4 * Math.sqrt((2 * mean * (1 - mean)) / count) + 1 / count;
          assert.ok(
            Math.abs(p - q) <= bound,
            `${who}: ${q}, Envoy ${p} (${JSON.stringify(got)} and ${JSON.stringify(wanted)})`,
          );
          assert.equal(q > 0, p > 0, `${who} is chosen by one only`);
        }
      });
    }
  });
}
