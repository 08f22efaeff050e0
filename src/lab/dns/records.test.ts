import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { EndpointSlice, Service } from "../../api/index.ts";
import type { DnsRecord } from "../../dns/index.ts";
import { computedRecords, hostLabel, serviceRecords } from "./records.ts";
import { stubRules } from "./stubs.ts";

const naming = { domain: "cluster.local", ttl: 5 };
const own = "serve.demo.svc.cluster.local";

const service = (spec: Service["spec"]): Service => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: "serve", namespace: "demo" },
  spec: spec as NonNullable<Service["spec"]>,
});

const slice = (
  endpoints: EndpointSlice["endpoints"],
  ports: EndpointSlice["ports"] = [{ name: "http", port: 8080, protocol: "TCP" }],
): EndpointSlice => ({
  apiVersion: "discovery.k8s.io/v1",
  kind: "EndpointSlice",
  metadata: { name: "serve-1", namespace: "demo" },
  addressType: "IPv4",
  ports,
  endpoints,
});

/** Records as lines, each once, in order. */
function lines(records: DnsRecord[]): string[] {
  const text = ({ name, type, data }: DnsRecord) =>
    `${name} ${type} ${typeof data === "string" ? data : `${data.port} ${data.target}`}`;
  return [...new Set(records.map(text))].sort();
}

describe("the names of a service", () => {
  test("with a ClusterIP: its address, its ports, its endpoints and the way back", () => {
    const spec = {
      clusterIPs: ["10.11.0.9"],
      ports: [{ name: "http", port: 80, protocol: "TCP" }, { port: 81 }],
    };
    assert.deepEqual(lines(serviceRecords(service(spec), [slice([{ addresses: ["10.10.0.7"] }])], naming)), [
      "10-10-0-7.serve.demo.svc.cluster.local A 10.10.0.7",
      "7.0.10.10.in-addr.arpa PTR 10-10-0-7.serve.demo.svc.cluster.local",
      "9.0.11.10.in-addr.arpa PTR serve.demo.svc.cluster.local",
      `_http._tcp.${own} A 10.11.0.9`,
      `_http._tcp.${own} SRV 80 ${own}`,
      `${own} A 10.11.0.9`,
      `${own} SRV 80 ${own}`,
      `${own} SRV 81 ${own}`,
    ]);
  });

  test("with an address of each family", () => {
    const made = lines(serviceRecords(service({ clusterIPs: ["10.11.0.9", "fd00::9"] }), [], naming));
    assert.ok(made.includes(`${own} A 10.11.0.9`));
    assert.ok(made.includes(`${own} AAAA fd00::9`));
    assert.ok(made.some((line) => line.endsWith(`ip6.arpa PTR ${own}`)));
  });

  test("headless: the addresses of all that are ready, each under a name of its own", () => {
    const endpoints = [
      { addresses: ["10.10.0.1"], hostname: "db-0", conditions: { ready: true } },
      { addresses: ["10.10.0.2"] },
      { addresses: ["10.10.0.3"], conditions: { ready: false, serving: true } },
    ];
    const made = lines(serviceRecords(service({ clusterIPs: ["None"] }), [slice(endpoints)], naming));
    assert.deepEqual(made, [
      "1.0.10.10.in-addr.arpa PTR db-0.serve.demo.svc.cluster.local",
      "10-10-0-2.serve.demo.svc.cluster.local A 10.10.0.2",
      "2.0.10.10.in-addr.arpa PTR 10-10-0-2.serve.demo.svc.cluster.local",
      `_http._tcp.${own} A 10.10.0.1`,
      `_http._tcp.${own} A 10.10.0.2`,
      `_http._tcp.${own} SRV 8080 10-10-0-2.${own}`,
      `_http._tcp.${own} SRV 8080 db-0.${own}`,
      "db-0.serve.demo.svc.cluster.local A 10.10.0.1",
      `${own} A 10.10.0.1`,
      `${own} A 10.10.0.2`,
      `${own} SRV 8080 10-10-0-2.${own}`,
      `${own} SRV 8080 db-0.${own}`,
    ]);
  });

  test("headless without ports has addresses and no SRV", () => {
    const made = lines(
      serviceRecords(service({ clusterIP: "None" }), [slice([{ addresses: ["10.10.0.1"] }], [])], naming),
    );
    assert.deepEqual(
      made.filter((line) => / (A|SRV) /.test(line)),
      ["10-10-0-1.serve.demo.svc.cluster.local A 10.10.0.1", `${own} A 10.10.0.1`],
    );
  });

  test("headless with nobody ready has no names", () => {
    const endpoints = [{ addresses: ["10.10.0.3"], conditions: { ready: false } }];
    assert.deepEqual(serviceRecords(service({ clusterIPs: ["None"] }), [slice(endpoints)], naming), []);
  });

  test("an external name is an alias; an address is none", () => {
    const external = (externalName: string) =>
      lines(serviceRecords(service({ type: "ExternalName", externalName }), [], naming));
    assert.deepEqual(external("Www.Example.org."), [`${own} CNAME Www.Example.org`]);
    assert.deepEqual(external("192.0.2.1"), []);
    assert.deepEqual(external("fd00::1"), []);
  });

  test("a service without an address yet has no names", () => {
    assert.deepEqual(serviceRecords(service({ clusterIP: "" }), [], naming), []);
    assert.deepEqual(serviceRecords({ ...service({}), spec: undefined! }, [], naming), []);
  });

  test("addresses as labels", () => {
    assert.equal(hostLabel("10.10.0.7"), "10-10-0-7");
    assert.equal(hostLabel("fd00::7"), "fd00--7");
    assert.equal(hostLabel("fd00::"), "fd00--0");
  });
});

