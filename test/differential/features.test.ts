/** Everything that xds/ can put into a resource, the embedded proxy takes. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Listener } from "#protocols/envoy/config/listener/v3/listener.ts";
import { RouteConfiguration } from "#protocols/envoy/config/route/v3/route.ts";
import { HttpConnectionManager } from "#protocols/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.ts";
import type { HandlerDeps } from "../../src/proxy/contract.ts";
import { compileRoutes, createHttpHandler } from "../../src/proxy/http/index.ts";
import { Registry } from "../../src/proxy/stats.ts";
import { realWorld } from "../../src/world/index.ts";
import { encodeListener, encodeRouteTable } from "../../src/xds/encode/index.ts";
import { listeners, tables } from "../../src/xds/testing/features.ts";

const deps: HandlerDeps = {
  world: realWorld(),
  node: { id: "n", cluster: "c", metadata: {}, locality: { region: "", zone: "", subZone: "" } },
  stats: new Registry(),
  clusters: { get: () => undefined, workloadAt: () => undefined },
  routes: { get: (name) => ({ name, current: undefined, subscribe: () => () => undefined }) },
  logFile: () => ({ write: () => undefined }),
  log: () => undefined,
  listener: "l",
  chain: "c",
  direction: "outbound",
  bufferLimit: 1024 * 1024,
};

for (const table of tables) {
  test(`the route table ${table.name}`, () => {
    const { message } = encodeRouteTable(table);
    compileRoutes(RouteConfiguration.decode(message), deps);
  });
}

for (const listener of listeners) {
  test(`HTTP in the listener ${listener.name}`, () => {
    const message = Listener.decode(encodeListener(listener).message);
    const chains = [
      ...message.filterChains,
      ...(message.defaultFilterChain ? [message.defaultFilterChain] : []),
    ];
    for (const { filters } of chains) {
      for (const { configType } of filters) {
        if (
          configType?.$case !== "typedConfig" ||
          !configType.value.typeUrl.endsWith("HttpConnectionManager")
        )
          continue;
        const handler = createHttpHandler(HttpConnectionManager.decode(configType.value.value), deps);
        assert.equal(handler.active, 0);
      }
    }
  });
}
