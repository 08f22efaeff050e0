/**
 * The same objects, the same questions, the same answers as CoreDNS 1.15.0 (its kubernetes plugin with
 * `pods insecure`). What CoreDNS said is kept in `coredns-answers.generated.json`, recorded from the real
 * program over the objects below: `name type` to the response code and the sorted records, additional ones
 * behind a `+`; `-` stands for "no data".
 */
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import dnsPacket from "dns-packet";
import { type EndpointSlice, endpointSlices, namespaces, type Service, services } from "../../api/index.ts";
import { createDnsServer, type DnsServer, Zones } from "../../dns/index.ts";
import { KubeClient } from "../../kube/index.ts";
import { realWorld } from "../../world/index.ts";
import { type ApiServer, createApiServer } from "../apiserver/index.ts";
import { type NodeDns, startNodeDns } from "./index.ts";

const recorded = JSON.parse(
  readFileSync(new URL("coredns-answers.generated.json", import.meta.url), "utf8"),
) as Record<string, string>;

/** Where we say something else on purpose. */
const deliberate: [RegExp, string][] = [
  [
    /^(cluster\.local|svc\.|pod\.|demo\.svc\.|empty\.svc\.|demo\.pod\.)\S* TXT$/,
    "a name exists for every type or for none",
  ],
  [/^dns-version\S+ (?!TXT)/, "a name exists for every type or for none"],
  [/^(_tcp\.serve|dns)\./, "a name exists when others lie below it (RFC 8020)"],
  [/^ext\S* (SRV|PTR|MX|TXT)$/, "an alias holds for every type (RFC 1034, section 3.6.2)"],
  [/^http\.tcp\./, "ports and protocols are written with underscores"],
  [/^(db-0\.db|\d+-\d+-\d+-\d+\.\w+|fd00--7\.six)\.demo\.\S+ SRV$/, "one address has no ports to tell"],
  [/^\S+\.demo\.pod\.\S+ SRV$/, "a pod has no ports to tell"],
  [/^a\.10-10-0-7\.demo\.pod\./, "nothing lies below an address"],
  [/^SERVE\S* SRV$/, "the letters of a target are its own"],
  [/^\S+\.in-addr\.arpa (?!PTR)/, "an address that is ours has a name and nothing else"],
];

const world = realWorld();
let api: ApiServer;
let dns: NodeDns;
let upstream: DnsServer;

type Endpoints = EndpointSlice["endpoints"];
type Ports = NonNullable<EndpointSlice["ports"]>;
const http: Ports = [{ name: "http", port: 8080, protocol: "TCP" }];