describe("computed names", () => {
  const computed = (name: string) => computedRecords(`${name}.cluster.local`, (ns) => ns === "demo", naming);
  const cases: [string, string[] | undefined][] = [
    ["svc", []],
    ["pod", []],
    ["demo.svc", []],
    ["demo.pod", []],
    ["nobody.svc", undefined],
    ["nobody.pod", undefined],
    ["10-10-0-7.demo.pod", ["10.10.0.7"]],
    ["fd00--7.demo.pod", ["fd00::7"]],
    ["10-10-0-7.nobody.pod", undefined],
    ["10-10-0-777.demo.pod", undefined],
    ["serve.demo.pod", undefined],
    ["x.10-10-0-7.demo.pod", undefined],
    ["serve.demo.svc", undefined],
    ["demo.other", undefined],
  ];
  for (const [name, expected] of cases) {
    test(`${name}: ${expected ? expected.join() || "no data" : "no such name"}`, () => {
      assert.deepEqual(
        computed(name)?.map(({ data }) => data),
        expected,
      );
    });
  }
});

describe("kube-system/kube-dns", () => {
  const rules = (data: Record<string, string> | undefined) =>
    stubRules(data && { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "kube-dns" }, data }, [
      "192.0.2.1",
    ]);

  test("without it all goes upstream", () => {
    assert.deepEqual(rules(undefined), { rules: [{ zone: ".", to: ["192.0.2.1"] }], problems: [] });
  });

  test("stub domains and name servers", () => {
    const data = {
      stubDomains: '{"clusterset.local": ["10.11.0.20", "[fd00::20]:5353"]}',
      upstreamNameservers: '["192.0.2.53:53"]',
    };
    assert.deepEqual(rules(data), {
      rules: [
        { zone: "clusterset.local", to: ["10.11.0.20", "[fd00::20]:5353"] },
        { zone: ".", to: ["192.0.2.53:53"] },
      ],
      problems: [],
    });
  });

  test("what is wrong is left out, alone and by name", () => {
    const data = {
      stubDomains: '{"a.local": ["x", "10.0.0.1"], "b.local": "10.0.0.2"}',
      upstreamNameservers: "{",
    };
    assert.deepEqual(rules(data), {
      rules: [
        { zone: "a.local", to: ["10.0.0.1"] },
        { zone: ".", to: ["192.0.2.1"] },
      ],
      problems: [
        'stubDomains a.local: "x" is not the address of a DNS server',
        "stubDomains b.local is not a list of addresses",
        "upstreamNameservers is not JSON",
      ],
    });
    assert.deepEqual(rules({ stubDomains: "[]" }).problems, ["stubDomains is not an object"]);
  });
});
