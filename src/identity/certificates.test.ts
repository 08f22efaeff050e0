/** Discovery's end over real HTTPS, with tokens of a real (embedded) API server: who gets a certificate, who does not. */
import assert from "node:assert/strict";
import { createPublicKey, sign, X509Certificate } from "node:crypto";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { namespaces, pods, serviceAccounts } from "../api/index.ts";
import { type Cluster, cluster, pki, world } from "../install/testing/cluster.ts";
import { KubeClient } from "../kube/index.ts";
import {
  Authenticator,
  type Authority,
  certificates,
  type Identity,
  type IssuedCertificate,
  largestRequest,
  makeRequest,
  openAuthority,
  startWorkloadIdentity,
  tokenAudience,
} from "./index.ts";

const host = "localhost";
let c1: Cluster;
let authority: Authority;
let url: string;
let asked = 0;
const ends: (() => unknown)[] = [];
const logged: string[] = [];

before(async () => {
  c1 = await cluster("c1");
  for (const name of ["istio-system", "coolapp", "elsewhere"]) {
    await c1.client.create(namespaces, { metadata: { name } });
    await c1.client.create(serviceAccounts, { metadata: { namespace: name, name: "catalog" } });
  }
  const counting = new KubeClient({
    world,
    cluster: "c1",
    transport: (request) => {
      if (request.path.includes("tokenreviews")) asked++;
      return c1.client.transport(request);
    },
  });
  authority = await openAuthority({ client: counting, world, namespace: "istio-system", trustDomain: "td" });
  ends.push(() => authority.stop());
  const authenticator = new Authenticator(counting);
  const handle = certificates({
    authority,
    authenticate: (token) => authenticator.authenticate(token),
    bundles: () => authority.bundles,
    whyNot: ({ namespace }: Identity) =>
      namespace === "coolapp" ? undefined : `namespace ${namespace} is no member of the mesh`,
    log: (line, error) => void logged.push(`${line}: ${String(error)}`),
  });
  const server = await authority.serverIdentity([host]);
  const http = createServer(server.current, async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const { method = "", headers } = request;
    const answer = await handle({ method, headers, body: Buffer.concat(chunks) });
    response.writeHead(answer.status, answer.headers).end(answer.body);
  });
  await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
  ends.push(() => http.close());
  url = `https://${host}:${(http.address() as AddressInfo).port}/certificates`;
});
after(async () => {
  for (const end of ends.reverse()) await end();
});

async function token(
  namespace: string,
  audience = tokenAudience,
  pod?: { name: string; uid: string },
): Promise<string> {
  const review = await c1.client.json<{ status: { token: string } }>(
    "POST",
    `/api/v1/namespaces/${namespace}/serviceaccounts/catalog/token`,
    {
      body: {
        apiVersion: "authentication.k8s.io/v1",
        kind: "TokenRequest",
        spec: {
          audiences: [audience],
          expirationSeconds: 3600,
          ...(pod && { boundObjectRef: { apiVersion: "v1", kind: "Pod", ...pod } }),
        },
      },
    },
  );
  return review.status.token;
}

async function ask(bearer: string | undefined, body: unknown, method = "POST") {
  const { post } = await import("./post.ts");
  if (bearer !== undefined && method === "POST")
    return post(url, { ca: authority.roots, token: bearer, body });
  const handle = certificates({
    authority,
    authenticate: () => Promise.reject(new Error("not asked")),
    bundles: () => ({}),
  });
  return handle({ method, headers: {}, body: JSON.stringify(body) });
}

test("a workload gets a certificate for the ServiceAccount of its token", async () => {
  const { csrPem, keyPem } = makeRequest();
  const { status, body } = await ask(await token("coolapp"), { csr: csrPem, lifetimeSeconds: 3600 });
  assert.equal(status, 200, body);
  const issued = JSON.parse(body) as IssuedCertificate;
  const leaf = new X509Certificate(issued.certificateChain);
  assert.equal(leaf.subjectAltName, "URI:spiffe://td/ns/coolapp/sa/catalog");
  assert.ok(leaf.publicKey.equals(createPublicKey(keyPem)));
  assert.deepEqual(issued.trustBundles, { td: authority.roots });
  assert.equal(Date.parse(issued.notAfter), leaf.validToDate.getTime());
  assert.ok(leaf.validToDate.getTime() <= world.now() + 3600_000);
});

test("others are refused, each with a sentence that says why", async () => {
  const csr = makeRequest().csrPem;
  const good = await token("coolapp");
  const cases: [what: string, answer: ReturnType<typeof ask>, status: number, says: RegExp][] = [
    ["no token", ask(undefined, { csr }), 401, /token is needed/],
    ["GET", ask(undefined, {}, "GET"), 405, /only POST/],
    ["garbage for a token", ask("garbage", { csr }), 401, /token is refused: .*invalid bearer token/],
    ["a huge token", ask("x".repeat(14_000), { csr }), 401, /token is refused/],
    [
      "a token for the API server",
      ask(await token("coolapp", "https://kubernetes.default.svc.cluster.local"), { csr }),
      401,
      /token is refused: .*invalid for the target audiences \["istio-ca"\]/,
    ],
    ["no member", ask(await token("elsewhere"), { csr }), 403, /namespace elsewhere is no member/],
    ["no JSON object", ask(good, "csr"), 400, /'csr' is missing/],
    ["no request", ask(good, { csr: "hello" }), 400, /not a certificate signing request/],
    ["a bad lifetime", ask(good, { csr, lifetimeSeconds: "day" }), 400, /lifetimeSeconds/],
    ["a giant request", ask(good, { csr: "x".repeat(largestRequest) }), 413, /at most \d+ bytes, this one/],
  ];
  for (const [what, answer, status, says] of cases) {
    const { status: got, body } = await answer;
    assert.equal(got, status, `${what}: ${body}`);
    assert.match(JSON.parse(body).error, says, what);
  }
  // Another member cannot use a request that it has seen.
  assert.equal((await ask(good, { csr })).status, 200);
  await c1.client.create(serviceAccounts, { metadata: { namespace: "coolapp", name: "thief" } });
  const thief = await c1.client.json<{ status: { token: string } }>(
    "POST",
    "/api/v1/namespaces/coolapp/serviceaccounts/thief/token",
    {
      body: {
        apiVersion: "authentication.k8s.io/v1",
        kind: "TokenRequest",
        spec: { audiences: [tokenAudience] },
      },
    },
  );
  const replayed = await ask(thief.status.token, { csr });
  assert.equal(replayed.status, 400);
  assert.match(replayed.body, /its key belongs to coolapp\/catalog already/);
});

