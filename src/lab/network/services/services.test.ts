/**
 * The rules in a real kernel: a node and three pods as network namespaces, inside a user namespace that this file
 * starts itself in (as `weft up` does). Nothing of the host is touched.
 */
import assert from "node:assert/strict";
import { type ChildProcessWithoutNullStreams, execFileSync, spawn, spawnSync } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type EndpointSlice, endpointSlices, nodes, type Service, services } from "../../../api/index.ts";
import { Informer, KubeClient } from "../../../kube/index.ts";
import { realWorld } from "../../../world/index.ts";
import { createApiServer } from "../../apiserver/index.ts";
import { run, systemPath } from "../run.ts";
import { type ServiceRules, startServiceRules } from "./index.ts";
import { NftSession } from "./session.ts";

const unshare = [
  "--user",
  "--map-root-user",
  "--net",
  "--mount",
  "--pid",
  "--fork",
  "--kill-child",
  "--mount-proc",
];
const isInside = process.env.WEFT_TEST_INSIDE === "1";

if (isInside) inside();
else outside();

function outside(): void {
  const env = {
    ...process.env,
    PATH: `${process.env.PATH}:${systemPath}`,
    WEFT_TEST_INSIDE: "1",
    NODE_TEST_CONTEXT: undefined,
  };
  const can = spawnSync("unshare", [...unshare, "nft", "list", "ruleset"], { env, encoding: "utf8" });
  const skip = can.status === 0 ? false : `not possible here: ${can.error?.message ?? can.stderr.trim()}`;
  test("service rules in the kernel", { skip }, () => {
    const self = fileURLToPath(import.meta.url);
    const inner = spawnSync(
      "unshare",
      [...unshare, process.execPath, "--test-reporter=spec", "--test-force-exit", self],
      {
        env,
        encoding: "utf8",
        timeout: 60_000,
      },
    );
    console.log(inner.stdout);
    assert.equal(inner.status, 0, `${inner.stdout}\n${inner.stderr}`);
  });
}

/** A program in a network namespace. */
class Probe {
  readonly #child: ChildProcessWithoutNullStreams;
  #next: ((line: string) => void)[] = [];

  constructor(namespace: string) {
    const program = fileURLToPath(new URL("./probe.mjs", import.meta.url));
    this.#child = spawn("ip", ["netns", "exec", namespace, process.execPath, program]);
    this.#child.stderr.on("data", (text) => process.stderr.write(text));
    let rest = "";
    this.#child.stdout.on("data", (text) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop()!;
      for (const line of lines) this.#next.shift()?.(line);
    });
  }

  #send<R>(command: object): Promise<R> {
    return new Promise((resolve) => {
      this.#next.push((line) => resolve(JSON.parse(line)));
      this.#child.stdin.write(`${JSON.stringify(command)}\n`);
    });
  }

  listen = (port: number, name: string) => this.#send<null>({ command: "listen", port, name });
  connect = (address: string, port: number, count = 1) =>
    this.#send<string[]>({ command: "connect", address, port, count });
  ask = (address: string, port: number, count = 1, from = 0) =>
    this.#send<string[]>({ command: "ask", address, port, count, from });
  end = () => this.#child.kill("SIGKILL");
}

