/** Retries that look in other priorities than those that failed (retry_priority previous_priorities). */
import assert from "node:assert/strict";
import { createServer } from "node:net";
import { test } from "node:test";
import { PreviousPrioritiesConfig } from "#protocols/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config.ts";
import { endpoint, pack } from "../../src/proxy/testing/resources.ts";
import { exchange, listening, startBoth } from "./harness.ts";
import { http, to } from "./http.ts";

test("after so many failures their priorities are left alone, until none is left", async (t) => {
  const asked: string[] = [];
  const status: Record<string, number> = {};
  const start = async (name: string) =>
    (
      await listening(
        t,
        createServer((socket) => {
          socket.on("error", () => undefined);
          socket.on("data", () => {
            asked.push(name);
            socket.write(`HTTP/1.1 ${status[name]} X\r\ncontent-length: 0\r\n\r\n`);
          });
        }),
      )
    ).port;
  const ports = [await start("first"), await start("second"), await start("third")];
  const retries = (updateFrequency: number) => ({
    retryOn: "5xx",
    numRetries: 7,
    retryBackOff: { baseInterval: { seconds: 0, nanos: 1_000_000 } },
    retryPriority: {
      name: "envoy.retry_priorities.previous_priorities",
      configType: {
        $case: "typedConfig" as const,
        value: pack(
          "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
          PreviousPrioritiesConfig,
          { updateFrequency },
        ),
      },
    },
  });
  const both = await startBoth(t, ({ log }) => ({
    clusters: [
      {
        name: "a",
        clusterDiscoveryType: { $case: "type" as const, value: 0 as const },
        commonLbConfig: { healthyPanicThreshold: { value: 0 } },
        loadAssignment: {
          clusterName: "a",
          endpoints: ports.map((port, priority) => ({
            priority,
            lbEndpoints: [endpoint("127.0.0.1", port)],
          })),
        },
      },
    ],
    listeners: [
      http("l", log, [
        {
          name: "v",
          domains: ["*"],
          routes: [
            to("/1", "a", { retryPolicy: retries(1) }),
            to("/2", "a", { retryPolicy: retries(2) }),
            to("/3", "a", { retryPolicy: retries(3) }),
          ],
        },
      ]),
    ],
  }));
  const path: Record<string, string[]> = {};
  for (const good of ["first", "second", "third", "none"]) {
    for (const name of ["first", "second", "third"]) status[name] = name === good ? 200 : 503;
    for (const every of ["/1", "/2", "/3"]) {
      path[`${good} ${every}`] = await both.same(async (proxy) => {
        asked.length = 0;
        const head = `GET ${every} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n`;
        const [answer] = await exchange(proxy.address("l"), head);
        return [String(answer!.status), ...asked];
      });
    }
  }
  assert.deepEqual(path["third /1"], ["200", "first", "second", "third"]);
  assert.deepEqual(path["third /2"], ["200", "first", "first", "second", "second", "third"]);
});
