import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { describe, test } from "node:test";
import { eventually } from "../../test/support/eventually.ts";
import { pathOf, type Secret, secrets, serviceAccounts } from "../api/index.ts";
import { KubeClient } from "../kube/index.ts";
import { createApiServer } from "../lab/apiserver/index.ts";
import { SimulatedWorld } from "../world/index.ts";
import { lifeOf, renewInTime } from "./renewal.ts";

function token(claims: Record<string, unknown>): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "none" })}.${part(claims)}.x`;
}

describe("a token's life", () => {
  const sub = "system:serviceaccount:weft-system:weft-peer-c1";
  test("is read off a ServiceAccount's token", () => {
    assert.deepEqual(lifeOf(token({ sub, iat: 100, exp: 700 })), {
      namespace: "weft-system",
      account: "weft-peer-c1",
      issuedAt: 100,
      expiresAt: 700,
    });
  });
  test("is nobody's business when the token is something else", () => {
    for (const other of [
      "",
      "opaque",
      "a.b.c",
      token({ sub, iat: 100 }),
      token({ sub: "jane", iat: 1, exp: 2 }),
    ]) {
      assert.equal(lifeOf(other), undefined, other);
    }
  });
});

describe("renewal", () => {
  const ref = { namespace: "weft-system", name: "weft-peer-c2" };

  const keys = generateKeyPairSync("ec", {
    namedCurve: "P-256",
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
  });

  async function setup() {
    const world = new SimulatedWorld(1);
    const cluster = async (name: string) => {
      const server = await createApiServer({
        world,
        cluster: name,
        storage: { kind: "memory" },
        serviceRange: "10.11.0.0/16",
        advertise: { address: "172.18.0.1", port: 6443 },
        serviceAccount: keys,
      });
      const transport = server.as({ name: "admin", groups: ["system:masters"] });
      const client = new KubeClient({ transport, world, cluster: name });
      await client.create(
        { ...serviceAccounts, kind: "Namespace", plural: "namespaces", namespaced: false },
        {
          metadata: { name: "weft-system" },
        },
      );
      return { server, client };
    };
    const [c1, c2] = [await cluster("c1"), await cluster("c2")];
    await c2.client.create(serviceAccounts, { metadata: { namespace: "weft-system", name: "weft-peer-c1" } });
    const answer = await c2.client.json<{ status: { token: string } }>(
      "POST",
      pathOf(serviceAccounts, "weft-system", "weft-peer-c1", "token"),
      {
        body: {
          apiVersion: "authentication.k8s.io/v1",
          kind: "TokenRequest",
          spec: { expirationSeconds: 3600 },
        },
      },
    );
    const kubeconfig = { users: [{ name: "c2", user: { token: answer.status.token } }], note: "kept" };
    const data = { kubeconfig: Buffer.from(JSON.stringify(kubeconfig)).toString("base64"), other: "eA==" };
    await c1.client.create(secrets, { metadata: ref, data });
    const errors: unknown[] = [];
    const start = () =>
      renewInTime({
        spec: { cluster: "c2", kubeconfig: "", secret: "weft-system/weft-peer-c2" },
        token: answer.status.token,
        own: c1.client,
        peer: c2.client,
        onError: (error) => errors.push(error),
      });
    const held = async () => {
      const secret: Secret | undefined = await c1.client.get(secrets, ref);
      return JSON.parse(
        Buffer.from(secret?.data?.kubeconfig ?? "", "base64").toString("utf8"),
      ) as typeof kubeconfig;
    };
    const pass = async (seconds: number) => {
      await world.advance(seconds * 1000);
      for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
    };
    /** Signing happens on another thread: real time, though little. */
    const renewed = () =>
      eventually("a new token", async () => {
        const kubeconfig = await held();
        return kubeconfig.users[0]?.user.token !== answer.status.token && kubeconfig;
      });
    return { c1, c2, start, held, renewed, pass, errors, token: answer.status.token };
  }

  test("comes after a third of the token's life and changes nothing else in the Secret", async () => {
    const { start, held, renewed, pass, token, errors } = await setup();
    start();
    await pass(1190);
    assert.equal((await held()).users[0]?.user.token, token);
    await pass(20);
    const after = await renewed();
    assert.equal(after.note, "kept");
    const [old, next] = [lifeOf(token), lifeOf(after.users[0]?.user.token ?? "")];
    assert.equal((next?.expiresAt ?? 0) - (next?.issuedAt ?? 0), 3600);
    assert.ok((next?.expiresAt ?? 0) > (old?.expiresAt ?? 0));
    assert.deepEqual(errors, []);
  });

  test("is tried again when the peer does not answer", async () => {
    const { c2, start, renewed, pass, errors } = await setup();
    await c2.client.delete(serviceAccounts, "weft-system/weft-peer-c1");
    start();
    await pass(1210);
    assert.equal(errors.length, 1);
    await c2.client.create(serviceAccounts, { metadata: { namespace: "weft-system", name: "weft-peer-c1" } });
    await pass(60);
    await renewed();
  });

  test("leaves a Secret alone that holds another token by then", async () => {
    const { c1, start, held, pass } = await setup();
    start();
    const kubeconfig = { users: [{ name: "c2", user: { token: "newer" } }], note: "kept" };
    const data = { kubeconfig: Buffer.from(JSON.stringify(kubeconfig)).toString("base64") };
    await c1.client.patch(secrets, ref, { data });
    await pass(1210);
    assert.equal((await held()).users[0]?.user.token, "newer");
  });

  test("ends with its connection", async () => {
    const { start, held, pass, token } = await setup();
    start()?.();
    await pass(3000);
    assert.equal((await held()).users[0]?.user.token, token);
  });
});
