/** Admission webhooks: who is asked what and when, what comes of the answers, and what is said when there are none. */
import { after } from "node:test";
import { patchOf, type Saying, startWebhook } from "../../support/webhook.ts";
import { configMap, deployment, deployments, maps, pods } from "./objects.ts";
import { type Api, type Loose, type Scenario, suite, within } from "./suite.ts";

const webhook = await startWebhook(["localhost", "hook.webhooks.svc"]);
after(() => webhook.close());
// Whoever asks is a server under test; what it keeps open must not keep the tests.
const configurations = "/apis/admissionregistration.k8s.io/v1";

const everything = {
  operations: ["*"],
  apiGroups: ["*"],
  apiVersions: ["*"],
  resources: ["*/*"],
};

/** A webhook of a configuration that only sees this scenario's namespace. */
const hook = (name: string, more: object = {}) => ({
  name: `${name}.example.com`,
  clientConfig: { url: `https://127.0.0.1:${webhook.port}/${name}`, caBundle: webhook.caBundle },
  rules: [everything],
  namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "{ns}" } },
  admissionReviewVersions: ["v1"],
  sideEffects: "None",
  ...more,
});

const made = new WeakMap<Api, string[]>();

/** Makes configurations and waits until the server asks their webhooks. */
async function configure(api: Api, kind: "mutating" | "validating", ...named: [string, object[]][]) {
  const path = `${configurations}/${kind}webhookconfigurations`;
  for (const [name, hooks] of named) {
    // The last of all to be noticed says that all have been.
    const probe = hook("probe", { rules: [{ ...everything, resources: ["limitranges"] }] });
    const answer = await api.ask("POST", path, {
      metadata: { name: `{ns}-${name}` },
      webhooks: [probe, ...hooks],
    });
    if (answer.code !== 201) throw new Error(JSON.stringify(answer.body));
    made.set(api, [...(made.get(api) ?? []), `${path}/{ns}-${name}`]);
  }
  const wanted = named.length;
  await within(
    10_000,
    (async () => {
      for (;;) {
        webhook.take();
        await api.ask("POST", "/api/v1/namespaces/{ns}/limitranges?dryRun=All", {
          metadata: { name: "probe" },
          spec: { limits: [] },
        });
        if (webhook.take().filter(({ path }) => path === "/probe").length >= wanted) return;
      }
    })(),
    "the webhooks are asked",
  );
  webhook.take();
}

async function clean(api: Api): Promise<void> {
  for (const path of made.get(api) ?? []) await api.ask("DELETE", path);
}

/** What webhooks were asked since the last time, compared. */
function asked(api: Api, seen: (request: Loose, path: string) => Loose = (request) => request): void {
  for (const { path, review } of webhook.take()) {
    // Who asks is the test's own user, whose name differs.
    const { request } = review;
    request.userInfo = { groups: request.userInfo.groups };
    api.note(`ASKED ${path}`, { request: seen(request, path) });
  }
}

const briefly = ({ operation, name, resource, subResource, namespace }: Loose, path: string) =>
  [path, operation, resource.resource, subResource, namespace, name].join(" ");

const add = (path: string, value: unknown) => patchOf({ op: "add", path, value });

/** One scenario with its own webhooks, which go with it. */
const scenario = (sentence: string, run: (api: Api) => Promise<void>): Scenario => [
  sentence,
  async (api) => {
    webhook.reset();
    api.mask(new RegExp(webhook.caBundle.replaceAll("+", "\\+"), "g"), "CA");
    api.mask(new RegExp(`:${webhook.port}\\b`, "g"), ":PORT");
    try {
      await run(api);
    } finally {
      await clean(api);
    }
  },
];

/** Says something at `/NAME` and writes an object that its webhook sees. */
async function tried(api: Api, name: string, saying: Saying): Promise<void> {
  webhook.say(`/${name}`, saying);
  await api.post(maps, configMap("tried"));
  await api.ask("DELETE", `${maps}/tried`);
}

