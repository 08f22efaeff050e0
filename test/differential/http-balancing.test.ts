/** Where requests go on real Envoy and on the embedded proxy: weights, hashes, retries to other hosts. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { startBackend, startBoth, type TestProxy } from "./harness.ts";
import { ask, cluster, http, seconds, to } from "./http.ts";

async function backends(t: TestContext, ...names: string[]): Promise<number[]> {
  const started = await Promise.all(names.map((name) => startBackend(t, name)));
  return started.map(({ port }) => port);
}

const who = async (proxy: TestProxy, path: string, headers = {}) =>
  ((await ask(proxy, "l", path, headers)).body as { name: string }).name;

test("hash balancers send the same key to the same host as Envoy", async (t) => {
  const ports = await backends(t, "a", "b", "c", "d");
  const balanced = (name: string, lbPolicy: number, more: object = {}) =>
    cluster(name, ports, { lbPolicy, ...more });
  const hash = (...policies: object[]) => ({
    hashPolicy: policies.map((policySpecifier) => ({ policySpecifier })),
  });
  const byHeader = { $case: "header", value: { headerName: "x-user" } };
  const byQuery = { $case: "queryParameter", value: { name: "u" } };
  const byCookie = { $case: "cookie", value: { name: "c" } };
  const made = { $case: "cookie", value: { name: "made", ttl: seconds(60), path: "/x" } };
  const byAddress = { $case: "connectionProperties", value: { sourceIp: true } };
  const both = await startBoth(t, ({ log }) => ({
    clusters: [balanced("ring", 2), balanced("maglev", 5)],
    listeners: [
      http("l", log, [
        {
          name: "v",
          domains: ["*"],
          routes: ["ring", "maglev"].flatMap((name) => [
            to(`/${name}/header`, name, hash(byHeader) as object),
            to(`/${name}/query`, name, hash(byQuery) as object),
            to(`/${name}/cookie`, name, hash(byCookie) as object),
            to(`/${name}/both`, name, hash(byHeader, byQuery) as object),
            to(`/${name}/address`, name, hash(byAddress) as object),
            to(`/${name}/made`, name, hash(made) as object),
          ]),
        },
      ]),
    ],
  }));
  for (const name of ["ring", "maglev"]) {
    const chosen = new Set<string>();
    for (let i = 0; i < 12; i++) {
      chosen.add(await both.same((proxy) => who(proxy, `/${name}/header`, { "x-user": `user-${i}` })));
      await both.same((proxy) => who(proxy, `/${name}/query?u=${i}`));
      await both.same((proxy) => who(proxy, `/${name}/cookie`, { cookie: `b=1; c=${i}; d=2` }));
      await both.same((proxy) => who(proxy, `/${name}/both?u=${i}`, { "x-user": `user-${i}` }));
    }
    assert.ok(chosen.size > 1, "not all to one");
    await both.same((proxy) => who(proxy, `/${name}/address`));
    await both.same(async (proxy) => {
      const { headers } = await ask(proxy, "l", `/${name}/made`);
      const cookie = headers["set-cookie"] ?? "";
      const [, value = ""] = /^made="([^"]+)"/.exec(cookie) ?? [];
      const hosts = new Set<string>();
      for (let i = 0; i < 4; i++) hosts.add(await who(proxy, `/${name}/made`, { cookie: `made="${value}"` }));
      return { cookie: cookie.replace(value, "…"), hosts: hosts.size };
    });
  }
});

test("weights hold within the statistics of 1,000 requests", async (t) => {
  const [a, b] = await backends(t, "a", "b");
  const both = await startBoth(t, ({ log }) => ({
    clusters: [cluster("a", [a!]), cluster("b", [b!])],
    listeners: [
      http("l", log, [
        {
          name: "v",
          domains: ["*"],
          routes: [
            {
              match: { pathSpecifier: { $case: "prefix", value: "/" } },
              action: {
                $case: "route",
                value: {
                  clusterSpecifier: {
                    $case: "weightedClusters",
                    value: { clusters: [{ name: "a", weight: 70 }, { name: "b", weight: 30 }] },
                  },
                },
              },
            },
          ],
        },
      ]),
    ],
  })); // biome-ignore format: a tree
  let toA = 0;
  const { ip, port } = both.weft.address("l");
  for (let i = 0; i < 1000; i++) {
    const answer = (await (await fetch(`http://${ip}:${port}/`)).json()) as { name: string };
    if (answer.name === "a") toA++;
  }
  // Five standard deviations of a binomial: one run in two million is unlucky.
  assert.ok(Math.abs(toA - 700) < 5 * Math.sqrt(1000 * 0.7 * 0.3), `${toA} of 1,000 went to a`);
});
