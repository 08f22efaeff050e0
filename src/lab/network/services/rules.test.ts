import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { EndpointSlice, Service } from "../../../api/index.ts";
import { type Rules, rulesOf } from "./rules.ts";
import { RuleTable, tableName } from "./table.ts";

const node = { name: "here", zone: "a" };

function service(spec: Service["spec"] = {}, name = "serve", status?: Service["status"]): Service {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { namespace: "demo", name },
    spec: { clusterIP: "10.11.0.5", ports: [{ port: 80 }], ...spec },
    status,
  };
}

type End = { at: string; on?: string; zone?: string; ready?: boolean; ending?: boolean };
function slice(
  ends: End[],
  ports: EndpointSlice["ports"] = [{ name: "", port: 8080, protocol: "TCP" }],
): EndpointSlice {
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { namespace: "demo", name: "serve-x" },
    addressType: "IPv4",
    ports,
    endpoints: ends.map(({ at, on, zone, ready = true, ending = false }) => ({
      addresses: [at],
      nodeName: on,
      zone,
      conditions: { ready: ready && !ending, serving: ready, terminating: ending },
    })),
  };
}

/** The addresses that the rules of a chain send to. */
function targets(rules: Rules, chain: string): string[] {
  return [...(rules.chains.get(chain) ?? []).join(" ").matchAll(/\d+\.\d+\.\d+\.\d+/g)].map(
    ([address]) => address,
  );
}

describe("which endpoints a Service uses", () => {
  const cases: { name: string; spec?: Service["spec"]; ends: End[]; uses: string[] }[] = [
    {
      name: "all that are ready",
      ends: [{ at: "1.1.1.1" }, { at: "1.1.1.2", ready: false }],
      uses: ["1.1.1.1"],
    },
    {
      name: "not those that end, while others are ready",
      ends: [{ at: "1.1.1.1" }, { at: "1.1.1.2", ending: true }],
      uses: ["1.1.1.1"],
    },
    {
      name: "those that still serve while they end, when nothing else is left",
      ends: [
        { at: "1.1.1.1", ready: false },
        { at: "1.1.1.2", ending: true },
      ],
      uses: ["1.1.1.2"],
    },
    {
      name: "those of the own zone when near ones are preferred",
      spec: { trafficDistribution: "PreferSameZone" },
      ends: [
        { at: "1.1.1.1", zone: "a" },
        { at: "1.1.1.2", zone: "b" },
      ],
      uses: ["1.1.1.1"],
    },
    {
      name: "all when the own zone has none that is ready",
      spec: { trafficDistribution: "PreferClose" },
      ends: [{ at: "1.1.1.1", zone: "a", ready: false }, { at: "1.1.1.2", zone: "b" }, { at: "1.1.1.3" }],
      uses: ["1.1.1.2", "1.1.1.3"],
    },
    {
      name: "those of the own node when that is preferred",
      spec: { trafficDistribution: "PreferSameNode" },
      ends: [
        { at: "1.1.1.1", zone: "a" },
        { at: "1.1.1.2", on: "here" },
      ],
      uses: ["1.1.1.2"],
    },
    {
      name: "those of the own zone when the preferred own node has none",
      spec: { trafficDistribution: "PreferSameNode" },
      ends: [
        { at: "1.1.1.1", zone: "a" },
        { at: "1.1.1.2", zone: "b" },
      ],
      uses: ["1.1.1.1"],
    },
    {
      name: "each once, however many slices have it",
      ends: [{ at: "1.1.1.1" }, { at: "1.1.1.1" }],
      uses: ["1.1.1.1"],
    },
    { name: "only what is an address", ends: [{ at: "evil; flush ruleset" }, { at: "01.2.3.4" }], uses: [] },
  ];
  for (const { name, spec, ends, uses } of cases) {
    test(name, () => {
      assert.deepEqual(
        targets(rulesOf(service(spec), [slice(ends)], node), "cluster/demo/serve/tcp/80"),
        uses,
      );
    });
  }

  test("with internalTrafficPolicy Local only those of the own node", () => {
    const spec = { internalTrafficPolicy: "Local" };
    const both = rulesOf(service(spec), [slice([{ at: "1.1.1.1", on: "here" }, { at: "1.1.1.2" }])], node);
    assert.deepEqual(targets(both, "local/demo/serve/tcp/80"), ["1.1.1.1"]);
    const none = rulesOf(service(spec), [slice([{ at: "1.1.1.2", on: "there" }])], node);
    assert.deepEqual([...none.elements], [["ignored 10.11.0.5 . tcp . 80", ""]]);
  });

  test("a port gets the endpoint port of its own name and protocol", () => {
    const spec = {
      ports: [
        { name: "web", port: 80 },
        { name: "dns", port: 53, protocol: "UDP" as const },
      ],
    };
    const ports = [
      { name: "web", port: 8080, protocol: "TCP" },
      { name: "dns", port: 5353, protocol: "UDP" },
    ];
    const rules = rulesOf(service(spec), [slice([{ at: "1.1.1.1" }], ports)], node);
    assert.deepEqual([...rules.chains.values()].flat(), [
      "meta l4proto tcp dnat ip to 1.1.1.1:8080",
      "meta l4proto udp dnat ip to 1.1.1.1:5353",
    ]);
  });

  test("a headless Service and an ExternalName have no rules", () => {
    for (const spec of [{ clusterIP: "None" }, { type: "ExternalName", clusterIP: undefined }]) {
      const rules = rulesOf(service(spec), [slice([{ at: "1.1.1.1" }])], node);
      assert.deepEqual([rules.chains.size, rules.elements.size], [0, 0]);
    }
  });

  test("a load balancer's address without endpoints is refused", () => {
    const spec = { type: "LoadBalancer", ports: [{ port: 80, nodePort: 30080 }] };
    const status = { loadBalancer: { ingress: [{ ip: "192.0.2.1" }] } };
    const without = rulesOf(service(spec, "serve", status), [], node);
    assert.deepEqual([...without.elements.keys()], ["refused 192.0.2.1 . tcp . 80"]);
    const served = rulesOf(service(spec, "serve", status), [slice([{ at: "1.1.1.1" }])], node);
    assert.deepEqual(
      [...served.elements.keys()],
      ["cluster-ips 10.11.0.5 . tcp . 80", "external-ips 192.0.2.1 . tcp . 80", "node-ports tcp . 30080"],
    );
  });
});

