/** A policy that is not understood, or not served, must not open anything: what each part becomes, and what is said. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Authorization, AuthorizationRule } from "./model.ts";
import { type TestMesh, testMesh, workload } from "./testing.ts";

const gatewayService = workload("istio-ingressgateway", {
  namespace: "istio-system",
  ip: "10.11.0.80",
  base: "10.10.7",
  ports: "[{ name: http, port: 80, targetPort: 8080 }, { name: https, port: 443, targetPort: 8443 }]",
});
const policy = (spec: string, name = "p", namespace = "coolapp") => `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: ${name}, namespace: ${namespace} }
spec: ${spec}`;

function meshWith(...yaml: string[]): TestMesh {
  const mesh = testMesh({ trustDomain: "c1.clusterset.local", trustDomainAliases: ["old.org"] });
  mesh.apply([workload("catalog"), gatewayService, ...yaml].join("\n---\n"));
  return mesh;
}

function sidecar(mesh: TestMesh, port = 8080): readonly Authorization[] {
  const { listeners } = mesh.config(mesh.connect({ namespace: "coolapp", labels: { app: "catalog" } }));
  assert.deepEqual(mesh.bugs, []);
  const { chains } = listeners.get("virtualInbound")!;
  return chains.find(({ match }) => match.destinationPort === port)!.authorization;
}

/** `undefined`: the policy is there and has no rule that could hold. */
const ruleOf = (authorizations: readonly Authorization[]): AuthorizationRule | undefined =>
  authorizations[0]?.policies[0]?.rules[0];
const codesOf = (mesh: TestMesh, name = "p") =>
  (mesh.findings.get(`AuthorizationPolicy/coolapp/${name}`) ?? []).map(({ code, origin }) => [
    code,
    origin.field,
  ]);

const anyRule = { from: [], to: [], when: [] };
const from = (source: object) => ({ ...anyRule, from: [source] });

/** Each rule as it stands in an ALLOW and in a DENY policy; ALLOW undefined: it never holds. */
const table: {
  what: string;
  rule: string;
  allow: AuthorizationRule | undefined;
  deny: AuthorizationRule;
  code?: string;
}[] = [
  {
    what: "a request principal, which nobody has here",
    rule: "{ from: [{ source: { namespaces: [x], requestPrincipals: ['*'] } }] }",
    allow: undefined,
    deny: from({ namespaces: ["x"] }),
    code: "WEFT0901",
  },
  {
    what: "no request principal",
    rule: "{ from: [{ source: { notRequestPrincipals: ['*'] } }] }",
    allow: undefined,
    deny: from({}),
    code: "WEFT0901",
  },
  {
    what: "a request principal, or a namespace",
    rule: "{ from: [{ source: { requestPrincipals: ['*'] } }, { source: { namespaces: [x] } }] }",
    allow: from({ namespaces: ["x"] }),
    deny: { ...anyRule, from: [{}, { namespaces: ["x"] }] },
    code: "WEFT0901",
  },
  {
    what: "a claim of a token",
    rule: "{ when: [{ key: 'request.auth.claims[iss]', values: [a] }] }",
    allow: undefined,
    deny: anyRule,
    code: "WEFT0901",
  },
  {
    what: "a condition that nobody knows",
    rule: "{ when: [{ key: nonsense, values: [a] }] }",
    allow: undefined,
    deny: anyRule,
    code: "WEFT0106",
  },
  {
    what: "addresses, one of which is none",
    rule: "{ from: [{ source: { ipBlocks: [10.0.0.0/8, nonsense] } }] }",
    allow: from({ ipBlocks: ["10.0.0.0/8"] }),
    deny: from({}),
    code: "WEFT0106",
  },
  {
    what: "all but addresses, one of which is none",
    rule: "{ from: [{ source: { notIpBlocks: [10.0.0.0/8, nonsense] } }] }",
    allow: undefined,
    deny: from({ notIpBlocks: ["10.0.0.0/8"] }),
    code: "WEFT0106",
  },
  {
    what: "a port that is none",
    rule: "{ to: [{ operation: { ports: ['http'], methods: [GET] } }] }",
    allow: undefined,
    deny: { ...anyRule, to: [{ methods: ["GET"] }] },
    code: "WEFT0106",
  },
  {
    what: "a value that the key cannot have",
    rule: "{ when: [{ key: destination.port, values: ['8080', 'http'] }] }",
    allow: { ...anyRule, when: [{ key: "destination.port", values: ["8080"] }] },
    deny: { ...anyRule, when: [{ key: "destination.port" }] },
    code: "WEFT0106",
  },
  {
    what: "trust domains, our own by any of its names",
    rule: "{ from: [{ source: { trustDomains: [cluster.local, c2.clusterset.local], notTrustDomains: ['*.evil'] } }] }",
    allow: from({
      trustDomains: ["c1.clusterset.local", "old.org", "c2.clusterset.local"],
      notTrustDomains: ["*.evil"],
    }),
    deny: from({
      trustDomains: ["c1.clusterset.local", "old.org", "c2.clusterset.local"],
      notTrustDomains: ["*.evil"],
    }),
  },
];

