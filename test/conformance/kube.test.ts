/**
 * What `kube/` relies on, asked of an API server itself: the same suite for the embedded one and for a real
 * kube-apiserver, which `WEFT_CONFORMANCE_KUBECONFIG` names (its current context may do everything). A
 * difference is a bug of the embedded one.
 */
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import {
  type ConfigMap,
  configMaps,
  type EndpointSlice,
  endpointSlices,
  events,
  leases,
  managedByLabel,
  nameOf,
  namespaces,
  type Service,
  services,
} from "../../src/api/index.ts";
import { Engine, source } from "../../src/collections/index.ts";
import {
  type Applied,
  type Conflict,
  EventRecorder,
  fieldSink,
  Informer,
  isOutdated,
  KubeClient,
  loadKubeconfig,
  objectSink,
  reflect,
  startHeartbeat,
  transportFor,
  watchSource,
} from "../../src/kube/index.ts";
import { createApiServer } from "../../src/lab/apiserver/index.ts";
import { realWorld } from "../../src/world/index.ts";
import { eventually as until } from "../support/eventually.ts";

const world = realWorld();
const closers: (() => void)[] = [];
after(() => {
  for (const close of closers) close();
});

async function embedded(): Promise<KubeClient> {
  const server = await createApiServer({
    world,
    cluster: "embedded",
    storage: { kind: "memory" },
    serviceRange: "10.11.0.0/16",
    advertise: { address: "172.18.0.1", port: 6443 },
  });
  closers.push(() => void server.close());
  const transport = server.as({ name: "admin", groups: ["system:masters"] });
  return new KubeClient({ transport, world, cluster: "embedded" });
}

async function real(file: string): Promise<KubeClient> {
  const credentials = loadKubeconfig(file).credentials();
  const transport = transportFor(credentials);
  closers.push(() => transport.close());
  return new KubeClient({ transport, world, cluster: "real", server: credentials.server });
}

const kubeconfig = process.env.WEFT_CONFORMANCE_KUBECONFIG;
const servers: [name: string, connect: () => Promise<KubeClient>][] = [["the embedded API server", embedded]];
if (kubeconfig) servers.push(["a real kube-apiserver", () => real(kubeconfig)]);

/** Waits until `check` no longer throws. */
async function eventually(check: () => unknown, patience = 5_000): Promise<void> {
  await until(
    "what is checked",
    async () => {
      await check();
      return true;
    },
    patience,
  );
}

interface Wish {
  metadata: { namespace: string; name: string; labels?: Record<string, string> };
  data?: Record<string, string>;
}