/** As much of nft as the commands need: fails where the kernel would. */
class Kernel {
  readonly chains = new Map<string, string[]>();
  readonly sets = new Map<string, Map<string, string>>();

  load(text: string): void {
    this.chains.clear();
    this.sets.clear();
    const blocks = text.matchAll(/^(chain|map|set) (\S+) \{\n([\s\S]*?)\n\}$/gm);
    for (const [, kind, name, body] of blocks) {
      if (kind === "chain") {
        this.chains.set(
          name!,
          body!.split("\n").map((line) => line.trim()),
        );
      } else {
        const elements = /elements = \{ ([\s\S]*) \}/.exec(body!)?.[1];
        this.sets.set(name!, new Map(elements?.split(",\n").map((one) => split(one))));
      }
    }
    this.#check();
  }

  apply(commands: string): void {
    for (const command of commands.split("\n").filter(Boolean)) {
      const match = /^(add|delete|flush) (chain|rule|set|element) ip (\S+) (\S+) ?(.*)$/.exec(command);
      assert.ok(match, command);
      const [, verb, what, table, name, rest] = match as unknown as [
        string,
        string,
        string,
        string,
        string,
        string,
      ];
      assert.equal(table, tableName);
      if (what === "element") {
        const set = this.sets.get(name);
        const [key, value] = split(rest.slice(2, -2));
        assert.ok(set && set.has(key) === (verb === "delete"), command);
        if (verb === "delete") set.delete(key);
        else set.set(key, value);
      } else if (what === "rule") {
        const rules = this.chains.get(name);
        assert.ok(rules, command);
        this.#checkRule(rest);
        rules.push(rest);
      } else {
        const space = what === "chain" ? this.chains : this.sets;
        assert.equal(space.has(name), verb !== "add", command);
        if (verb === "delete") {
          space.delete(name);
          assert.ok(!this.#references().has(name), `${command}: in use`);
        } else if (what === "chain") this.chains.set(name, []);
        else this.sets.set(name, new Map());
      }
    }
    this.#check();
  }

  dump(): unknown {
    const sorted = (map: Map<string, unknown>) => [...map].sort(([a], [b]) => (a < b ? -1 : 1));
    return [
      sorted(this.chains),
      sorted(this.sets).map(([name, set]) => [name, sorted(set as Map<string, string>)]),
    ];
  }

  #references(): Set<string> {
    const texts = [
      ...[...this.chains.values()].flat(),
      ...[...this.sets.values()].flatMap((set) => [...set.values()]),
    ];
    return new Set(texts.flatMap((text) => referred(text)));
  }

  #checkRule(rule: string): void {
    for (const name of referred(rule)) assert.ok(this.chains.has(name) || this.sets.has(name), `no ${name}`);
  }

  #check(): void {
    for (const name of this.#references())
      assert.ok(this.chains.has(name) || this.sets.has(name), `no ${name}`);
  }
}

function split(element: string): [string, string] {
  const [key, value = ""] = element.split(" : ") as [string, string?];
  return [key.trim(), value.trim()];
}

