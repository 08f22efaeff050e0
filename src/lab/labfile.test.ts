import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { WeftError } from "../api/index.ts";
import { parseLabFile } from "./labfile.ts";
import { contains, parseRange } from "./network/index.ts";
import { defaultCluster } from "./spec.ts";

const read = (text: string) => parseLabFile("lab.yaml", text);

/** The message of the error that a file gets, with its code. */
function refusal(text: string): string {
  try {
    read(text);
  } catch (error) {
    if (!(error instanceof WeftError)) throw error;
    return `${error.code} ${error.message}`;
  }
  throw new Error("the file was taken");
}

describe("a lab file", () => {
  test("with names alone is the lab of the same names", () => {
    assert.deepEqual(read("clusters: [{ name: c1 }, { name: c2 }]"), {
      clusters: [defaultCluster("c1", 0), defaultCluster("c2", 1)],
    });
  });

  test("says everything about a lab", () => {
    const spec = read(`
network: gateway
mesh: { proxy: envoy }
links:
- between: [east, west]
  latency: 20ms
images:
  example.com/cart: [node, /src/cart.js]
  hello: echo hello $0
  tools:
clusters:
- name: east
  podRange: 10.64.0.0/14
  serviceRange: 10.96.0.0/12
  balancerRange: 172.30.0.0/24
  clusterDomain: east.example
  apiPort: 6443
  region: eu-east
  zone: eu-east-1
  nodes:
  - name: east-1
    labels: { disk: ssd, example.com/rack: 7 }
  - zone: eu-east-2
- name: west
  nodes: 3
`);
    assert.equal(spec.network, "gateway");
    assert.deepEqual(spec.mesh, { proxy: "envoy" });
    assert.deepEqual(
      spec.clusters.map(({ balancerRange }) => balancerRange),
      ["172.30.0.0/24", "172.19.1.0/24"],
    );
    assert.deepEqual(spec.links, [{ between: ["east", "west"], latency: 20 }]);
    assert.deepEqual(spec.images, [
      { name: "example.com/cart", command: ["node", "/src/cart.js"] },
      { name: "hello", command: ["/bin/sh", "-c", "echo hello $0"] },
      { name: "tools" },
    ]);
    const [east, west] = spec.clusters;
    assert.deepEqual(
      [east!.podRange, east!.serviceRange, east!.clusterDomain, east!.hostPort, east!.apiAddress],
      ["10.64.0.0/14", "10.96.0.0/12", "east.example", 6443, "172.18.0.1"],
    );
    const region = { "topology.kubernetes.io/region": "eu-east" };
    const zone = (name: string) => ({ "topology.kubernetes.io/zone": name });
    assert.deepEqual(east!.nodes, [
      {
        name: "east-1",
        address: "172.18.0.2",
        podRange: "10.64.0.0/24",
        labels: { ...region, ...zone("eu-east-1"), disk: "ssd", "example.com/rack": "7" },
      },
      {
        name: "east-worker",
        address: "172.18.0.3",
        podRange: "10.64.1.0/24",
        labels: { ...region, ...zone("eu-east-2") },
      },
    ]);
    assert.deepEqual(
      west!.nodes.map(({ name, podRange }) => [name, podRange]),
      [
        ["west-control-plane", "10.12.0.0/24"],
        ["west-worker", "10.12.1.0/24"],
        ["west-worker2", "10.12.2.0/24"],
      ],
    );
  });

  const refused: [what: string, file: string, message: string][] = [
    ["nothing in it", "", "LAB_FILE_INVALID lab.yaml:1:1: it is empty; it needs clusters"],
    ["no clusters", "network: flat", "LAB_FILE_INVALID lab.yaml:1:1: it needs clusters"],
    [
      "a list of none",
      "clusters: []",
      "LAB_FILE_INVALID lab.yaml:1:1: clusters: it needs at least one cluster",
    ],
    ["text that is no YAML", "clusters:\n- {", "LAB_FILE_INVALID lab.yaml:2:4: "],
    [
      "a name given twice",
      "clusters: []\nclusters: []",
      "LAB_FILE_INVALID lab.yaml:2:1: Map keys must be unique",
    ],
    [
      "a field that there is not",
      "clusters:\n- name: c1\n  podrange: 10.0.0.0/8\n",
      "LAB_FILE_INVALID lab.yaml:3:13: clusters[0].podrange: there is no such field; there are name, podRange, ",
    ],
    [
      "a cluster without a name",
      "clusters:\n- nodes: 2",
      "LAB_FILE_INVALID lab.yaml:2:3: clusters[0]: a cluster needs a name",
    ],
    [
      "a bad name",
      "clusters:\n- name: C_1",
      "LAB_FILE_INVALID lab.yaml:2:9: clusters[0].name: 'C_1' is no name for a cluster: ",
    ],
    [
      "a name that the lab uses",
      "clusters: [{ name: backbone }]",
      "LAB_FILE_INVALID lab.yaml:1:20: clusters[0].name: ",
    ],
    [
      "two clusters of a name",
      "clusters:\n- name: c1\n- name: c1",
      "LAB_FILE_INVALID lab.yaml:3:3: clusters[1]: there is another with the name c1",
    ],
    [
      "two clusters on a port",
      "clusters:\n- name: c1\n  apiPort: 7001\n- name: c2\n  apiPort: 7001",
      "LAB_FILE_INVALID lab.yaml:4:3: clusters[1]: there is another with the apiPort 7001",
    ],
    [
      "more than one document",
      "clusters: [{ name: c1 }]\n---\nclusters: [{ name: c2 }]",
      "LAB_FILE_INVALID lab.yaml:2:1: it should be one document, without '---'",
    ],
    [
      "a range that is none",
      "clusters:\n- name: c1\n  podRange: 10.0.0/8",
      "LAB_FILE_INVALID lab.yaml:3:13: clusters[0].podRange: '10.0.0/8' is no IPv4 range; write it as 10.10.0.0/16",
    ],
    [
      "an address in a range",
      "clusters:\n- name: c1\n  podRange: 10.0.0.7/16",
      "LAB_FILE_INVALID lab.yaml:3:13: clusters[0].podRange: '10.0.0.7/16' is no range; the range that the address is in is 10.0.0.0/16",
    ],
    [
      "a tiny range",
      "clusters:\n- name: c1\n  serviceRange: 10.0.0.0/30",
      "LAB_FILE_INVALID lab.yaml:3:17: clusters[0].serviceRange: '10.0.0.0/30' should be between /12 and /28",
    ],
    [
      "ranges that overlap",
      "clusters:\n- name: c1\n- name: c2\n  serviceRange: 10.10.128.0/17",
      "RANGE_IN_USE the address range 10.10.128.0/17 of the services of c2 (lab.yaml:4:17: clusters[1].serviceRange) overlaps the pods of c1 (10.10.0.0/16)",
    ],
    [
      "a range that a default overlaps",
      "clusters:\n- name: c1\n  podRange: 10.12.0.0/14\n- name: c2",
      "RANGE_IN_USE the address range 10.12.0.0/16 of the pods of c2 (lab.yaml:4:3: clusters[1]) overlaps the pods of c1 (10.12.0.0/14)",
    ],
    [
      "the backbone's range",
      "clusters:\n- name: c1\n  podRange: 172.16.0.0/12",
      "RANGE_IN_USE the address range 172.16.0.0/12 of the pods of c1 (lab.yaml:3:13: clusters[0].podRange) overlaps the lab's backbone (172.18.0.0/16)",
    ],
    [
      "no room for nodes",
      "clusters:\n- name: c1\n  podRange: 10.0.0.0/26\n  nodes: 5",
      "LAB_FILE_INVALID lab.yaml:4:10: clusters[0].nodes: 10.0.0.0/26 has no room for the pods of 5 nodes",
    ],
    [
      "no nodes",
      "clusters:\n- name: c1\n  nodes: 0",
      "LAB_FILE_INVALID lab.yaml:3:10: clusters[0].nodes: it should be a whole number from 1 to 250",
    ],
    [
      "two nodes of a name",
      "clusters:\n- name: c1\n- name: c2\n  nodes:\n  - name: c1-control-plane",
      "LAB_FILE_INVALID lab.yaml:5:5: clusters[1].nodes[0]: 'c1-control-plane' is the name of a node of c1 already; names are unique in a lab",
    ],
    [
      "a node called as a cluster",
      "clusters:\n- name: c1\n  nodes:\n  - name: c1",
      "LAB_FILE_INVALID lab.yaml:4:5: clusters[0].nodes[0]: 'c1' is the name of the cluster c1 already; names are unique in a lab",
    ],
    [
      "a bad label",
      "clusters:\n- name: c1\n  nodes:\n  - labels:\n      a b: c",
      "LAB_FILE_INVALID lab.yaml:5:12: clusters[0].nodes[0].labels[a b]: 'a b' is no name for a label",
    ],
    [
      "a bad zone",
      "clusters:\n- name: c1\n  zone: a zone",
      "LAB_FILE_INVALID lab.yaml:3:9: clusters[0].zone: 'a zone' is no value for a label: ",
    ],
    [
      "the clusterset's domain",
      "clusters:\n- name: c1\n  clusterDomain: clusterset.local",
      "LAB_FILE_INVALID lab.yaml:3:18: clusters[0].clusterDomain: 'clusterset.local' overlaps clusterset.local, ",
    ],
    [
      "a domain above it",
      "clusters:\n- name: c1\n  clusterDomain: local",
      "LAB_FILE_INVALID lab.yaml:3:18: clusters[0].clusterDomain: 'local' overlaps clusterset.local, ",
    ],
    [
      "a proxy that there is not",
      "mesh: { proxy: nginx }\nclusters: [{ name: c1 }]",
      "LAB_FILE_INVALID lab.yaml:1:16: mesh.proxy: it should be embedded or envoy",
    ],
    [
      "load balancers where another cluster has its own",
      "clusters: [{ name: c1 }, { name: c2, balancerRange: 172.19.0.0/24 }]",
      "RANGE_IN_USE the address range 172.19.0.0/24 of the load balancers of c2 (lab.yaml:1:53: clusters[1].balancerRange) overlaps the load balancers of c1 (172.19.0.0/24)",
    ],
    [
      "a network that there is not",
      "network: mesh\nclusters: [{ name: c1 }]",
      "LAB_FILE_INVALID lab.yaml:1:10: network: it should be flat or gateway",
    ],
    [
      "a link to nowhere",
      "clusters: [{ name: c1 }]\nlinks:\n- between: [c1, c9]\n  latency: 1ms",
      "LAB_FILE_INVALID lab.yaml:3:17: links[0].between[1]: there is no cluster 'c9'",
    ],
    [
      "a link of one",
      "clusters: [{ name: c1 }]\nlinks:\n- between: [c1, c1]\n  latency: 1ms",
      "LAB_FILE_INVALID lab.yaml:3:3: links[0].between: a link is between two clusters: [c1, c2]",
    ],
    [
      "a link twice",
      "clusters: [{ name: c1 }, { name: c2 }]\nlinks:\n- { between: [c1, c2], latency: 1ms }\n- { between: [c2, c1], latency: 2ms }",
      "LAB_FILE_INVALID lab.yaml:4:3: links[1]: there is another with the between c1 and c2",
    ],
    [
      "a latency that is none",
      "clusters: [{ name: c1 }, { name: c2 }]\nlinks:\n- { between: [c1, c2], latency: 50 }",
      "LAB_FILE_INVALID lab.yaml:3:33: links[0].latency: '50' is no latency; write it as 50ms, 1.5s or 200us",
    ],
    [
      "a bad image name",
      "clusters: [{ name: c1 }]\nimages:\n  A:b:c: [x]",
      "LAB_FILE_INVALID lab.yaml:3:3: images[A:b:c]: 'A:b:c' is no image name; write it as [REGISTRY/]NAME[:TAG]",
    ],
    [
      "a command of no word",
      "clusters: [{ name: c1 }]\nimages:\n  x: []",
      "LAB_FILE_INVALID lab.yaml:3:3: images.x: a command has at least one word",
    ],
  ];
  for (const [what, file, message] of refused) {
    test(`is refused with ${what}`, () => {
      const says = refusal(file);
      assert.ok(says.startsWith(message), says);
    });
  }

  test("gives every node a range of its own within its cluster's", () => {
    const file = fc.record({ bits: fc.integer({ min: 8, max: 28 }), nodes: fc.integer({ min: 1, max: 40 }) });
    fc.assert(
      fc.property(file, ({ bits, nodes }) => {
        const podRange = `10.0.0.0/${bits}`;
        let spec: ReturnType<typeof read>;
        try {
          spec = read(
            `clusters: [{ name: c1, podRange: ${podRange}, serviceRange: 192.168.0.0/20, nodes: ${nodes} }]`,
          );
        } catch (error) {
          assert.ok(2 ** (28 - bits) < nodes, String(error));
          return;
        }
        const ranges = spec.clusters[0]!.nodes.map((node) => node.podRange);
        let free = 0;
        for (const range of ranges) {
          const { first, size } = parseRange(range);
          assert.ok(first >= free, `${ranges}`);
          free = first + size;
          assert.ok(contains(podRange, range.split("/")[0]!), `${ranges}`);
        }
        assert.ok(free <= parseRange(podRange).first + parseRange(podRange).size, `${ranges}`);
      }),
    );
  });

  test("never throws anything but a WeftError, whatever is in it", () => {
    const value = fc.letrec((tie) => ({
      any: fc.oneof(
        { depthSize: "small" },
        fc.jsonValue(),
        fc.constantFrom("c1", "10.0.0.0/8", 3, null),
        tie("file"),
      ),
      file: fc.dictionary(
        fc.constantFrom(
          "clusters",
          "name",
          "nodes",
          "podRange",
          "links",
          "between",
          "latency",
          "images",
          "labels",
          "x",
        ),
        fc.oneof(tie("any"), fc.array(tie("any"), { maxLength: 3 })),
      ),
    }));
    fc.assert(
      fc.property(value.file, (file) => {
        try {
          read(JSON.stringify(file));
        } catch (error) {
          assert.ok(error instanceof WeftError, String(error));
        }
      }),
      { numRuns: 300 },
    );
  });
});