for (const [name, connect] of servers) {
  describe(name, () => {
    const connected = connect();
    let count = 0;

    /** A client, and a namespace that nobody else uses. */
    async function setup() {
      const client = await connected;
      const namespace = `kube-${process.pid}-${++count}`;
      await client.create(namespaces, { metadata: { name: namespace } });
      closers.unshift(() => void client.delete(namespaces, namespace).catch(() => {}));
      const wish = (name: string, data: Record<string, string> = {}): Wish => ({
        metadata: { namespace, name },
        data,
      });
      const get = (name: string) => client.get(configMaps, { namespace, name });
      return { client, namespace, wish, get };
    }

    function sinkOf(client: KubeClient, namespace: string) {
      const engine = new Engine({ world });
      const observed = watchSource(engine, client, configMaps, { namespace });
      const desired = source<Wish>(engine, { name: "desired", key: nameOf, synced: true });
      const conflicts: [string, Conflict | undefined][] = [];
      const errors: unknown[] = [];
      const sink = objectSink<ConfigMap>({
        client,
        resource: configMaps,
        desired,
        observed,
        onConflict: (name, conflict) => conflicts.push([name, conflict]),
        onError: (_, error) => errors.push(error),
      });
      const stop = () => {
        sink.stop();
        observed.reflection.stop();
        engine.dispose();
      };
      closers.push(stop);
      return { desired, observed, sink, conflicts, errors, stop };
    }

    test("apply with a uid or a resourceVersion changes this object in this state, or nothing", async () => {
      const { client, namespace, wish, get } = await setup();
      const gone = { metadata: { ...wish("a").metadata, uid: "8d3c6f5e-0000-4000-8000-000000000000" } };
      await assert.rejects(client.apply(configMaps, gone, { force: true }), isOutdated);
      assert.equal(await get("a"), undefined);
      const made = await client.apply(configMaps, wish("a", { x: "1" }));
      await assert.rejects(client.apply(configMaps, gone, { force: true }), isOutdated);
      const { uid, resourceVersion } = made.metadata;
      const metadata = { namespace, name: "a", uid: uid!, resourceVersion: resourceVersion! };
      await client.patch(configMaps, { namespace, name: "a" }, { data: { y: "1" } }, { manager: "other" });
      await assert.rejects(
        client.apply(configMaps, { metadata, data: { x: "2" } }, { force: true }),
        isOutdated,
      );
      assert.deepEqual((await get("a"))?.data, { x: "1", y: "1" });
      await assert.rejects(
        client.delete(configMaps, metadata, { resourceVersion: resourceVersion! }),
        isOutdated,
      );
      await assert.rejects(client.delete(configMaps, metadata, { uid: gone.metadata.uid }), isOutdated);
      assert.equal(await client.delete(configMaps, metadata, { uid: uid! }), true);
    });

    test("an apply that changes nothing makes no new version", async () => {
      const { client, wish } = await setup();
      const first = await client.apply(configMaps, wish("a", { x: "1" }));
      const second = await client.apply(configMaps, wish("a", { x: "1" }));
      assert.equal(second.metadata.resourceVersion, first.metadata.resourceVersion);
    });

    for (const watchList of ["unknown", "no"] as const) {
      test(`is reflected ${watchList === "no" ? "by list and watch" : "by WatchList"}`, async () => {
        const { client: shared, namespace, wish } = await setup();
        const client = new KubeClient({ transport: shared.transport, world, cluster: shared.cluster });
        client.watchList = watchList;
        for (let i = 0; i < 7; i++) await client.create(configMaps, wish(`o${i}`));
        const objects = new Map<string, ConfigMap>();
        const selection = { namespace, labelSelector: "test!=no" };
        const reflection = reflect(
          client,
          configMaps,
          {
            replace: (all) => {
              objects.clear();
              for (const object of all) objects.set(nameOf(object), object);
            },
            put: (object) => objects.set(nameOf(object), object),
            remove: (key) => objects.delete(key),
          },
          selection,
        );
        closers.unshift(() => reflection.stop());
        await eventually(() => assert.equal(reflection.state.state, "synced"));
        await client.delete(configMaps, { namespace, name: "o1" });
        await client.patch(configMaps, { namespace, name: "o2" }, { metadata: { labels: { test: "no" } } });
        await client.patch(configMaps, { namespace, name: "o3" }, { data: { x: "1" } });
        const picture = (all: Iterable<ConfigMap>) =>
          [...all].map((object) => `${nameOf(object)}@${object.metadata.resourceVersion}`).sort();
        const { items } = await client.list(configMaps, { ...selection, pageSize: 3 });
        await eventually(() => assert.deepEqual(picture(objects.values()), picture(items)));
        assert.equal(reflection.lists, 1);
        // A real server offers it where its etcd can (3.5 and later).
        if (watchList === "unknown") assert.notEqual(client.watchList, "unknown");
        for (const object of objects.values()) assert.equal(object.kind, "ConfigMap");
      });
    }

    test("an old resourceVersion ends in the right state, by its history or by a new list", async () => {
      const { client, namespace, wish } = await setup();
      await client.create(configMaps, wish("a"));
      let watches = 0;
      const misled = new KubeClient({
        world,
        cluster: "misled",
        // Where the first resumption would go is replaced by the beginning of time.
        transport: (request) => {
          if (!/resourceVersion=\d/.test(request.path) || ++watches > 1) return client.transport(request);
          const path = request.path.replace(/resourceVersion=\d+/, "resourceVersion=1");
          return client.transport({ ...request, path });
        },
      });
      misled.watchList = "no";
      const informer = new Informer(misled, configMaps, { namespace });
      closers.unshift(() => informer.stop());
      await informer.whenSynced();
      await client.patch(configMaps, { namespace, name: "a" }, { data: { x: "1" } });
      await eventually(() => assert.equal(informer.get({ namespace, name: "a" })?.data?.x, "1"));
    });

    test("the sink for whole objects makes, changes, mends, withdraws and deletes", async () => {
      const { client, namespace, wish, get } = await setup();
      const { desired, sink, errors, stop } = sinkOf(client, namespace);
      desired.replace([wish("a", { x: "1", y: "1" }), wish("b")]);
      await eventually(async () => assert.deepEqual((await get("a"))?.data, { x: "1", y: "1" }));
      desired.replace([wish("a", { x: "2" }), wish("b")]);
      await eventually(async () => assert.deepEqual((await get("a"))?.data, { x: "2" }));
      await client.patch(
        configMaps,
        { namespace, name: "a" },
        { data: { x: "3", z: "1" } },
        { manager: "kubectl" },
      );
      await eventually(async () => assert.deepEqual((await get("a"))?.data, { x: "2", z: "1" }));
      await client.delete(configMaps, { namespace, name: "b" });
      await eventually(async () => assert.ok(await get("b")));
      await sink.idle();
      stop();
      const next = sinkOf(client, namespace);
      next.desired.replace([wish("a", {}), wish("b")]);
      await eventually(async () => assert.deepEqual((await get("a"))?.data, { z: "1" }));
      await next.sink.idle();
      assert.deepEqual(next.sink.writes, { created: 0, applied: 1, statuses: 0, deleted: 0, failed: 0 });
      next.desired.replace([]);
      await eventually(async () => assert.equal(await get("b"), undefined));
      assert.equal(await get("a"), undefined);
      assert.deepEqual(errors, []);
    });

    test("the sink for whole objects leaves what is not ours alone", async () => {
      const { client, namespace, wish, get } = await setup();
      const theirs = await client.create(configMaps, wish("a", { x: "theirs" }), { manager: "kubectl" });
      const { desired, conflicts } = sinkOf(client, namespace);
      desired.put(wish("a", { x: "ours" }));
      await eventually(() => assert.equal(conflicts.length, 1));
      assert.deepEqual(await get("a"), theirs);
      await client.delete(configMaps, theirs.metadata as { name: string });
      await eventually(async () => assert.deepEqual((await get("a"))?.data, { x: "ours" }));
    });

    test("nothing is written twice: Services and EndpointSlices with what the server fills in", async () => {
      const { client, namespace } = await setup();
      const engine = new Engine({ world });
      const observedServices = watchSource(engine, client, services, { namespace });
      const observedSlices = watchSource(engine, client, endpointSlices, { namespace });
      const desiredServices = source<Applied<Service>>(engine, {
        name: "services",
        key: nameOf,
        synced: true,
      });
      const desiredSlices = source<Applied<EndpointSlice>>(engine, {
        name: "slices",
        key: nameOf,
        synced: true,
      });
      const sinks = [
        objectSink({ client, resource: services, desired: desiredServices, observed: observedServices }),
        objectSink({ client, resource: endpointSlices, desired: desiredSlices, observed: observedSlices }),
      ];
      closers.unshift(() => {
        for (const sink of sinks) sink.stop();
        observedServices.reflection.stop();
        observedSlices.reflection.stop();
        engine.dispose();
      });
      const metadata = { namespace, name: "s" };
      const service = (ports: { name?: string; port: number }[]) => ({
        metadata,
        spec: { type: "ClusterIP" as const, ports },
      });
      desiredServices.put(service([{ port: 80 }]));
      desiredSlices.put({
        metadata: { ...metadata, labels: { "kubernetes.io/service-name": "s" } },
        addressType: "IPv4",
        endpoints: [{ addresses: ["10.0.0.1"], conditions: { ready: true }, hostname: "a", zone: "z" }],
        ports: [
          { name: "http", port: 8080 },
          { name: "dns", port: 53, protocol: "UDP" },
        ],
      });
      await eventually(async () => assert.ok(await client.get(services, metadata)));
      const ip = (await client.get(services, metadata))?.spec?.clusterIP;
      assert.match(ip ?? "", /^10\./);
      desiredServices.put(
        service([
          { name: "a", port: 80 },
          { name: "b", port: 81 },
        ]),
      );
      await eventually(async () =>
        assert.equal((await client.get(services, metadata))?.spec?.ports?.length, 2),
      );
      assert.equal((await client.get(services, metadata))?.spec?.clusterIP, ip);
      desiredServices.put(service([{ name: "b", port: 81 }]));
      await eventually(async () => {
        const ports = (await client.get(services, metadata))?.spec?.ports;
        assert.deepEqual(
          ports?.map(({ name, port, protocol, targetPort }) => ({ name, port, protocol, targetPort })),
          [{ name: "b", port: 81, protocol: "TCP", targetPort: 81 }],
        );
      });
      await Promise.all(sinks.map((sink) => sink.idle()));
      // Someone else's change wakes the sinks; there is nothing for them to do.
      await client.patch(services, metadata, { metadata: { annotations: { other: "1" } } });
      await client.patch(endpointSlices, metadata, { metadata: { annotations: { other: "1" } } });
      await eventually(() => {
        assert.ok(observedServices.get(`${namespace}/s`)?.metadata.annotations?.other);
        assert.ok(observedSlices.get(`${namespace}/s`)?.metadata.annotations?.other);
      });
      await Promise.all(sinks.map((sink) => sink.idle()));
      assert.deepEqual(
        sinks.map(({ writes }) => [writes.created, writes.applied, writes.failed]),
        [
          [1, 2, 0],
          [1, 0, 0],
        ],
      );
    });

    test("the sink for fields adds and takes back, reports conflicts, and never makes an object", async () => {
      const { client, namespace, wish, get } = await setup();
      const engine = new Engine({ world });
      const observed = watchSource(engine, client, configMaps, { namespace });
      const desired = source<Wish>(engine, { name: "desired", key: nameOf, synced: true });
      const conflicts: [string, Conflict | undefined][] = [];
      const sink = fieldSink<ConfigMap>({
        client,
        resource: configMaps,
        desired,
        observed,
        manager: "weft-test",
        onConflict: (name, conflict) => conflicts.push([name, conflict]),
      });
      closers.unshift(() => {
        sink.stop();
        observed.reflection.stop();
        engine.dispose();
      });
      desired.replace([wish("a", { x: "ours" }), wish("b", { x: "ours" }), wish("none", { x: "1" })]);
      await client.create(configMaps, wish("a", { y: "theirs" }), { manager: "kubectl" });
      await client.create(configMaps, wish("b", { x: "theirs" }), { manager: "kubectl" });
      await eventually(async () => assert.deepEqual((await get("a"))?.data, { x: "ours", y: "theirs" }));
      await eventually(() => assert.equal(conflicts.length, 1));
      assert.deepEqual(conflicts[0]![1]!.fields, [".data.x"]);
      assert.match(conflicts[0]![1]!.message, /conflict with "kubectl"/);
      await client.patch(configMaps, { namespace, name: "b" }, { data: { x: null } }, { manager: "kubectl" });
      await eventually(async () => assert.deepEqual((await get("b"))?.data, { x: "ours" }));
      desired.replace([wish("none", { x: "1" })]);
      await eventually(async () => assert.deepEqual((await get("a"))?.data, { y: "theirs" }));
      await eventually(async () => assert.deepEqual((await get("b"))?.data ?? {}, {}));
      const managers = (await get("a"))?.metadata.managedFields?.map(({ manager }) => manager);
      assert.deepEqual(managers, ["kubectl"]);
      assert.equal(await get("none"), undefined);
      assert.deepEqual(conflicts.at(-1), [`${namespace}/b`, undefined]);
    });

    test("conditions are kept beside those of others, with the time of their last change", async () => {
      const { client, namespace } = await setup();
      const metadata = { namespace, name: "s" };
      const theirs = {
        type: "Theirs",
        status: "True",
        reason: "R",
        message: "",
        lastTransitionTime: "2026-01-01T00:00:00Z",
      };
      await client.create(services, { metadata, spec: { ports: [{ port: 80 }] } }, { manager: "kubectl" });
      await client.patch(
        services,
        metadata,
        { status: { conditions: [theirs] } },
        { subresource: "status", manager: "kubectl", type: "strategic" },
      );
      const engine = new Engine({ world });
      const observed = watchSource(engine, client, services, { namespace });
      const desired = source<Applied<Service>>(engine, { name: "desired", key: nameOf, synced: true });
      const sink = fieldSink<Service>({
        client,
        resource: services,
        desired,
        observed,
        manager: "weft-conditions",
      });
      closers.unshift(() => {
        sink.stop();
        observed.reflection.stop();
        engine.dispose();
      });
      const ours = (status: "True" | "False", message: string) => ({
        metadata,
        status: {
          conditions: [
            { type: "weft.dev/Ready", status, reason: "Because", message, lastTransitionTime: "" },
          ],
        },
      });
      const conditions = async () => (await client.get(services, metadata))?.status?.conditions ?? [];
      desired.put(ours("True", "one"));
      await eventually(async () => assert.equal((await conditions()).length, 2));
      const first = (await conditions()).find(({ type }) => type === "weft.dev/Ready");
      assert.match(first?.lastTransitionTime ?? "", /^20\d\d-/);
      desired.put(ours("True", "two"));
      await eventually(async () => assert.ok((await conditions()).some(({ message }) => message === "two")));
      desired.put(ours("False", "three"));
      await eventually(async () => assert.ok((await conditions()).some(({ status }) => status === "False")));
      await sink.idle();
      assert.equal(sink.writes.statuses, 3);
      desired.remove(`${namespace}/s`);
      await eventually(async () => assert.deepEqual(await conditions(), [theirs]));
    });

    test("Events and Leases are accepted as we write them", async () => {
      const { client, namespace } = await setup();
      const recorder = new EventRecorder({
        client,
        component: "weft",
        onError: (error) => assert.ifError(error),
      });
      const subject = { apiVersion: "v1", kind: "Service", metadata: { namespace, name: "s", uid: "u" } };
      recorder.warning(subject, "Conflict", "the ports differ");
      recorder.warning(subject, "Conflict", "the ports differ");
      await recorder.flush();
      const { items } = await client.list(events, {
        namespace,
        fieldSelector: "involvedObject.name=s,reason=Conflict",
      });
      assert.deepEqual(
        items.map(({ count, type }) => ({ count, type })),
        [{ count: 2, type: "Warning" }],
      );
      const heartbeat = startHeartbeat({ client, namespace, name: "beat", identity: "me", every: 50 });
      closers.unshift(() => heartbeat.stop());
      const renewed = async () => (await client.get(leases, { namespace, name: "beat" }))?.spec?.renewTime;
      await eventually(async () => assert.ok(await renewed()));
      const first = await renewed();
      await eventually(async () => assert.notEqual(await renewed(), first));
    });

    test("the label that marks ours can be selected on", async () => {
      const { client, namespace, wish } = await setup();
      const { desired } = sinkOf(client, namespace);
      desired.put(wish("a"));
      const labelSelector = `${managedByLabel}=weft`;
      await eventually(async () =>
        assert.equal((await client.list(configMaps, { namespace, labelSelector })).items.length, 1),
      );
    });
  });
}
