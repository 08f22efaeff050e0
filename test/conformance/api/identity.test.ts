/** Who may do what: RBAC, impersonation, reviews and tokens. */
import { configMap, deployments, maps } from "./objects.ts";
import { type Api, type Scenario, suite } from "./suite.ts";

const rbac = "/apis/rbac.authorization.k8s.io/v1";
const roles = `${rbac}/namespaces/{ns}/roles`;
const bindings = `${rbac}/namespaces/{ns}/rolebindings`;
const accounts = "/api/v1/namespaces/{ns}/serviceaccounts";
const authorization = "/apis/authorization.k8s.io/v1";
const authentication = "/apis/authentication.k8s.io/v1";
const as = (user: string, ...groups: string[]) => ({
  "impersonate-user": user,
  ...(groups.length > 0 && { "impersonate-group": groups.join(",") }),
});

async function bound(api: Api, user: string, rules: object[]): Promise<void> {
  await api.ask("POST", roles, { metadata: { name: user }, rules });
  await api.ask("POST", bindings, {
    metadata: { name: user },
    roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name: user },
    subjects: [{ kind: "User", name: user, apiGroup: "rbac.authorization.k8s.io" }],
  });
  // Rights take a moment to be known.
  for (let left = 100; left > 0; left--) {
    const { body } = await api.ask("POST", `${authorization}/subjectaccessreviews`, {
      spec: { user, resourceAttributes: { namespace: "{ns}", verb: "list", resource: "configmaps" } },
    });
    if (body.status.allowed) return;
  }
}

