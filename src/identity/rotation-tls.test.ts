/**
 * Certificates and roots change under traffic: workloads that speak mTLS as the proxies do, over real sockets, while the
 * mesh goes from one root to another. No request is lost, connections live on, new ones show the new certificate.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { Agent, createServer, type RequestOptions, request } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { createSecureContext, type PeerCertificate, type TLSSocket } from "node:tls";
import { namespaces, secrets } from "../api/index.ts";
import { KubeClient } from "../kube/index.ts";
import { createApiServer } from "../lab/apiserver/index.ts";
import { SimulatedWorld } from "../world/index.ts";
import { plugInSecret } from "./authority.ts";
import {
  certificates,
  openAuthority,
  startWorkloadIdentity,
  tokenAudience,
  type WorkloadIdentity,
} from "./index.ts";
import { opensslCa } from "./testing/openssl.ts";

const hour = 3600_000;
const work = mkdtempSync(join(tmpdir(), "weft-tls-"));
after(() => rmSync(work, { recursive: true }));

/** TLS looks at the machine's clock, so the simulated one starts 23 hours before it: what is made at any time is valid now. */
async function mesh() {
  const world = new SimulatedWorld(1, Math.floor(Date.now() / 1000) * 1000 - 23.25 * hour);
  const server = await createApiServer({
    world,
    cluster: "c1",
    storage: { kind: "memory" },
    serviceRange: "10.11.0.0/16",
    advertise: { address: "172.18.0.1", port: 6443 },
  });
  after(() => server.close());
  const transport = server.as({ name: "weft", groups: ["system:masters"] });
  const client = new KubeClient({ transport, world, cluster: "c1" });
  await client.create(namespaces, { metadata: { name: "istio-system" } });
  const ca = opensslCa(work, "ec", world.now());
  const plugIn = (entries: Record<string, string>) =>
    client.apply(secrets, {
      metadata: { namespace: "istio-system", name: plugInSecret },
      data: Object.fromEntries(
        Object.entries(entries).map(([k, v]) => [k, Buffer.from(v).toString("base64")]),
      ),
    });
  await plugIn(ca.entries);
  const authority = await openAuthority({ client, world, namespace: "istio-system", trustDomain: "td" });
  after(() => authority.stop());
  const handle = certificates({
    authority,
    authenticate: (name) =>
      Promise.resolve({ namespace: "coolapp", serviceAccount: name, uid: tokenAudience }),
    bundles: () => authority.bundles,
  });
  const workload = (name: string) =>
    startWorkloadIdentity({
      world,
      url: "https://discovery",
      tokenFile: "token",
      rootFile: "root",
      identity: { trustDomain: "td", namespace: "coolapp", serviceAccount: name },
      read: (file) =>
        file === "token"
          ? Promise.resolve(name)
          : file === "root"
            ? Promise.resolve(authority.roots)
            : Promise.reject(new Error("ENOENT")),
      post: (_, { token, body }) =>
        handle({ method: "POST", headers: { authorization: `Bearer ${token}` }, body: JSON.stringify(body) }),
    });
  return { world, authority, plugIn, workload };
}

/** Names are URIs here, which are looked at by themselves. */
const checkServerIdentity = () => undefined;
const tlsOf = ({ current }: WorkloadIdentity) => ({
  cert: current!.certificatePem,
  key: current!.keyPem,
  ca: current!.bundles.td!,
});

test("a mesh changes its root and every certificate under traffic, and no request is lost", async () => {
  const { world, authority, plugIn, workload } = await mesh();
  const [serves, calls] = [workload("catalog"), workload("partner")];
  await Promise.all([serves.ready, calls.ready]);
  const http = createServer(
    { ...tlsOf(serves), requestCert: true, rejectUnauthorized: true },
    (incoming, response) => {
      const { subjectaltname } = (incoming.socket as TLSSocket).getPeerCertificate();
      response.end(subjectaltname);
    },
  );
  http.keepAliveTimeout = 600_000; // The machine may be slow.
  serves.onChange(() => http.setSecureContext(tlsOf(serves)));
  await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
  after(() => {
    http.closeAllConnections();
    http.close();
  });
  const { port } = http.address() as AddressInfo;

  /** One request; with the certificate that it met. */
  const ask = (agent: Agent | false, tls: RequestOptions = {}) =>
    new Promise<{ body: string; met: PeerCertificate; socket: TLSSocket }>((resolve, reject) => {
      const sent = request({ host: "127.0.0.1", port, agent, ...tls }, (answer) => {
        const socket = answer.socket as TLSSocket;
        const met = socket.getPeerCertificate();
        let body = "";
        answer.on("data", (data) => (body += data));
        answer.on("end", () => resolve({ body, met, socket }));
      });
      sent.on("error", reject);
      sent.end();
    });
  // A connection from the beginning, kept to the end.
  const kept = new Agent({ keepAlive: true, maxSockets: 1, checkServerIdentity, ...tlsOf(calls) });
  after(() => kept.destroy());
  const first = await ask(kept);
  assert.equal(first.body, "URI:spiffe://td/ns/coolapp/sa/partner");

  let requests = 0;
  const serials = new Set<string>();
  const issuers = new Set<string>();
  const pass = async (time: number) => {
    for (let left = time; left > 0; left -= hour / 4) {
      await world.advance(Math.min(left, hour / 4));
      await authority.idle;
      // What is being signed is done in the machine's own time.
      for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve));
      const [fresh, old] = await Promise.all([
        ask(false, {
          checkServerIdentity,
          secureContext: createSecureContext(tlsOf(calls)),
        } as RequestOptions),
        ask(kept),
      ]);
      requests += 2;
      assert.equal(fresh.body, first.body);
      assert.ok(old.socket === first.socket, "the old connection lives on");
      serials.add(fresh.met.serialNumber);
      issuers.add(fresh.met.issuer.CN as string);
    }
  };
  await pass(7 * hour);
  assert.equal(serials.size, 1);
  const other = opensslCa(work, "ec", world.now());
  await plugIn(other.entries);
  await pass(0.75 * hour);
  assert.equal(issuers.size, 1, "the new root is known before it signs");
  await pass(15 * hour);
  assert.ok(serials.size >= 2, "the certificate was renewed");
  assert.equal(issuers.size, 2, "the new authority signs");
  assert.ok(requests > 150);
  serves.stop();
  calls.stop();
});