function referred(text: string): string[] {
  return [...text.matchAll(/(?:goto |jump |@)([^\s,}]+)/g)].map(([, name]) => name!);
}

describe("the table", () => {
  const address = fc.integer({ min: 1, max: 6 }).map((n) => `1.1.1.${n}`);
  const end = fc.record({
    at: address,
    on: fc.constantFrom("here", "there"),
    ready: fc.boolean(),
    ending: fc.boolean(),
  });
  const change = fc.record({
    name: fc.constantFrom("a", "b", "c"),
    gone: fc.boolean(),
    spec: fc.record({
      clusterIP: fc.constantFrom("10.11.0.1", "10.11.0.2"),
      sessionAffinity: fc.constantFrom("None", "ClientIP"),
      externalIPs: fc.uniqueArray(fc.constantFrom("192.0.2.1", "192.0.2.2")),
      type: fc.constantFrom("ClusterIP", "NodePort"),
      externalTrafficPolicy: fc.constantFrom("Cluster", "Local"),
      internalTrafficPolicy: fc.constantFrom("Cluster", "Local"),
      ports: fc.constantFrom(
        [{ port: 80, nodePort: 30080 }],
        [{ port: 80 }, { port: 81, nodePort: 30081 }],
        [{ port: 53, protocol: "UDP" }],
      ),
    }),
    ends: fc.array(end, { maxLength: 4 }),
  });

  test("changed step by step is the table made at once, and the kernel could follow every step", () => {
    fc.assert(
      fc.property(fc.array(fc.array(change, { maxLength: 4 }), { maxLength: 8 }), (batches) => {
        const table = new RuleTable("10.11.0.0/16");
        const kernel = new Kernel();
        kernel.load(table.whole());
        const state = new Map<string, Rules>();
        for (const batch of batches) {
          for (const { name, gone, spec, ends } of batch) {
            const rules = gone ? undefined : rulesOf(service(spec as never, name), [slice(ends)], node);
            table.set(`demo/${name}`, rules);
            if (rules) state.set(`demo/${name}`, rules);
            else state.delete(`demo/${name}`);
          }
          kernel.apply(table.takeChanges());
          const fresh = new RuleTable("10.11.0.0/16");
          for (const [name, rules] of state) fresh.set(name, rules);
          const whole = new Kernel();
          whole.load(fresh.whole());
          // Zones tell what was before and what is now apart: they are not a function of what is.
          assert.deepEqual(
            [...kernel.sets.get("udp-flows")!.keys()].sort(),
            [...whole.sets.get("udp-flows")!.keys()].sort(),
          );
          for (const one of [kernel, whole]) one.sets.delete("udp-flows");
          assert.deepEqual(kernel.dump(), whole.dump());
          assert.equal(table.takeChanges(), "");
          kernel.load(table.whole());
        }
      }),
      { numRuns: 300 },
    );
  });

  test("UDP flows move to another zone when one of their endpoints goes, and only then", () => {
    const table = new RuleTable("10.11.0.0/16", 65_534);
    const zone = (...ends: string[]) => {
      const spec = { ports: [{ port: 53, protocol: "UDP" }] };
      const ports = [{ name: "", port: 53, protocol: "UDP" }];
      const list =
        ends.length > 0
          ? [
              slice(
                ends.map((at) => ({ at })),
                ports,
              ),
            ]
          : [];
      table.set("demo/serve", rulesOf(service(spec), list, node));
      const kernel = new Kernel();
      kernel.load(table.whole());
      return kernel.sets.get("udp-flows")!.get("10.11.0.5 . 53");
    };
    assert.equal(zone("1.1.1.1"), "65534");
    assert.equal(zone("1.1.1.1", "1.1.1.2"), "65534");
    assert.equal(zone("1.1.1.2"), "65535");
    assert.equal(zone("1.1.1.3"), "1");
    assert.equal(zone(), undefined);
    assert.equal(zone("1.1.1.4"), "2");
  });

  test("one endpoint of one Service is a change of the same size among one and among a thousand Services", () => {
    const sizes = [1, 1000].map((count) => {
      const table = new RuleTable("10.11.0.0/16");
      const rules = (n: number, from: number) => {
        const ends = Array.from({ length: 10 }, (_, i) => ({
          at: `10.${n >> 8}.${n & 255}.${i}`,
          on: "here",
        }));
        const one = service({ clusterIP: `10.11.${n >> 8}.${n & 255}` }, `s${n}`);
        return rulesOf(one, [slice(ends.slice(from))], node);
      };
      for (let n = 0; n < count; n++) table.set(`demo/s${n}`, rules(n, 0));
      table.whole();
      table.set("demo/s0", rules(0, 1));
      return table.takeChanges().length;
    });
    assert.equal(sizes[0], sizes[1]);
  });
});
