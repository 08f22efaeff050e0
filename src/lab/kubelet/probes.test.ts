import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { test } from "node:test";
import type { Probe } from "../../api/index.ts";
import { realWorld } from "../../world/index.ts";
import type { PodContainer } from "./container.ts";
import { Probes, type ProbesOptions } from "./probes.ts";
import type { RunningContainer } from "./runtime.ts";

function probesOf(readinessProbe: Probe, calls: Pick<ProbesOptions, "onChange" | "onResult">): Probes {
  const world = realWorld();
  return new Probes({
    world,
    container: {
      name: "main",
      spec: { name: "main", readinessProbe },
      ready: false,
    } as unknown as PodContainer,
    instance: { startedAt: world.now() } as unknown as RunningContainer,
    address: "127.0.0.1",
    onDead: () => assert.fail("a readiness probe ends nothing"),
    ...calls,
  });
}

test("a container is ready soon after its program listens, not when the next period begins", {
  timeout: 20_000,
}, async () => {
  const server = createServer((socket) => socket.end()).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  const failures: string[] = [];
  const ready = Promise.withResolvers<void>();
  const probes: Probes = probesOf(
    { tcpSocket: { port }, periodSeconds: 3600 },
    {
      onChange: () => probes.ready && ready.resolve(),
      onResult(message) {
        failures.push(message);
        server.listen(port, "127.0.0.1"); // the program is slower than the first look at it
      },
    },
  );
  probes.start();
  await ready.promise;
  probes.stop();
  server.close();
  assert.equal(failures.length, 1, "looks in between are not told");
});