const scenarios: Scenario[] = [
  [
    "who may not is told what and where",
    async (api) => {
      const jane = as("jane");
      await api.say("GET", maps, undefined, jane);
      await api.say("GET", `${maps}/a`, undefined, jane);
      await api.say("GET", `${maps}?watch=1`, undefined, jane);
      await api.say("POST", maps, configMap("a"), jane);
      await api.say("PUT", `${maps}/a`, configMap("a"), jane);
      await api.say("PATCH", `${maps}/a`, {}, { ...jane, "content-type": "application/merge-patch+json" });
      await api.say("DELETE", `${maps}/a`, undefined, jane);
      await api.say("DELETE", maps, undefined, jane);
      await api.say("GET", "/api/v1/configmaps", undefined, jane);
      await api.say("GET", "/api/v1/nodes", undefined, jane);
      await api.say("GET", "/api/v1/nodes/n", undefined, jane);
      await api.say("GET", "/api/v1/namespaces/{ns}", undefined, jane);
      await api.say("GET", `${deployments}/d/scale`, undefined, jane);
      await api.say(
        "PATCH",
        `${deployments}/d/status`,
        {},
        { ...jane, "content-type": "application/merge-patch+json" },
      );
      await api.say("GET", "/apis/none.example.com/v1/gadgets", undefined, jane);
      await api.say("GET", "/metrics", undefined, jane);
      await api.say("GET", "/version", undefined, jane, (body) => body.major);
      await api.say("GET", "/healthz", undefined, jane);
      await api.say("GET", maps, undefined, as("system:anonymous"));
      await api.say("GET", maps, undefined, as("system:serviceaccount:{ns}:robot"));
    },
  ],
  [
    "who may, may only that",
    async (api) => {
      await bound(api, "{ns}-reader", [
        { apiGroups: [""], resources: ["configmaps"], verbs: ["list", "get"] },
        { apiGroups: [""], resources: ["configmaps"], resourceNames: ["mine"], verbs: ["update", "delete"] },
        { apiGroups: ["apps"], resources: ["deployments/scale"], verbs: ["*"] },
      ]);
      const reader = as("{ns}-reader".replace("{ns}", api.namespace));
      await api.say("GET", maps, undefined, reader);
      await api.say("GET", `${maps}?watch=1`, undefined, reader);
      await api.say("PUT", `${maps}/other`, configMap("other"), reader);
      await api.say("PUT", `${maps}/mine`, configMap("mine"), reader);
      await api.say("DELETE", `${maps}/mine`, undefined, reader);
      await api.say("GET", `${deployments}/d/scale`, undefined, reader);
      await api.say("GET", `${deployments}/d`, undefined, reader);
      await api.say("GET", "/api/v1/namespaces/default/configmaps", undefined, reader);
    },
  ],
  [
    "nobody gives rights that they do not have",
    async (api) => {
      await bound(api, "{ns}-giver", [
        { apiGroups: [""], resources: ["configmaps"], verbs: ["list"] },
        {
          apiGroups: ["rbac.authorization.k8s.io"],
          resources: ["roles", "rolebindings"],
          verbs: ["create", "update", "get"],
        },
      ]);
      const giver = as(`${api.namespace}-giver`);
      const rule = (resource: string, ...verbs: string[]) => ({
        apiGroups: [""],
        resources: [resource],
        verbs,
      });
      await api.say("POST", roles, { metadata: { name: "ok" }, rules: [rule("configmaps", "list")] }, giver);
      await api.say(
        "POST",
        roles,
        { metadata: { name: "no" }, rules: [rule("configmaps", "list", "get"), rule("secrets", "get")] },
        giver,
      );
      await api.say("PUT", `${roles}/ok`, { metadata: { name: "ok" }, rules: [rule("secrets", "*")] }, giver);
      const binding = (name: string, kind: string) => ({
        metadata: { name },
        roleRef: { apiGroup: "rbac.authorization.k8s.io", kind, name },
        subjects: [{ kind: "ServiceAccount", name: "x", namespace: "{ns}" }],
      });
      await api.say("POST", bindings, binding("ok", "Role"), giver);
      await api.say("POST", bindings, binding("none", "Role"), giver);
      await api.say("PUT", `${bindings}/ok`, {
        ...binding("ok", "Role"),
        roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name: "other" },
      });
    },
  ],
  [
    "what RBAC objects must be",
    async (api) => {
      await api.post(roles, { metadata: { name: "r" } });
      await api.post(roles, { metadata: { name: "a:b" }, rules: [] });
      await api.post(roles, { metadata: { name: "a/b" }, rules: [] });
      await api.post(roles, {
        metadata: { name: "s" },
        rules: [
          { verbs: [] },
          { verbs: ["get"] },
          { verbs: ["get"], apiGroups: [""] },
          { verbs: ["get"], nonResourceURLs: ["/x"] },
        ],
      });
      await api.post(`${rbac}/clusterroles`, {
        metadata: { name: "{ns}-c" },
        rules: [{ verbs: ["get"], nonResourceURLs: ["/x"], resources: ["y"], apiGroups: [""] }],
      });
      await api.post(bindings, { metadata: { name: "b" } });
      await api.post(bindings, { metadata: { name: "b" }, roleRef: { kind: "Role", name: "r" } });
      await api.post(bindings, {
        metadata: { name: "b" },
        roleRef: { apiGroup: "x", kind: "Rule", name: "" },
        subjects: [
          { kind: "Robot", name: "" },
          { kind: "ServiceAccount", name: "a" },
          { kind: "User", name: "u", apiGroup: "y" },
        ],
      });
      await api.post(bindings, {
        metadata: { name: "b" },
        roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name: "r" },
        subjects: [
          { kind: "User", name: "u" },
          { kind: "Group", name: "g" },
        ],
      });
    },
  ],
  [
    "acting as another",
    async (api) => {
      const whoami = (headers: Record<string, string>) =>
        api.say(
          "POST",
          `${authentication}/selfsubjectreviews`,
          { apiVersion: "authentication.k8s.io/v1", kind: "SelfSubjectReview" },
          headers,
        );
      await whoami(as("jane"));
      await whoami(as("jane", "g1"));
      await whoami({ ...as("jane"), "impersonate-uid": "u-1", "impersonate-extra-scopes": "view" });
      await whoami(as("system:serviceaccount:{ns}:robot".replace("{ns}", api.namespace)));
      await whoami(as("system:anonymous"));
      await whoami({ "impersonate-group": "g1" });
      await whoami({ "impersonate-uid": "u-1" });
    },
  ],
  [
    "reviews answer what would be allowed",
    async (api) => {
      await bound(api, "{ns}-reader", [{ apiGroups: [""], resources: ["configmaps"], verbs: ["list"] }]);
      const user = "{ns}-reader";
      const review = (kind: string, spec: object, headers: Record<string, string> = {}) => {
        const path =
          kind === "LocalSubjectAccessReview"
            ? `${authorization}/namespaces/{ns}/localsubjectaccessreviews`
            : `${authorization}/${kind.toLowerCase()}s`;
        return api.post(
          path,
          {
            apiVersion: "authorization.k8s.io/v1",
            kind,
            metadata: kind === "LocalSubjectAccessReview" ? { namespace: "{ns}" } : {},
            spec,
          },
          headers,
        );
      };
      const list = { namespace: "{ns}", verb: "list", resource: "configmaps" };
      api.mask(/RBAC: allowed by RoleBinding .*/, "RBAC: …");
      await review("SubjectAccessReview", { user, resourceAttributes: list });
      await review("SubjectAccessReview", { user, resourceAttributes: { ...list, verb: "get" } });
      await review("SubjectAccessReview", { user, nonResourceAttributes: { path: "/metrics", verb: "get" } });
      await review("SubjectAccessReview", { user });
      await review("SubjectAccessReview", { resourceAttributes: list });
      await review("SubjectAccessReview", {
        user,
        resourceAttributes: list,
        nonResourceAttributes: { path: "/", verb: "get" },
      });
      await review("SelfSubjectAccessReview", { resourceAttributes: list });
      await review("SelfSubjectAccessReview", { resourceAttributes: list }, as(`${api.namespace}-reader`));
      await review("SelfSubjectAccessReview", {});
      await review("LocalSubjectAccessReview", { user, resourceAttributes: list });
      await review("LocalSubjectAccessReview", { user, resourceAttributes: { ...list, namespace: "other" } });
      await review("SelfSubjectRulesReview", { namespace: "" });
      await api.say("POST", `${authorization}/selfsubjectaccessreviews`, {
        spec: { resourceAttributes: list },
      });
    },
  ],
  [
    "tokens of ServiceAccounts are made and reviewed",
    async (api) => {
      api.mask(/^eyJ[\w-]+\.[\w-]+\.[\w-]+$/, "TOKEN");
      await api.post(accounts, { metadata: { name: "robot" } });
      const { body } = await api.post(`${accounts}/robot/token`, {
        apiVersion: "authentication.k8s.io/v1",
        kind: "TokenRequest",
        spec: { expirationSeconds: 600 },
      });
      await api.post(`${accounts}/robot/token`, { spec: { audiences: ["a", "b"], expirationSeconds: 1200 } });
      await api.post(`${accounts}/none/token`, { spec: {} });
      await api.post(`${accounts}/robot/token`, { spec: { expirationSeconds: 5 } });
      await api.post(`${accounts}/robot/token`, { spec: { expirationSeconds: 4294967296 + 1 } });
      await api.post(`${accounts}/robot/token`, {
        spec: { boundObjectRef: { kind: "Pod", apiVersion: "v1", name: "none" } },
      });
      await api.post(`${accounts}/robot/token`, {
        spec: { boundObjectRef: { kind: "Gadget", apiVersion: "v1", name: "none" } },
      });
      const review = (spec: object) =>
        api.post(`${authentication}/tokenreviews`, {
          apiVersion: "authentication.k8s.io/v1",
          kind: "TokenReview",
          spec,
        });
      api.mask(/JTI=.*/, "JTI=…");
      await review({ token: body.status.token });
      await review({ token: body.status.token, audiences: ["other"] });
      await review({ token: "nonsense" });
      await review({});
    },
  ],
];

suite("identity", import.meta.filename, scenarios);