const scenarios: Scenario[] = [
  scenario("a webhook's patch is stored, and nobody owns what it added", async (api) => {
    webhook.say("/mutate", ({ object }: Loose) =>
      add(object.data ? "/data/added" : "/data", object.data ? "yes" : { added: "yes" }),
    );
    await configure(api, "mutating", [
      "m",
      [hook("mutate", { rules: [{ ...everything, operations: ["CREATE", "UPDATE"] }] })],
    ]);
    await api.post(maps, configMap("a", { one: "1" }));
    await api.patch(`${maps}/a`, { data: { added: "no", two: "2" } });
    await api.patch(`${maps}/a`, [{ op: "remove", path: "/data/added" }], "json");
    await api.apply(
      `${maps}/b`,
      { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "b" }, data: { three: "3" } },
      "applier",
    );
    await api.get(maps);
  }),
  scenario("a review says everything about the request", async (api) => {
    await configure(api, "validating", ["v", [hook("review")]]);
    const say = async (answer: Promise<unknown>) => {
      await answer;
      asked(api);
    };
    await say(
      api.ask("POST", `${maps}?fieldManager=me&fieldValidation=Strict`, configMap("a", { one: "1" })),
    );
    await say(api.ask("POST", maps, { metadata: { generateName: "made-" } }));
    await say(api.ask("PUT", `${maps}/a?dryRun=All`, configMap("a", { one: "2" })));
    await say(
      api.ask(
        "PATCH",
        `${maps}/a?fieldManager=me`,
        { data: { two: "2" } },
        { "content-type": "application/merge-patch+json" },
      ),
    );
    await say(
      api.ask(
        "PATCH",
        `${maps}/c?fieldManager=me`,
        { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "c" } },
        { "content-type": "application/apply-patch+yaml" },
      ),
    );
    await say(api.ask("DELETE", `${maps}/a`, { gracePeriodSeconds: 0, propagationPolicy: "Background" }));
    await say(api.ask("DELETE", `${maps}?labelSelector=none`));
    await say(api.ask("DELETE", `${maps}?fieldSelector=metadata.name=c`));
  }),
  scenario("subresources are reviewed as what they are", async (api) => {
    await configure(api, "validating", ["v", [hook("review")]]);
    await api.ask("POST", deployments, deployment("d"));
    webhook.take();
    const merge = { "content-type": "application/merge-patch+json" };
    await api.ask("PATCH", `${deployments}/d/scale`, { spec: { replicas: 3 } }, merge);
    await api.ask("PATCH", `${deployments}/d/status`, { status: { replicas: 1 } }, merge);
    asked(api);
    await api.ask("POST", "/api/v1/namespaces/{ns}/serviceaccounts", { metadata: { name: "default" } });
    await api.ask("POST", pods, {
      metadata: { name: "p" },
      spec: { containers: [{ name: "c", image: "i" }], automountServiceAccountToken: false },
    });
    webhook.take();
    await api.ask("POST", `${pods}/p/binding`, { metadata: { name: "p" }, target: { name: "n" } });
    await api.ask("POST", `${pods}/p/eviction`, {
      metadata: { name: "p" },
      deleteOptions: { gracePeriodSeconds: 0 },
    });
    await api.ask("POST", "/api/v1/namespaces/{ns}/serviceaccounts/default/token", {
      spec: { expirationSeconds: 600 },
    });
    asked(api, (request) => ({
      ...request,
      object: request.object && { kind: request.object.kind, metadata: request.object.metadata?.name },
      oldObject: request.oldObject?.kind ?? null,
    }));
  }),
  scenario("requests about namespaces are of that namespace and of the cluster", async (api) => {
    await configure(api, "validating", [
      "v",
      [
        hook("all"),
        hook("cluster", { rules: [{ ...everything, scope: "Cluster" }] }),
        hook("namespaced", { rules: [{ ...everything, scope: "Namespaced" }] }),
      ],
    ]);
    await api.ask(
      "PATCH",
      "/api/v1/namespaces/{ns}",
      { metadata: { labels: { a: "b" } } },
      { "content-type": "application/merge-patch+json" },
    );
    await api.ask("POST", maps, configMap("a"));
    const calls = webhook.take().map(({ path, review }) => briefly(review.request, path));
    api.note("ASKED", calls.sort());
  }),
  scenario("rules select by operation, group, version and resource", async (api) => {
    const rule = (more: object) => ({ rules: [{ ...everything, resources: ["configmaps"], ...more }] });
    await configure(api, "validating", [
      "v",
      [
        hook("creates", rule({ operations: ["CREATE"] })),
        hook("deletes", rule({ operations: ["DELETE", "CONNECT"] })),
        hook("apps", rule({ apiGroups: ["apps"], resources: ["*"] })),
        hook("core", rule({ apiGroups: [""], apiVersions: ["v1"] })),
        hook("v2", rule({ apiVersions: ["v2"] })),
        hook("star", rule({ resources: ["*"] })),
        hook("scales", rule({ resources: ["*/scale"] })),
        hook("deploymentparts", rule({ resources: ["deployments/*"] })),
        hook("two", {
          rules: [
            { ...everything, resources: ["pods"] },
            { ...everything, resources: ["deployments", "configmaps"] },
          ],
        }),
      ],
    ]);
    await api.ask("POST", maps, configMap("a"));
    await api.ask("POST", deployments, deployment("d"));
    await api.ask(
      "PATCH",
      `${deployments}/d/scale`,
      { spec: { replicas: 3 } },
      { "content-type": "application/merge-patch+json" },
    );
    await api.ask("DELETE", `${maps}/a`);
    const calls = webhook.take().map(({ path, review }) => briefly(review.request, path));
    api.note("ASKED", calls.sort());
  }),
  scenario("selectors look at the object, at what it was, and at its namespace", async (api) => {
    const labels = (label: string) => ({ metadata: { labels: { label } } });
    await configure(api, "validating", [
      "v",
      [
        hook("a", { objectSelector: { matchLabels: { label: "a" } } }),
        hook("nota", {
          objectSelector: { matchExpressions: [{ key: "label", operator: "NotIn", values: ["a"] }] },
        }),
        hook("elsewhere", { namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "other" } } }),
        hook("unlabelled", {
          namespaceSelector: {
            matchExpressions: [
              { key: "kubernetes.io/metadata.name", operator: "In", values: ["{ns}"] },
              { key: "x", operator: "DoesNotExist" },
            ],
          },
        }),
      ],
    ]);
    await api.ask("POST", maps, {
      ...configMap("m"),
      ...{ metadata: { name: "m", labels: { label: "a" } } },
    });
    await api.ask("PATCH", `${maps}/m`, labels("b"), { "content-type": "application/merge-patch+json" });
    await api.ask("DELETE", `${maps}/m`);
    const calls = webhook.take().map(({ path, review }) => briefly(review.request, path));
    api.note("ASKED", calls.sort());
  }),
  scenario("match conditions spare a webhook, and refuse when they cannot be told", async (api) => {
    const when = (name: string, expression: string, more: object = {}) =>
      hook(name, {
        rules: [{ ...everything, resources: ["configmaps"] }],
        matchConditions: [{ name: "c", expression }],
        ...more,
      });
    await configure(api, "validating", [
      "v",
      [
        when("named", "object.metadata.name == 'a'"),
        when("creates", "request.operation == 'CREATE' && request.resource.resource == 'configmaps'"),
        when("leases", "!(request.resource.group == 'coordination.k8s.io')"),
        when("old", "oldObject != null"),
        when("user", "request.userInfo.groups.exists(g, g == 'system:masters')"),
        when("opens", "object.data.missing == 'x'", { failurePolicy: "Ignore" }),
      ],
    ]);
    await api.post(maps, configMap("a"));
    await api.post(maps, configMap("b"));
    await api.put(`${maps}/b`, configMap("b", { x: "y" }));
    const calls = webhook.take().map(({ path, review }) => briefly(review.request, path));
    api.note("ASKED", calls.sort());
    await configure(api, "validating", ["w", [when("fails", "object.data.missing == 'x'")]]);
    await api.post(maps, configMap("c", { x: "y" }));
  }),
  scenario(
    "webhooks are asked in the order of their configurations' names, and again where it is needed",
    async (api) => {
      const mark =
        (name: string): Saying =>
        ({ object }: Loose) => {
          const marks = `${object.metadata.annotations?.marks ?? ""}${name} `;
          return object.metadata.annotations
            ? patchOf({ op: "add", path: "/metadata/annotations/marks", value: marks })
            : patchOf({ op: "add", path: "/metadata/annotations", value: { marks } });
        };
      for (const name of ["one", "two", "three", "four"]) webhook.say(`/${name}`, mark(name));
      const rules = [{ ...everything, resources: ["configmaps"] }];
      const again = { rules, reinvocationPolicy: "IfNeeded" };
      await configure(
        api,
        "mutating",
        ["b", [hook("two", again), hook("three", { rules })]],
        ["a", [hook("one", again)]],
        ["c", [hook("four", again)]],
      );
      await api.post(maps, configMap("a"));
      asked(api, briefly);
      webhook.say("/three", {});
      webhook.say("/four", {});
      await api.post(maps, configMap("b"));
      asked(api, briefly);
    },
  ),
  scenario("a container that a webhook adds gets its token and its defaults", async (api) => {
    await api.ask("POST", "/api/v1/namespaces/{ns}/serviceaccounts", { metadata: { name: "default" } });
    webhook.say("/inject", ({ object }: Loose) => {
      const first = add("/spec/containers/-", { name: "sidecar", image: "side:1" });
      return object.spec.containers.length > 1 ? {} : first;
    });
    webhook.say("/look", {});
    api.mask(/kube-api-access-[a-z0-9]{5}/g, "kube-api-access-*****");
    await configure(api, "mutating", [
      "m",
      [hook("inject", { rules: [{ ...everything, operations: ["CREATE"], resources: ["pods"] }] })],
    ]);
    await configure(api, "validating", [
      "v",
      [hook("look", { rules: [{ ...everything, operations: ["CREATE"], resources: ["pods"] }] })],
    ]);
    await api.post(pods, { metadata: { name: "p" }, spec: { containers: [{ name: "c", image: "i" }] } });
    asked(api, (request, path) => [
      path,
      request.object.spec,
      request.object.status,
      request.object.metadata.uid !== undefined,
    ]);
    await api.ask("DELETE", `${pods}/p`);
  }),
  scenario("a refusal names the webhook, and says what the webhook says", async (api) => {
    await configure(api, "validating", [
      "v",
      [hook("deny", { rules: [{ ...everything, operations: ["CREATE"], resources: ["configmaps"] }] })],
    ]);
    const deny = (status?: object) => tried(api, "deny", { allowed: false, ...(status && { status }) });
    await deny();
    await deny({ message: "no maps today" });
    await deny({ reason: "Forbidden" });
    await deny({ message: "gone", reason: "Gone", code: 410 });
    await deny({ message: "odd", code: 200, status: "Success" });
    await deny({
      message: "detailed",
      code: 422,
      reason: "Invalid",
      details: {
        kind: "ConfigMap",
        name: "x",
        causes: [{ reason: "FieldValueInvalid", message: "bad", field: "data.x" }],
      },
    });
    await deny({ code: 503 });
    await tried(api, "deny", { allowed: false, warnings: ["and mind this"], status: { message: "no" } });
    await tried(api, "deny", { warnings: ["first", 'with "quotes"', "first"] });
  }),
  scenario("a deletion can be refused, and cannot be changed", async (api) => {
    await api.ask("POST", maps, configMap("a"));
    webhook.say("/deny", { allowed: false, status: { message: "it stays" } });
    webhook.say("/patch", add("/data", {}));
    const deletes = { rules: [{ ...everything, operations: ["DELETE"], resources: ["configmaps"] }] };
    await configure(api, "validating", ["v", [hook("deny", deletes)]]);
    await api.delete(`${maps}/a`);
    await api.delete(maps);
    await clean(api);
    made.delete(api);
    await configure(api, "mutating", ["m", [hook("patch", deletes)]]);
    await api.delete(`${maps}/a`);
  }),
  scenario("a webhook that gives no answer refuses, or is passed over, as it says", async (api) => {
    const rules = [{ ...everything, operations: ["CREATE"], resources: ["configmaps"] }];
    const client = (clientConfig: object, more: object = {}) =>
      hook("fail", { rules, clientConfig, ...more });
    const url = (rest: string) => `https://127.0.0.1:${rest}`;
    const cases: [string, object][] = [
      ["refused", client({ url: url("1/x"), caBundle: webhook.caBundle })],
      ["ignored", client({ url: url("1/x"), caBundle: webhook.caBundle }, { failurePolicy: "Ignore" })],
      ["untrusted", client({ url: url(`${webhook.port}/fail`) })],
      [
        "noservice",
        client({ service: { name: "missing", namespace: "{ns}", path: "/x" }, caBundle: webhook.caBundle }),
      ],
      [
        "noservicepath",
        client({ service: { name: "missing", namespace: "{ns}", port: 8443 }, caBundle: webhook.caBundle }),
      ],
    ];
    for (const [name, failing] of cases) {
      await configure(api, "mutating", [name, [failing]]);
      await api.post(maps, configMap(name));
      await clean(api);
      made.delete(api);
      await gone(api);
    }
  }),
  scenario("an answer that is none refuses, or is passed over", async (api) => {
    const rules = [{ ...everything, operations: ["CREATE"], resources: ["configmaps"] }];
    await configure(api, "mutating", ["m", [hook("answer", { rules, timeoutSeconds: 1 })]]);
    await tried(api, "answer", { raw: "", code: 404 });
    await tried(api, "answer", { raw: "it broke", code: 500 });
    await tried(api, "answer", { raw: "busy", code: 503 });
    await tried(api, "answer", { raw: "not you", code: 403 });
    await tried(api, "answer", { raw: "{}" });
    await tried(api, "answer", { uid: "other" });
    await tried(api, "answer", { kind: "Other" });
    await tried(api, "answer", { apiVersion: "admission.k8s.io/v1beta1" });
    await tried(api, "answer", { patch: patchOf({}).patch });
    await tried(api, "answer", { patchType: "JSONPatch" });
    await tried(api, "answer", { patch: patchOf({}).patch, patchType: "MergePatch" });
    await tried(api, "answer", { patchType: "JSONPatch", patch: Buffer.from("nonsense").toString("base64") });
    await tried(api, "answer", patchOf());
    await tried(api, "answer", patchOf({ op: "add", path: "/a/b/c", value: 1 }));
    await tried(api, "answer", patchOf({ op: "replace", path: "/data", value: 1 }));
    await tried(api, "answer", patchOf({ op: "add", path: "/unknown", value: 1 }));
    await tried(api, "answer", patchOf({ op: "add", path: "/metadata/name", value: "Bad Name" }));
    await tried(api, "answer", () => new Promise(() => {}));
  }),
  scenario("validating webhooks may not change anything", async (api) => {
    const rules = [{ ...everything, operations: ["CREATE"], resources: ["configmaps"] }];
    await configure(api, "validating", ["v", [hook("answer", { rules })]]);
    await tried(api, "answer", patchOf({ op: "add", path: "/data", value: {} }));
    await tried(api, "answer", { patchType: "JSONPatch" });
    await tried(api, "answer", {});
  }),
  scenario("a dry run is for webhooks that have no effects", async (api) => {
    const rules = [{ ...everything, operations: ["CREATE"], resources: ["configmaps"] }];
    webhook.say("/dry", {});
    await configure(api, "mutating", ["m", [hook("dry", { rules, sideEffects: "NoneOnDryRun" })]]);
    await api.post(`${maps}?dryRun=All`, configMap("a"));
    asked(api, ({ dryRun, options }) => ({ dryRun, options }));
  }),
  scenario("configurations are not what webhooks are asked about", async (api) => {
    webhook.say("/no", { allowed: false });
    await configure(api, "validating", [
      "v",
      [
        hook("no", {
          namespaceSelector: {},
          rules: [{ ...everything, apiGroups: ["admissionregistration.k8s.io"] }],
        }),
      ],
    ]);
    await api
      .patch(`${configurations}/validatingwebhookconfigurations/{ns}-v`, { metadata: { labels: { a: "b" } } })
      .then(
        () => {},
        () => {},
      );
  }),
  scenario("configurations that cannot be are told why", async (api) => {
    const path = `${configurations}/mutatingwebhookconfigurations`;
    // What a CEL compiler says is its own.
    api.mask(/compilation failed: .*/s, "compilation failed");
    const bad = (more: object) =>
      api.post(path, {
        metadata: { name: "bad" },
        webhooks: [
          {
            ...hook("bad", { namespaceSelector: {}, clientConfig: { url: "https://example.com/x" } }),
            ...more,
          },
        ],
      });
    await bad({ rules: [{ operations: [], apiGroups: [], apiVersions: [], resources: [] }] });
    await bad({ rules: [{ ...everything, operations: ["*", "CREATE"] }] });
    await bad({ rules: [{ ...everything, operations: ["LIST"] }] });
    await bad({
      rules: [
        { ...everything, apiGroups: ["*", "apps"], apiVersions: ["*", "v1"], resources: ["*", "pods"] },
      ],
    });
    await bad({ rules: [{ ...everything, resources: ["*/*", "pods"] }] });
    await bad({ rules: [{ ...everything, resources: ["pods/*", "pods/status"], scope: "Some" }] });
    await bad({
      failurePolicy: "Maybe",
      matchPolicy: "Nearly",
      reinvocationPolicy: "Often",
      timeoutSeconds: 31,
    });
    await bad({ sideEffects: "Some" });
    await bad({ sideEffects: undefined });
    await bad({ clientConfig: { url: "http://example.com" } });
    await bad({ clientConfig: { url: "https://user@example.com/x?y#z" } });
    await bad({ clientConfig: { service: { name: "", namespace: "" } } });
    await bad({ clientConfig: { service: { name: "a", namespace: "b", path: "nopath", port: 70000 } } });
    await bad({ clientConfig: {} });
    await bad({ admissionReviewVersions: ["v2", "V3", "v2"] });
    await bad({
      matchConditions: [
        { name: "", expression: "" },
        { name: "a b", expression: "true" },
        { name: "x", expression: "true" },
        { name: "x", expression: "true" },
      ],
    });
    await bad({ matchConditions: [{ name: "x", expression: "object." }] });
    await bad({ matchConditions: [{ name: "x", expression: "1" }] });
  }),
];

/** Waits until no webhook of this scenario is asked any more. */
async function gone(api: Api): Promise<void> {
  await within(
    10_000,
    (async () => {
      for (;;) {
        webhook.take();
        await api.ask("POST", "/api/v1/namespaces/{ns}/limitranges?dryRun=All", {
          metadata: { name: "probe" },
          spec: { limits: [] },
        });
        if (webhook.take().length === 0) return;
      }
    })(),
    "the webhooks are gone",
  );
}

suite("admission webhooks", import.meta.filename, scenarios);