before(async () => {
  api = await createApiServer({
    world,
    cluster: "c1",
    storage: { kind: "memory" },
    serviceRange: "10.11.0.0/16",
    advertise: { address: "172.18.0.1", port: 6443 },
  });
  const transport = api.as({ name: "admin", groups: ["system:masters"] });
  const client = new KubeClient({ transport, world, cluster: "c1" });
  const service = (name: string, spec: Service["spec"]) =>
    client.create(services, { metadata: { name, namespace: "demo" }, spec: spec! });
  const slice = (name: string, endpoints: Endpoints, ports = http, addressType = "IPv4") =>
    client.create(endpointSlices, {
      metadata: { name: `${name}-1`, namespace: "demo", labels: { "kubernetes.io/service-name": name } },
      addressType,
      ports,
      endpoints,
    });
  for (const name of ["demo", "empty"]) await client.create(namespaces, { metadata: { name } });
  const serve = [
    { name: "http", port: 80 },
    { name: "dns", port: 53, protocol: "UDP" },
  ];
  await service("serve", { clusterIP: "10.11.0.20", ports: serve });
  await slice("serve", [
    { addresses: ["10.10.0.7"] },
    { addresses: ["10.10.0.8"], conditions: { ready: false } },
  ]);
  await service("plain", { clusterIP: "10.11.0.21", ports: [{ port: 80 }] });
  await service("db", {
    clusterIP: "None",
    ports: [
      { name: "sql", port: 5432 },
      { name: "admin", port: 99 },
    ],
  });
  await slice(
    "db",
    [
      { addresses: ["10.10.1.1"], hostname: "db-0" },
      { addresses: ["10.10.1.2"], hostname: "db-1" },
      { addresses: ["10.10.1.3"] },
    ],
    [
      { name: "sql", port: 5432, protocol: "TCP" },
      { name: "admin", port: 99, protocol: "TCP" },
    ],
  );
  await service("none", { clusterIP: "None", ports: [{ port: 80 }] });
  await service("noport", { clusterIP: "None" });
  await slice("noport", [{ addresses: ["10.10.2.1"] }], []);
  await service("six", { clusterIP: "None", ports: [{ name: "http", port: 80 }] });
  await slice("six", [{ addresses: ["fd00::7"] }], http, "IPv6");
  const external = (name: string, externalName: string) =>
    service(name, { type: "ExternalName", externalName });
  await external("ext", "serve.demo.svc.cluster.local");
  await external("exthead", "db.demo.svc.cluster.local");
  await external("extnone", "nobody.demo.svc.cluster.local");
  await external("extout", "www.example.org");
  await external("extup", "www.example.test");

  const theirs = new Zones();
  theirs.add({ name: "example.test" });
  theirs.put({ name: "www.example.test", type: "A", ttl: 9, data: "192.0.2.9" });
  upstream = createDnsServer({ world, zones: theirs });
  const { port } = await upstream.listen({ address: "127.0.0.1", port: 0 });
  dns = await startNodeDns({
    world,
    client,
    clusterDomain: "cluster.local",
    address: "127.0.0.1",
    port: 0,
    upstream: [`127.0.0.1:${port}`],
  });
  await dns.synced;
});
after(async () => {
  await dns.close();
  await upstream.close();
  await api.close();
});

test("answers are those of CoreDNS", async () => {
  const socket = createSocket("udp4");
  const said = async (question: string) => {
    const [name, type] = question.split(" ") as [string, dnsPacket.RecordType];
    const questions = [{ name, type }];
    socket.send(dnsPacket.encode({ type: "query", id: 1, questions }), dns.port, "127.0.0.1");
    const [message] = (await once(socket, "message")) as [Buffer];
    return summarize(dnsPacket.decode(message));
  };
  const different: string[] = [];
  let same = 0;
  for (const [question, expected] of Object.entries(recorded)) {
    const answer = await said(question);
    if (answer === expected) same++;
    else if (!deliberate.some(([pattern]) => pattern.test(question))) {
      different.push(`${question}\n  CoreDNS ${expected}\n  we      ${answer}`);
    }
  }
  socket.close();
  assert.equal(different.join("\n"), "");
  assert.ok(same > 250, `${same} of ${Object.keys(recorded).length} are the same`);
});

function summarize(packet: dnsPacket.DecodedPacket): string {
  const { rcode } = packet as unknown as { rcode: string };
  const lines = (records: dnsPacket.Answer[] | undefined) =>
    (records ?? []).map((record) => {
      if (record.type === "OPT") return "OPT";
      const { name, ttl, type, data } = record as { name: string; ttl: number; type: string; data: unknown };
      if (type !== "SRV") return `${name} ${ttl} ${type} ${String(data)}`;
      const { priority, weight, port, target } = data as dnsPacket.SrvData;
      return `${name} ${ttl} SRV ${priority} ${weight} ${port} ${target}`;
    });
  const negative = (packet.authorities ?? []).map((record) => record.type).join();
  const answers = lines(packet.answers).sort().join("; ") || "-";
  const additional = lines(packet.additionals)
    .sort()
    .map((line) => ` + ${line}`)
    .join("");
  return `${packet.flag_aa ? "" : "not ours: "}${rcode} ${answers}${additional}${negative && ` (${negative})`}`;
}
