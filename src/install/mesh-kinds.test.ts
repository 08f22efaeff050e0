/** The definitions of meshes' kinds on an API server: taken without a warning, and what they let in and refuse. */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import {
  authorizationPolicies,
  destinationRules,
  gatewayApi,
  gateways,
  type KubeObject,
  peerAuthentications,
  type Resource,
  rateLimits,
  serviceEntries,
  sidecars,
  virtualServices,
} from "../api/index.ts";
import type { Draft, KubeClient } from "../kube/index.ts";
import { definitionManifests } from "./manifests.ts";
import { cluster } from "./testing/cluster.ts";

let client: KubeClient;
const warnings: string[] = [];
before(async () => {
  const made = await cluster("a");
  client = made.client;
  const transport = made.server.as({ name: "admin", groups: ["system:masters"] });
  for (const { object } of definitionManifests()) {
    const response = await transport({
      method: "POST",
      path: "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
      headers: { "content-type": "application/json" },
      body: Buffer.from(JSON.stringify(object)),
    });
    const { warning } = response.headers as { warning?: string };
    if (warning || response.status !== 201)
      warnings.push(`${object.metadata.name}: ${warning ?? response.status}`);
    for await (const _ of response.body);
  }
});

test("every rule of every definition is one that the lab's API server checks", () => {
  assert.deepEqual(warnings, []);
});

let count = 0;
/** Resolves to what the API server says against it, or to "taken". */
async function judged(resource: Resource, spec: unknown, version = resource.version): Promise<string> {
  const object = { metadata: { namespace: "default", name: `x${++count}` }, spec };
  try {
    await client.create({ ...resource, version }, object as unknown as Draft<KubeObject>);
    return "taken";
  } catch (error) {
    return (error as Error).message.replace(/^.*? is invalid: /, "");
  }
}

const port = { number: 443, name: "tls", protocol: "TLS" };
const listener = { name: "http", port: 80, protocol: "HTTP" };
const limit = { name: "all", tokens: 1, interval: "1s" };

describe("kinds of a mesh", () => {
  const route = [{ destination: { host: "catalog", subset: "v1" }, weight: 70 }];
  const cases: [what: string, resource: Resource, spec: unknown, expected: RegExp, version?: string][] = [
    ["a route of 2020", virtualServices, { hosts: ["catalog"], http: [{ route }] }, /^taken$/, "v1alpha3"],
    ["no duration", virtualServices, { hosts: ["a"], http: [{ timeout: "soon" }] }, /http\[0\]\.timeout/],
    [
      "subsets",
      destinationRules,
      { host: "a", subsets: [{ name: "v1", labels: { version: "v1" } }] },
      /^taken$/,
    ],
    [
      "two balancers",
      destinationRules,
      {
        host: "a",
        trafficPolicy: { loadBalancer: { simple: "RANDOM", consistentHash: { useSourceIp: true } } },
      },
      /one and only one/,
    ],
    ["a gateway", gateways, { selector: { istio: "x" }, servers: [{ port, hosts: ["*"] }] }, /^taken$/],
    ["an entry", serviceEntries, { hosts: ["a.example"], ports: [port], resolution: "DNS" }, /^taken$/],
    ["an entry for all", serviceEntries, { hosts: ["*"], ports: [port], resolution: "DNS" }, /wildcard/],
    ["egress", sidecars, { egress: [{ hosts: ["./*"] }] }, /^taken$/],
    ["strict", peerAuthentications, { mtls: { mode: "STRICT" } }, /^taken$/],
    [
      "ports of nobody",
      peerAuthentications,
      { portLevelMtls: { 80: { mode: "STRICT" } } },
      /requires selector/,
    ],
    ["deny by default", authorizationPolicies, {}, /^taken$/],
    ["no action", authorizationPolicies, { action: "ASK" }, /action: Unsupported value: "ASK"/],
    ["one listener", gatewayApi.gateways, { gatewayClassName: "weft", listeners: [listener] }, /^taken$/],
    [
      "two of one name",
      gatewayApi.gateways,
      { gatewayClassName: "weft", listeners: [listener, { ...listener, port: 81 }] },
      /listeners\[1\]: Duplicate/,
    ],
    ["a backend", gatewayApi.httpRoutes, { rules: [{ backendRefs: [{ name: "b", port: 80 }] }] }, /^taken$/],
    ["a limit", rateLimits, { limits: [limit] }, /^taken$/],
    ["no tokens", rateLimits, { limits: [{ ...limit, tokens: 0 }] }, /tokens: Invalid value: 0/],
    [
      "too short",
      rateLimits,
      { limits: [{ ...limit, interval: "10ms" }] },
      /must be a duration of 50ms at least/,
    ],
    ["never", rateLimits, { limits: [{ ...limit, interval: "often" }] }, /interval: Invalid value/],
    [
      "everything at once",
      rateLimits,
      { limits: [{ ...limit, per: { header: "x", clientIdentity: true } }] },
      /per: Too many/,
    ],
    [
      "pods and gateways",
      rateLimits,
      {
        selector: { matchLabels: { a: "b" } },
        targetRefs: [{ kind: "Gateway", name: "g" }],
        limits: [limit],
      },
      /only one of selector and targetRefs/,
    ],
  ];
  for (const [what, resource, spec, expected, version] of cases) {
    test(`${resource.kind}: ${what}`, async () => {
      assert.match(await judged(resource, spec, version), expected);
    });
  }
});
