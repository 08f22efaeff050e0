import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { describe, test } from "node:test";
import { type Client, clientOf, type Loose, testServer } from "../testing/harness.ts";

const rbac = "/apis/rbac.authorization.k8s.io/v1";

async function role(client: Client, namespace: string, name: string, rules: object[]) {
  const { code, body } = await client.post(`${rbac}/namespaces/${namespace}/roles`, {
    metadata: { name },
    rules,
  });
  assert.equal(code, 201, body.message);
}

async function bind(client: Client, namespace: string, name: string, ref: object, ...subjects: object[]) {
  const { code, body } = await client.post(`${rbac}/namespaces/${namespace}/rolebindings`, {
    metadata: { name },
    roleRef: { apiGroup: "rbac.authorization.k8s.io", ...ref },
    subjects,
  });
  assert.equal(code, 201, body.message);
}

const user = (name: string) => ({ kind: "User", name, apiGroup: "rbac.authorization.k8s.io" });

describe("authorization", () => {
  test("without a role nothing is allowed, and the refusal says what was asked", async () => {
    await using cluster = await testServer();
    const bob = cluster.as("bob");
    const list = await bob.get("/api/v1/namespaces/default/pods");
    assert.equal(list.code, 403);
    assert.equal(
      list.body.message,
      'pods is forbidden: User "bob" cannot list resource "pods" in API group "" in the namespace "default"',
    );
    const one = await bob.get("/apis/apps/v1/namespaces/default/deployments/d");
    assert.equal(
      one.body.message,
      'deployments.apps "d" is forbidden: User "bob" cannot get resource "deployments" in API group "apps" in the namespace "default"',
    );
    const nodes = await bob.get("/api/v1/nodes");
    assert.match(nodes.body.message, /at the cluster scope$/);
    const path = await bob.get("/metrics");
    assert.equal(path.body.message, 'forbidden: User "bob" cannot get path "/metrics"');
    assert.equal((await bob.get("/apis")).code, 200);
  });

  test("a role counts in its namespace, for its verbs, names and subresources only", async () => {
    await using cluster = await testServer();
    await role(cluster.client, "default", "r", [
      { apiGroups: [""], resources: ["configmaps"], verbs: ["get", "list", "watch"], resourceNames: ["a"] },
      { apiGroups: ["apps"], resources: ["deployments/scale"], verbs: ["*"] },
    ]);
    await bind(cluster.client, "default", "b", { kind: "Role", name: "r" }, user("bob"));
    const allowed = async (verb: string, resource: string, more: object = {}) =>
      (
        await cluster.as("bob").post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {
          spec: { resourceAttributes: { verb, resource, namespace: "default", ...more } },
        })
      ).body.status.allowed;
    assert.equal(await allowed("get", "configmaps", { name: "a" }), true);
    assert.equal(await allowed("get", "configmaps", { name: "b" }), false);
    assert.equal(await allowed("list", "configmaps"), false);
    assert.equal(await allowed("get", "configmaps", { name: "a", namespace: "kube-system" }), false);
    assert.equal(await allowed("update", "deployments", { group: "apps", subresource: "scale" }), true);
    assert.equal(await allowed("update", "deployments", { group: "apps" }), false);
    // A list that can only be of that one name is allowed: a peer watches one Lease so.
    const maps = "/api/v1/namespaces/default/configmaps";
    assert.equal((await cluster.as("bob").get(`${maps}?fieldSelector=metadata.name%3Da`)).code, 200);
    assert.equal((await cluster.as("bob").get(maps)).code, 403);
  });

  test("groups, ServiceAccounts and ClusterRoles in bindings of a namespace work", async () => {
    await using cluster = await testServer();
    await bind(
      cluster.client,
      "default",
      "v",
      { kind: "ClusterRole", name: "view" },
      { kind: "Group", name: "devs", apiGroup: "rbac.authorization.k8s.io" },
      { kind: "ServiceAccount", name: "sa", namespace: "kube-system" },
    );
    const pods = "/api/v1/namespaces/default/pods";
    assert.equal((await cluster.as("ann", "devs").get(pods)).code, 200);
    assert.equal((await cluster.as("ann", "devs").get("/api/v1/namespaces/default/secrets")).code, 403);
    assert.equal((await cluster.as("system:serviceaccount:kube-system:sa").get(pods)).code, 200);
    assert.equal((await cluster.as("system:serviceaccount:default:sa").get(pods)).code, 403);
    await cluster.client.delete(`${rbac}/namespaces/default/rolebindings/v`);
    assert.equal((await cluster.as("ann", "devs").get(pods)).code, 403);
  });

  test("admin, edit and view are sums that custom roles join", async () => {
    await using cluster = await testServer();
    const rules = async (name: string) =>
      (await cluster.client.get(`${rbac}/clusterroles/${name}`)).body.rules;
    assert.ok((await rules("admin")).length > (await rules("view")).length);
    await cluster.client.post(`${rbac}/clusterroles`, {
      metadata: { name: "w", labels: { "rbac.authorization.k8s.io/aggregate-to-view": "true" } },
      rules: [{ apiGroups: ["example.com"], resources: ["widgets"], verbs: ["get"] }],
    });
    await cluster.world.advance(0);
    for (const name of ["view", "edit", "admin"]) {
      const has = (await rules(name)).some((rule: Loose) => rule.apiGroups?.includes("example.com"));
      assert.ok(has, name);
    }
  });

  test("nobody grants what they do not have", async () => {
    await using cluster = await testServer();
    await bind(cluster.client, "default", "a", { kind: "ClusterRole", name: "admin" }, user("ann"));
    const ann = cluster.as("ann");
    const make = (rules: object[]) =>
      ann.post(`${rbac}/namespaces/default/roles`, { metadata: { name: "r" }, rules });
    const nodes = await make([{ apiGroups: ["example.com"], resources: ["*"], verbs: ["*"] }]);
    assert.equal(nodes.code, 403);
    assert.match(nodes.body.message, /attempting to grant RBAC permissions not currently held/);
    assert.equal((await make([{ apiGroups: [""], resources: ["pods"], verbs: ["get"] }])).code, 201);
    const bound = await ann.post(`${rbac}/namespaces/default/rolebindings`, {
      metadata: { name: "b" },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "cluster-admin" },
      subjects: [user("ann")],
    });
    assert.equal(bound.code, 403);
  });

  test("acting as another needs the right to", async () => {
    await using cluster = await testServer();
    const as = { "impersonate-user": "bob" };
    const review = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    const me = await cluster.client.post(review, {}, { ...as, "impersonate-group": "devs" });
    assert.deepEqual(me.body.status.userInfo, { username: "bob", groups: ["devs", "system:authenticated"] });
    const refused = await cluster.as("eve").post(review, {}, as);
    assert.equal(refused.code, 403);
    assert.equal(
      refused.body.message,
      'users "bob" is forbidden: User "eve" cannot impersonate resource "users" in API group "" at the cluster scope',
    );
  });
});