describe("what is not served never opens anything", () => {
  for (const { what, rule, allow, deny, code } of table)
    test(what, () => {
      const allows = meshWith(policy(`{ rules: [${rule}] }`));
      assert.equal(sidecar(allows)[0]?.action, "allow");
      assert.deepEqual(ruleOf(sidecar(allows)), allow, "allow");
      const denies = meshWith(policy(`{ action: DENY, rules: [${rule}] }`));
      assert.equal(sidecar(denies)[0]?.action, "deny");
      assert.deepEqual(ruleOf(sidecar(denies)), deny, "deny");
      for (const mesh of [allows, denies])
        assert.deepEqual([...new Set(codesOf(mesh).map(([each]) => each))], code ? [code] : []);
    });

  test("CUSTOM: what would be asked of an authorizer is refused, and it is said", () => {
    const mesh = meshWith(
      policy(
        "{ action: CUSTOM, provider: { name: opa }, rules: [{ to: [{ operation: { paths: [/admin] } }] }] }",
      ),
    );
    const [only, ...more] = sidecar(mesh);
    assert.deepEqual([only?.action, more], ["deny", []]);
    assert.deepEqual(ruleOf([only!]), { ...anyRule, to: [{ paths: ["/admin"] }] });
    assert.ok(codesOf(mesh).some(([code, field]) => code === "WEFT0901" && field === "spec.action"));
  });
});

describe("policies with a target", () => {
  test("a Service: the pods that it selects", () => {
    const mesh = meshWith(
      policy("{ targetRefs: [{ kind: Service, name: catalog }] }"),
      policy("{ targetRef: { kind: Service, name: shop } }", "others"),
    );
    assert.deepEqual(
      sidecar(mesh).map(({ action, policies }) => [action, policies.map(({ name }) => name)]),
      [["allow", ["ns[coolapp]-policy[p]"]]],
    );
    assert.deepEqual(codesOf(mesh), []);
    assert.deepEqual(codesOf(mesh, "others"), [["WEFT0101", "spec.targetRef"]]);
  });

  for (const ref of [
    "{ group: gateway.networking.k8s.io, kind: GatewayClass, name: istio-waypoint }",
    "{ group: networking.istio.io, kind: ServiceEntry, name: x }",
    "{ kind: Service, name: catalog, namespace: other }",
  ])
    test(`not served, and said: ${ref}`, () => {
      const mesh = meshWith(policy(`{ targetRefs: [${ref}] }`));
      assert.deepEqual(sidecar(mesh), []);
      assert.deepEqual(codesOf(mesh), [["WEFT0901", "spec.targetRefs[0]"]]);
    });

  const gateway = (name: string, hostname: string) => `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: ${name} }
spec: { gatewayClassName: weft, listeners: [{ name: http, port: 80, protocol: HTTP, hostname: "${hostname}" }] }
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: ${name} }
spec: { parentRefs: [{ name: ${name} }], rules: [{ backendRefs: [{ name: catalog, port: 8080 }] }] }`;
  const target = (name: string) =>
    `targetRefs: [{ group: gateway.networking.k8s.io, kind: Gateway, name: ${name} }]`;
  const atGateway = (mesh: TestMesh): readonly Authorization[] => {
    const { listeners } = mesh.config(
      mesh.connect({ namespace: "istio-system", type: "gateway", labels: { app: "istio-ingressgateway" } }),
    );
    assert.deepEqual(mesh.bugs, []);
    return listeners.get("0.0.0.0_8080")!.chains[0]!.authorization;
  };

  test("a Gateway: what comes in by its listeners", () => {
    const mesh = meshWith(gateway("front", "*.example.com"), policy(`{ ${target("front")} }`));
    assert.deepEqual(
      atGateway(mesh).map(({ action, policies }) => [action, policies.map(({ rules }) => rules)]),
      [["allow", [[]]]],
    );
    assert.deepEqual(sidecar(mesh), []);
    assert.deepEqual(codesOf(mesh), []);
  });

  test("a Gateway that shares its port: its hosts, and the others' are left alone", () => {
    const mesh = meshWith(
      gateway("front", "*.example.com"),
      gateway("back", "b.example.com"),
      policy(`{ ${target("front")}, rules: [{ to: [{ operation: { methods: [GET] } }] }] }`, "some"),
      policy(`{ ${target("back")}, action: DENY, rules: [{}] }`, "deny"),
    );
    const front = ["*.example.com", "*.example.com:80"];
    const back = ["b.example.com", "b.example.com:*"];
    assert.deepEqual(
      atGateway(mesh).map(({ action, policies }) => [action, policies.flatMap(({ rules }) => rules)]),
      [
        ["deny", [{ ...anyRule, within: { hosts: back } }]],
        [
          "allow",
          [
            { ...anyRule, to: [{ methods: ["GET"] }], within: { hosts: front, notHosts: back } },
            { ...anyRule, to: [{ notHosts: front }, { hosts: back }] },
          ],
        ],
      ],
    );
  });

  test("where all of the gateway's pods are closed, a Gateway's policy opens its own hosts alone", () => {
    const mesh = meshWith(
      gateway("front", "a.example.com"),
      gateway("back", "b.example.com"),
      policy("{ selector: { matchLabels: { app: istio-ingressgateway } } }", "closed", "istio-system"),
      policy(`{ ${target("front")}, rules: [{}] }`),
    );
    assert.deepEqual(
      atGateway(mesh).flatMap(({ policies }) => policies.flatMap(({ rules }) => rules)),
      [{ ...anyRule, within: { hosts: ["a.example.com", "a.example.com:*"] } }],
    );
  });
});
