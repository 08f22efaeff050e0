/** The reflector against the lab's whole API server, over a network that loses and cuts. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type ConfigMap, configMaps, nameOf } from "../api/index.ts";
import { reflect } from "./reflector.ts";
import { testCluster } from "./testing/cluster.ts";

const picture = (objects: Iterable<ConfigMap>) =>
  [...objects]
    .map((object) => `${nameOf(object)}@${object.metadata.resourceVersion}`)
    .sort()
    .join(" ");

test("a reflected cache ends equal to the API server's list and shows only states that were", async () => {
  const name = fc.constantFrom("a", "b", "c", "d");
  const step = fc.oneof(
    { weight: 3, arbitrary: fc.record({ do: fc.constantFrom("put" as const, "remove" as const), name }) },
    {
      weight: 1,
      arbitrary: fc.record({
        do: fc.constantFrom("cut" as const, "lossy" as const, "fine" as const, "wait" as const),
      }),
    },
  );
  const watchList = fc.constantFrom("unknown" as const, "no" as const);
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { maxLength: 60 }),
      watchList,
      fc.nat(),
      async (steps, watchList, seed) => {
        const { world, person, client, faults } = await testCluster(seed);
        client.watchList = watchList;
        const objects = new Map<string, ConfigMap>();
        const seen: string[] = [];
        const selection = { namespace: "default", labelSelector: "test=1" };
        const reflection = reflect(
          client,
          configMaps,
          {
            replace: (all) => {
              objects.clear();
              for (const object of all) objects.set(nameOf(object), object);
            },
            put: (object) => void objects.set(nameOf(object), object),
            remove: (key) => void objects.delete(key),
            settled: () => void seen.push(picture(objects.values())),
          },
          selection,
        );
        const states: string[] = [""];
        let count = 0;
        for (const step of steps) {
          if (step.do === "put") {
            const labels = { test: world.random() < 0.8 ? "1" : "2" };
            const metadata = { namespace: "default", name: step.name, labels };
            await person.apply(configMaps, { metadata, data: { count: String(count++) } });
          } else if (step.do === "remove") await person.delete(configMaps, `default/${step.name}`);
          else if (step.do === "cut") faults.cut();
          else if (step.do === "lossy") faults.lossBefore = faults.lossAfter = 0.4;
          else if (step.do === "fine") faults.lossBefore = faults.lossAfter = 0;
          else await world.advance(30_000 * world.random());
          states.push(picture((await person.list(configMaps, selection)).items));
          if (world.random() < 0.5) await world.advance(world.random() * 300);
        }
        faults.lossBefore = faults.lossAfter = 0;
        await world.advance(60_000);
        assert.equal(picture(objects.values()), states.at(-1));
        let at = 0;
        for (const one of seen) {
          const found = states.indexOf(one, at);
          assert.ok(found >= 0, `"${one}" never was, or was before "${states[at]}"`);
          at = found;
        }
        reflection.stop();
      },
    ),
    { numRuns: Number(process.env.RUNS ?? 60) },
  );
});
