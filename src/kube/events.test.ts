import assert from "node:assert/strict";
import { test } from "node:test";
import { type Event, events } from "../api/index.ts";
import { EventRecorder } from "./events.ts";
import { testCluster } from "./testing/cluster.ts";

const subject = {
  apiVersion: "v1",
  kind: "Service",
  metadata: { namespace: "default", name: "serve", uid: "u1", resourceVersion: "7" },
};

async function setup() {
  const cluster = await testCluster();
  const errors: unknown[] = [];
  const recorder = new EventRecorder({
    client: cluster.client,
    component: "weft",
    host: "node-1",
    onError: (error) => errors.push(error),
  });
  const recorded = async (): Promise<Event[]> =>
    (await cluster.person.list(events)).items.filter(({ source }) => source?.component === "weft");
  return { ...cluster, recorder, recorded, errors };
}

test("an Event says what happened to which object, who says so and when", async () => {
  const { world, recorder, recorded } = await setup();
  recorder.warning(subject, "Conflict", "the ports differ", "spec.ports");
  await world.advance(0);
  await recorder.flush();
  const [event] = await recorded();
  assert.equal(event?.type, "Warning");
  assert.equal(event?.reason, "Conflict");
  assert.equal(event?.message, "the ports differ");
  assert.equal(event?.count, 1);
  assert.equal(event?.firstTimestamp, "2026-01-01T00:00:00Z");
  assert.match(event?.metadata.name ?? "", /^serve\.[0-9a-f]{16}$/);
  assert.deepEqual(event?.involvedObject, {
    kind: "Service",
    namespace: "default",
    name: "serve",
    uid: "u1",
    apiVersion: "v1",
    resourceVersion: "7",
    fieldPath: "spec.ports",
  });
  assert.deepEqual(event?.source, { component: "weft", host: "node-1" });
});

test("Events of one moment are named in the order in which they came", async () => {
  const { world, recorder, recorded } = await setup();
  for (const reason of ["Scheduled", "Pulled", "Created", "Started"])
    recorder.normal(subject, reason, "done");
  await world.advance(0);
  await recorder.flush();
  const found = (await recorded()).sort((a, b) => (a.metadata.name! < b.metadata.name! ? -1 : 1));
  assert.deepEqual(
    found.map(({ reason }) => reason),
    ["Scheduled", "Pulled", "Created", "Started"],
  );
});

test("repetitions are counted in one Event, different ones are apart", async () => {
  const { world, recorder, recorded } = await setup();
  for (let i = 0; i < 3; i++) {
    recorder.normal(subject, "Synced", "all is well");
    await world.advance(2_000);
  }
  recorder.normal(subject, "Synced", "all is very well");
  await world.advance(0);
  const found = (await recorded()).sort((a, b) => (b.count ?? 0) - (a.count ?? 0));
  assert.deepEqual(
    found.map(({ count }) => count),
    [3, 1],
  );
  assert.equal(found[0]?.firstTimestamp, "2026-01-01T00:00:00Z");
  assert.equal(found[0]?.lastTimestamp, "2026-01-01T00:00:04Z");
});

test("an Event that someone deleted is made anew", async () => {
  const { world, recorder, recorded, person } = await setup();
  recorder.normal(subject, "Synced", "all is well");
  await world.advance(0);
  await person.deleteCollection(events, { namespace: "default" });
  recorder.normal(subject, "Synced", "all is well");
  await world.advance(0);
  assert.deepEqual(
    (await recorded()).map(({ count }) => count),
    [1],
  );
});

test("an object in trouble cannot flood the server, and others are heard all the same", async () => {
  const { world, recorder, recorded } = await setup();
  for (let i = 0; i < 200; i++) recorder.warning(subject, "Failed", `try ${i}`);
  recorder.warning({ ...subject, metadata: { namespace: "default", name: "other" } }, "Failed", "one");
  await world.advance(1_000);
  assert.equal((await recorded()).length, 26);
  await world.advance(600_000);
  for (let i = 0; i < 200; i++) recorder.warning(subject, "Failed", `late ${i}`);
  await world.advance(1_000);
  assert.equal((await recorded()).length, 28);
});

test("a failure is reported and disturbs nobody", async () => {
  const { world, recorder, recorded, errors, faults } = await setup();
  faults.lossBefore = 1;
  recorder.normal(subject, "Lost", "nobody hears this");
  await world.advance(0);
  faults.lossBefore = 0;
  recorder.normal(subject, "Heard", "this one is heard");
  await world.advance(0);
  assert.equal(errors.length, 1);
  assert.deepEqual(
    (await recorded()).map(({ reason }) => reason),
    ["Heard"],
  );
});