describe("ServiceAccount tokens", () => {
  const keys = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const serviceAccount = {
    privateKey: keys.privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
    publicKey: keys.publicKey.export({ type: "spki", format: "pem" }).toString(),
  };
  const accounts = "/api/v1/namespaces/default/serviceaccounts";
  const reviews = "/apis/authentication.k8s.io/v1/tokenreviews";

  async function withAccount() {
    const cluster = await testServer({ serviceAccount });
    await cluster.client.post(accounts, { metadata: { name: "default" } });
    const review = async (token: string, audiences?: string[]) =>
      (await cluster.client.post(reviews, { spec: { token, audiences } })).body.status;
    const request = async (spec: object) =>
      cluster.client.post(`${accounts}/default/token`, {
        apiVersion: "authentication.k8s.io/v1",
        kind: "TokenRequest",
        spec,
      });
    return Object.assign(cluster, { review, request });
  }

  test("say who they are, until they expire", async () => {
    await using cluster = await withAccount();
    const { code, body } = await cluster.request({ expirationSeconds: 600 });
    assert.equal(code, 201, body.message);
    assert.equal(body.status.expirationTimestamp, "2026-01-01T00:10:00Z");
    const { token } = body.status;
    const known = await cluster.review(token);
    assert.equal(known.user.username, "system:serviceaccount:default:default");
    assert.deepEqual(known.user.groups, [
      "system:serviceaccounts",
      "system:serviceaccounts:default",
      "system:authenticated",
    ]);
    await cluster.world.advance(599_000);
    assert.equal((await cluster.review(token)).authenticated, true);
    await cluster.world.advance(2000);
    assert.equal((await cluster.review(token)).authenticated, undefined);
  });

  test("are good for their audiences and from our key only", async () => {
    await using cluster = await withAccount();
    const { token } = (await cluster.request({ audiences: ["weft"] })).body.status;
    assert.equal((await cluster.review(token)).authenticated, undefined);
    assert.deepEqual((await cluster.review(token, ["weft", "other"])).audiences, ["weft"]);
    const [head, claims, signature] = token.split(".");
    const forged = Buffer.from(claims, "base64url").toString().replace("default", "default2");
    const other = `${head}.${Buffer.from(forged).toString("base64url")}.${signature}`;
    assert.equal((await cluster.review(other, ["weft"])).authenticated, undefined);
    assert.equal((await cluster.review("garbage")).authenticated, undefined);
  });

  test("end with the pod they are bound to, and with their account", async () => {
    await using cluster = await withAccount();
    const pod = { metadata: { name: "p" }, spec: { containers: [{ name: "c", image: "i" }] } };
    const made = await cluster.client.post("/api/v1/namespaces/default/pods", pod);
    const { uid } = made.body.metadata;
    const bound = await cluster.request({
      boundObjectRef: { apiVersion: "v1", kind: "Pod", name: "p", uid },
    });
    const wrong = await cluster.request({
      boundObjectRef: { apiVersion: "v1", kind: "Pod", name: "p", uid: "other" },
    });
    assert.equal(wrong.code, 409);
    const { token } = bound.body.status;
    const free = (await cluster.request({})).body.status.token;
    const user = (await cluster.review(token)).user;
    assert.deepEqual(user.extra["authentication.kubernetes.io/pod-name"], ["p"]);
    await cluster.client.delete("/api/v1/namespaces/default/pods/p");
    assert.equal((await cluster.review(token)).authenticated, undefined);
    assert.equal((await cluster.review(free)).authenticated, true);
    await cluster.client.delete(`${accounts}/default`);
    assert.equal((await cluster.review(free)).authenticated, undefined);
  });

  test("may not be too short, and the keys to check them are published", async () => {
    await using cluster = await withAccount();
    const short = await cluster.request({ expirationSeconds: 60 });
    assert.equal(short.code, 422);
    assert.match(short.body.message, /may not specify a duration less than 10 minutes/);
    const jwks = await cluster.client.get("/openid/v1/jwks");
    assert.match(jwks.headers["content-type"]!, /jwk-set/);
    const outsider = clientOf(cluster.server, { name: "x", groups: [] });
    assert.equal((await outsider.get("/openid/v1/jwks")).code, 403);
  });
});