function inside(): void {
  const world = realWorld();
  const pods = { client: "10.10.0.2", one: "10.10.0.3", two: "10.10.0.4" };
  const vip = "10.11.0.50";
  const probes: Record<string, Probe> = {};
  let client: KubeClient;
  let rules: ServiceRules;
  let seen: Informer<EndpointSlice>;
  const log: string[] = [];

  before(async () => {
    const script = [
      "set -e",
      "mount -t tmpfs none /run",
      "mkdir -p /run/netns",
      "ip netns add node",
      "ip -n node link set lo up",
      "ip netns exec node sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'",
      "ip link set lo up",
      "ip link add uplink type veth peer name eth0 netns node",
      "ip addr add 172.18.0.1/32 dev uplink",
      "ip link set uplink up",
      "ip route add 172.18.0.2/32 dev uplink",
      "ip route add 10.10.0.0/24 via 172.18.0.2 dev uplink onlink",
      "ip -n node addr add 172.18.0.2/32 dev eth0",
      "ip -n node link set eth0 up",
      "ip -n node route add 172.18.0.1/32 dev eth0",
      "ip -n node route add default via 172.18.0.1 dev eth0 src 172.18.0.2",
      ...Object.entries(pods).flatMap(([name, address]) => [
        `ip netns add ${name}`,
        `ip -n node link add ${name} type veth peer name eth0 netns ${name}`,
        `ip -n node addr add 10.10.0.1/32 dev ${name}`,
        `ip -n node link set ${name} up`,
        `ip -n node route add ${address}/32 dev ${name} src 172.18.0.2`,
        `ip -n ${name} link set lo up`,
        `ip -n ${name} addr add ${address}/32 dev eth0`,
        `ip -n ${name} link set eth0 up`,
        `ip -n ${name} route add 10.10.0.1/32 dev eth0 src ${address}`,
        `ip -n ${name} route add default via 10.10.0.1 dev eth0 src ${address}`,
      ]),
    ];
    await run(["/bin/sh", "-s"], script.join("\n"));
    for (const name of ["node", ...Object.keys(pods)]) probes[name] = new Probe(name);
    await probes.one!.listen(8080, "one");
    await probes.two!.listen(8080, "two");
    const server = await createApiServer({
      world,
      cluster: "c1",
      storage: { kind: "memory" },
      serviceRange: "10.11.0.0/16",
      advertise: { address: "172.18.0.1", port: 6443 },
    });
    client = new KubeClient({
      transport: server.as({ name: "admin", groups: ["system:masters"] }),
      world,
      cluster: "c1",
    });
    await client.create(nodes, {
      metadata: { name: "node", labels: { "topology.kubernetes.io/zone": "a" } },
    });
    seen = new Informer(client, endpointSlices);
    rules = startServiceRules({
      world,
      client,
      nodeName: "node",
      serviceRange: "10.11.0.0/16",
      nft: ["ip", "netns", "exec", "node", "nft"],
      log: (line) => log.push(line),
    });
    await rules.ready;
  });

  after(() => {
    rules?.stop();
    for (const probe of Object.values(probes)) probe.end();
  });

  /** Makes the Service `demo`, in place of the one of the test before. */
  async function service(spec: Service["spec"]): Promise<void> {
    await client.delete(services, "default/demo");
    await client.create(services, {
      metadata: { name: "demo", namespace: "default" },
      spec: {
        clusterIP: vip,
        ports: [
          { name: "tcp", port: 80, targetPort: 8080 },
          { name: "udp", port: 80, targetPort: 8080, protocol: "UDP" },
        ],
        ...spec,
      },
    });
  }

  /** Sets its endpoints and waits until the kernel has them. */
  async function endpoints(
    ...list: { address: string; zone?: string; node?: string; conditions?: object }[]
  ) {
    const known = await client.get(endpointSlices, "default/demo");
    const wanted = {
      ...known,
      metadata: {
        ...known?.metadata,
        name: "demo",
        namespace: "default",
        labels: { "kubernetes.io/service-name": "demo" },
      },
      addressType: "IPv4",
      ports: [
        { name: "tcp", port: 8080, protocol: "TCP" },
        { name: "udp", port: 8080, protocol: "UDP" },
      ],
      endpoints: list.map(({ address, zone, node, conditions }) => ({
        addresses: [address],
        conditions,
        zone,
        nodeName: node ?? "node",
      })),
    };
    const { resourceVersion } = await (known
      ? client.replace(endpointSlices, wanted)
      : client.create(endpointSlices, wanted)
    ).then(({ metadata }) => metadata);
    await inKernel(resourceVersion!);
    assert.deepEqual(log, []);
  }

  /** Waits until that state of the slice has been seen, and everything seen is in the kernel. */
  async function inKernel(resourceVersion: string): Promise<void> {
    while (seen.get("default/demo")?.metadata.resourceVersion !== resourceVersion) await nextTurn();
    await nextTurn();
    await rules.settled();
  }

  const counts = (answers: string[]) =>
    Object.fromEntries(
      Object.entries(Object.groupBy(answers, (one) => one.split(" ")[0]!)).map(([k, v]) => [k, v!.length]),
    );

  describe("a Service on a node", { concurrency: false }, () => {
    test("shares connections out between its endpoints, from pods and from the node, over TCP and UDP", async () => {
      await service({});
      await endpoints({ address: pods.one }, { address: pods.two });
      for (const from of ["client", "node"]) {
        const { one = 0, two = 0, ...rest } = counts(await probes[from]!.connect(vip, 80, 60));
        assert.deepEqual(rest, {});
        assert.ok(one > 10 && two > 10, `${from}: ${one} and ${two}`);
      }
      const { one = 0, two = 0, ...rest } = counts(await probes.client!.ask(vip, 80, 60));
      assert.deepEqual(rest, {});
      assert.ok(one > 10 && two > 10, `UDP: ${one} and ${two}`);
      assert.match(
        (await probes.client!.connect(vip, 80))[0]!,
        / (::ffff:)?10\.10\.0\.2$/,
        "the server sees the pod itself",
      );
    });

    test("leaves out an endpoint that goes, and refuses at once when the last one is gone", async () => {
      await service({});
      await endpoints({ address: pods.one }, { address: pods.two });
      await endpoints({ address: pods.two });
      assert.deepEqual(counts(await probes.client!.connect(vip, 80, 20)), { two: 20 });
      await endpoints({ address: pods.two, conditions: { ready: false } });
      for (const from of ["client", "node"]) {
        assert.deepEqual(await probes[from]!.connect(vip, 80), ["ECONNREFUSED"], from);
        assert.deepEqual(await probes[from]!.ask(vip, 80), ["ECONNREFUSED"], from);
      }
      assert.deepEqual(await probes.client!.connect("10.11.200.200", 80), ["ECONNREFUSED"]);
    });

    test("moves a UDP flow that goes on and on away from an endpoint that is gone", async () => {
      await service({});
      await endpoints({ address: pods.one });
      assert.deepEqual(counts(await probes.client!.ask(vip, 80, 3, 5353)), { one: 3 });
      await endpoints({ address: pods.two });
      assert.deepEqual(counts(await probes.client!.ask(vip, 80, 3, 5353)), { two: 3 });
      await endpoints({ address: pods.one });
      assert.deepEqual(counts(await probes.client!.ask(vip, 80, 3, 5353)), { one: 3 });
    });

    test("falls back to endpoints that serve while they end", async () => {
      await service({});
      const ending = { ready: false, serving: true, terminating: true };
      await endpoints({ address: pods.one, conditions: ending }, { address: pods.two });
      assert.deepEqual(counts(await probes.client!.connect(vip, 80, 10)), { two: 10 });
      await endpoints({ address: pods.one, conditions: ending });
      assert.deepEqual(counts(await probes.client!.connect(vip, 80, 10)), { one: 10 });
    });

    test("reaches a pod that is its own endpoint", async () => {
      await service({});
      await endpoints({ address: pods.one });
      const [answer] = await probes.one!.connect(vip, 80);
      assert.match(answer!, /^one (::ffff:)?(10\.10\.0\.1|172\.18\.0\.2)$/);
    });

    test("keeps a client at one endpoint with session affinity, until that endpoint goes", async () => {
      await service({ sessionAffinity: "ClientIP" });
      await endpoints({ address: pods.one }, { address: pods.two });
      const answers = counts(await probes.client!.connect(vip, 80, 30));
      assert.equal(Object.keys(answers).length, 1);
      const stays = "one" in answers ? "two" : "one";
      await endpoints({ address: pods[stays] });
      assert.deepEqual(counts(await probes.client!.connect(vip, 80, 10)), { [stays]: 10 });
      await endpoints({ address: pods.one }, { address: pods.two });
      assert.deepEqual(counts(await probes.client!.connect(vip, 80, 10)), { [stays]: 10 });
    });

    test("is answered on its NodePort and its external address, from outside too", async () => {
      await service({
        type: "NodePort",
        externalIPs: ["192.0.2.7"],
        ports: [{ name: "tcp", port: 80, targetPort: 8080, nodePort: 30080 }],
      });
      await endpoints({ address: pods.one }, { address: pods.two });
      const all = counts(await probes.client!.connect("172.18.0.2", 30080, 30));
      assert.deepEqual(Object.keys(all).sort(), ["one", "two"]);
      assert.deepEqual(
        Object.keys(counts(await probes.node!.connect("172.18.0.2", 30080, 5))).length > 0,
        true,
      );
      assert.deepEqual(Object.keys(counts(await probes.client!.connect("192.0.2.7", 80, 30))).sort(), [
        "one",
        "two",
      ]);
      // From the router, which is no part of the cluster.
      const outside = execFileSync(process.execPath, [
        "-e",
        `require("net").connect(30080, "172.18.0.2").on("data", (d) => console.log(String(d)))`,
      ]);
      assert.match(outside.toString(), /^(one|two) (::ffff:)?(10\.10\.0\.1|172\.18\.0\.2)\n$/);
    });

    test("with internalTrafficPolicy Local uses only this node's endpoints", async () => {
      await service({ internalTrafficPolicy: "Local" });
      await endpoints({ address: pods.one }, { address: pods.two, node: "other" });
      assert.deepEqual(counts(await probes.client!.connect(vip, 80, 20)), { one: 20 });
      await endpoints({ address: pods.two, node: "other" });
      assert.deepEqual(await probes.client!.connect(vip, 80), ["TIMEOUT"]);
    });

    test("prefers its own zone while that has ready endpoints", async () => {
      await service({ trafficDistribution: "PreferClose" });
      await endpoints({ address: pods.one, zone: "a" }, { address: pods.two, zone: "b" });
      assert.deepEqual(counts(await probes.client!.connect(vip, 80, 20)), { one: 20 });
      await endpoints(
        { address: pods.one, zone: "a", conditions: { ready: false } },
        { address: pods.two, zone: "b" },
      );
      assert.deepEqual(counts(await probes.client!.connect(vip, 80, 20)), { two: 20 });
    });

    test("has its rules changed also by an nft without an interactive mode, or with one that says nothing", async () => {
      for (const [table, interactive] of [
        ["deaf", "exec sleep 1000"],
        ["none", "exit 1"],
      ]) {
        const script = `for word; do [ "$word" = -i ] && ${interactive}; done; exec ip netns exec node nft "$@"`;
        const session = new NftSession({
          // Without patience.
          world: { ...world, after: (delay, wake) => world.after(delay / 50, wake) },
          command: ["/bin/sh", "-c", script, "sh"],
        });
        await session.transaction(`add table ip ${table}\nadd chain ip ${table} x`);
        await assert.rejects(session.transaction(`add rule ip ${table} nothing accept`), /No such file/);
        const found = await run(["ip", "netns", "exec", "node", "nft", "list", "table", "ip", table!]);
        assert.match(found, /chain x/);
        session.stop();
      }
    });

    test("is served again after someone deleted the table and an endpoint changed", async () => {
      await service({});
      await endpoints({ address: pods.one });
      await run(["ip", "netns", "exec", "node", "nft", "delete", "table", "ip", "weft-services"]);
      const { metadata } = await client.patch(endpointSlices, "default/demo", {
        endpoints: [{ addresses: [pods.two], nodeName: "node" }],
      });
      await inKernel(metadata.resourceVersion!);
      assert.deepEqual(counts(await probes.client!.connect(vip, 80, 10)), { two: 10 });
      assert.match(log.splice(0).join("\n"), /^service rules: nft: Error:.*No such file or directory/s);
    });
  });
}