test("a token whose time is over is refused, and one that nobody signed", async () => {
  const [head, body] = (await token("coolapp"))
    .split(".")
    .map((part) => Buffer.from(part, "base64url").toString());
  const now = Math.floor(world.now() / 1000);
  const signed = (times: object, key: string) => {
    const claims = { ...JSON.parse(body!), ...times };
    const text = [head!, JSON.stringify(claims)]
      .map((part) => Buffer.from(part).toString("base64url"))
      .join(".");
    const signature = sign("sha256", Buffer.from(text), { key, dsaEncoding: "ieee-p1363" });
    return `${text}.${signature.toString("base64url")}`;
  };
  const csr = makeRequest().csrPem;
  const { privateKey } = pki.serviceAccount;
  const good = await ask(signed({ exp: now + 600 }, privateKey), { csr });
  assert.equal(good.status, 200, "what is changed alone is the time");
  for (const bad of [
    signed({ iat: now - 7200, nbf: now - 7200, exp: now - 60 }, privateKey),
    signed({ exp: now + 600 }, makeRequest().keyPem),
  ]) {
    const { status, body: says } = await ask(bad, { csr });
    assert.equal(status, 401);
    assert.match(says, /token is refused/);
  }
});

test("a token that is bound to a pod says so, and is worth nothing when the pod is gone", async () => {
  const pod = await c1.client.create(pods, {
    metadata: { namespace: "coolapp", name: "catalog-1" },
    spec: { serviceAccountName: "catalog", containers: [{ name: "catalog", image: "x" }] },
  });
  const bound = await token("coolapp", tokenAudience, { name: "catalog-1", uid: pod.metadata.uid! });
  const identity = await new Authenticator(c1.client).authenticate(bound);
  const account = await c1.client.get(serviceAccounts, { namespace: "coolapp", name: "catalog" });
  assert.deepEqual(identity, {
    namespace: "coolapp",
    serviceAccount: "catalog",
    uid: account?.metadata.uid,
    pod: { name: "catalog-1", uid: pod.metadata.uid },
  });
  await c1.client.delete(pods, "coolapp/catalog-1", { gracePeriodSeconds: 0 });
  await assert.rejects(new Authenticator(c1.client).authenticate(bound), /invalid/);
});

test("the API server is asked once about a token that comes often", async () => {
  const authenticator = new Authenticator(
    new KubeClient({
      world,
      cluster: "c1",
      transport: (request) => {
        asked++;
        return c1.client.transport(request);
      },
    }),
  );
  const one = await token("coolapp");
  asked = 0;
  await Promise.all([1, 2, 3].map(() => authenticator.authenticate(one)));
  await authenticator.authenticate(one);
  assert.equal(asked, 1);
  for (let i = 0; i < 3; i++) await assert.rejects(authenticator.authenticate("bad"), /bearer token/);
  assert.equal(asked, 2);
});

test("an API server that does not answer is no refusal", async () => {
  let down = true;
  const authenticator = new Authenticator(
    new KubeClient({
      world,
      cluster: "c1",
      transport: (request) =>
        down ? Promise.reject(new Error("connection refused")) : c1.client.transport(request),
    }),
  );
  const handle = certificates({
    authority,
    authenticate: (bearer) => authenticator.authenticate(bearer),
    bundles: () => authority.bundles,
  });
  const headers = { authorization: `Bearer ${await token("coolapp")}` };
  const body = JSON.stringify({ csr: makeRequest().csrPem });
  const refused = await handle({ method: "POST", headers, body });
  assert.equal(refused.status, 503);
  assert.equal(refused.headers["retry-after"], "1");
  down = false;
  assert.equal((await handle({ method: "POST", headers, body })).status, 200);
});

test("a sidecar keeps itself a certificate by all of this", async () => {
  const bearer = await token("coolapp");
  const workload = startWorkloadIdentity({
    world,
    url,
    tokenFile: "token",
    rootFile: "roots/root-cert.pem",
    identity: { trustDomain: "td", namespace: "coolapp", serviceAccount: "catalog" },
    read: (file) => {
      if (file === "token") return Promise.resolve(`${bearer}\n`);
      if (file === "roots/root-cert.pem") return Promise.resolve(authority.roots);
      return Promise.reject(new Error("ENOENT"));
    },
  });
  try {
    const { id, certificatePem, bundles } = await workload.ready;
    assert.equal(id, "spiffe://td/ns/coolapp/sa/catalog");
    assert.deepEqual(bundles, authority.bundles);
    assert.ok(new X509Certificate(certificatePem).validToDate.getTime() > world.now());
  } finally {
    workload.stop();
  }
});
