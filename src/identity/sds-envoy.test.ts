/** The real Envoy reads what the agent writes: whom it lets in, and what it shows after a rotation. */
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { Agent, request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import type { TLSSocket } from "node:tls";
import { eventually } from "../../test/support/eventually.ts";
import { freePort } from "../../test/support/ports.ts";
import { realWorld } from "../world/index.ts";
import { noEnvoy, startEnvoy } from "../xds/testing/envoy.ts";
import { makeRequest, SdsFiles, sdsOf } from "./index.ts";
import { issue, makeRoot, openSigner, readRequest, type Signer } from "./x509.ts";

const world = realWorld();
const work = mkdtempSync(join(tmpdir(), "weft-sds-"));
after(() => rmSync(work, { recursive: true }));
const sds = join(work, "sds");

const authority = async (name: string) => {
  const root = await makeRoot(world, name);
  return { root: root.certificate, signer: await openSigner(root.certificate, root.key) };
};
const [ours, theirs] = await Promise.all([authority("ours"), authority("theirs")]);

async function certificate(signer: Signer, trustDomain: string) {
  const { csrPem, keyPem } = makeRequest();
  const certificatePem = await issue(world, signer, {
    publicKey: await readRequest(csrPem),
    names: [{ type: "url", value: `spiffe://${trustDomain}/ns/coolapp/sa/catalog` }],
    usages: ["server", "client"],
    notBefore: world.now() - 60_000,
    notAfter: world.now() + 3600_000,
  });
  return { certificatePem, keyPem };
}

test("the files are whole at every moment and for this user alone", async () => {
  const directory = join(work, "other/sds");
  const files = new SdsFiles(directory);
  const first = { ...(await certificate(ours.signer, "ours")), bundles: { ours: ours.root } };
  await files.write(first);
  assert.deepEqual(readdirSync(directory).sort(), ["ROOTCA.json", "default.json"]);
  assert.equal(statSync(join(directory, "default.json")).mode & 0o777, 0o600);
  const before = statSync(join(directory, "ROOTCA.json")).ino;
  const second = { ...first, ...(await certificate(ours.signer, "ours")) };
  await files.write(second);
  assert.equal(statSync(join(directory, "ROOTCA.json")).ino, before, "what did not change is not written");
  assert.equal(readFileSync(join(directory, "default.json"), "utf8"), sdsOf(second).default);
});

function bootstrap(port: number): object {
  const type = "type.googleapis.com/envoy.extensions";
  const secret = (name: string) => ({
    name,
    sds_config: {
      resource_api_version: "V3",
      path_config_source: { path: join(sds, `${name}.json`), watched_directory: { path: sds } },
    },
  });
  const manager = {
    "@type": `${type}.filters.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: "test",
    http_filters: [
      {
        name: "envoy.filters.http.router",
        typed_config: { "@type": `${type}.filters.http.router.v3.Router` },
      },
    ],
    route_config: {
      virtual_hosts: [
        {
          name: "all",
          domains: ["*"],
          routes: [
            {
              match: { prefix: "/" },
              direct_response: { status: 200, body: { inline_string: "in" } },
            },
          ],
        },
      ],
    },
  };
  const tls = {
    "@type": `${type}.transport_sockets.tls.v3.DownstreamTlsContext`,
    require_client_certificate: true,
    common_tls_context: {
      tls_certificate_sds_secret_configs: [secret("default")],
      validation_context_sds_secret_config: secret("ROOTCA"),
    },
  };
  return {
    node: { id: "test", cluster: "test" },
    static_resources: {
      listeners: [
        {
          name: "in",
          address: { socket_address: { address: "127.0.0.1", port_value: port } },
          filter_chains: [
            {
              transport_socket: { name: "envoy.transport_sockets.tls", typed_config: tls },
              filters: [{ name: "envoy.filters.network.http_connection_manager", typed_config: manager }],
            },
          ],
        },
      ],
    },
  };
}

test("Envoy serves with the files, checks per trust domain, and takes up what changes", {
  skip: noEnvoy,
}, async () => {
  const files = new SdsFiles(sds);
  const own = await certificate(ours.signer, "ours");
  await files.write({ ...own, bundles: { ours: ours.root } });
  const port = await freePort();
  const file = join(work, "envoy.json");
  writeFileSync(file, JSON.stringify(bootstrap(port)));
  const envoy = startEnvoy(file);
  after(() => envoy.stop());

  type Met = { status: number | undefined; serial: string; socket: TLSSocket };
  const ask = (agent: Agent) =>
    new Promise<Met>((resolve, reject) => {
      const sent = request({ host: "127.0.0.1", port, agent }, (answer) => {
        const socket = answer.socket as TLSSocket;
        const serial = socket.getPeerCertificate().serialNumber;
        answer.resume();
        answer.on("end", () => resolve({ status: answer.statusCode, serial, socket }));
      });
      sent.on("error", reject);
      sent.end();
    });
  const agents: Agent[] = [];
  after(() => {
    for (const agent of agents) agent.destroy();
  });
  const client = (
    { certificatePem: cert, keyPem: key }: { certificatePem: string; keyPem: string },
    ca = ours.root,
  ) => {
    const options = { cert, key, ca, checkServerIdentity: () => undefined, maxCachedSessions: 0 };
    const agent = new Agent({ keepAlive: true, maxSockets: 1, ...options });
    agents.push(agent);
    return agent;
  };
  const until = <T extends object>(run: () => Promise<T>, good: (value: T) => boolean): Promise<T> =>
    eventually(
      () => `as it should be; Envoy says ${envoy.output()}`,
      async () => {
        const value = await run();
        return good(value) && value;
      },
    );

  const friend = await certificate(ours.signer, "ours");
  const kept = client(friend);
  const first = await until(
    () => ask(kept),
    ({ status }) => status === 200,
  );
  const stranger = client(await certificate(theirs.signer, "theirs"));
  await assert.rejects(ask(stranger), "an unknown trust domain");
  const liar = client(await certificate(theirs.signer, "ours"));
  await assert.rejects(ask(liar), "our trust domain by another root");
  const usurper = client(await certificate(ours.signer, "theirs"));
  await assert.rejects(ask(usurper), "another trust domain by our root");

  // Another certificate: the old connection goes on, new ones meet the new certificate.
  await files.write({ ...(await certificate(ours.signer, "ours")), bundles: { ours: ours.root } });
  const fresh = await until(
    () => ask(client(friend)),
    ({ serial }) => serial !== first.serial,
  );
  assert.equal(fresh.status, 200);
  const again = await ask(kept);
  assert.ok(again.socket === first.socket && again.serial === first.serial, "the old connection lives on");

  // Another trust domain.
  const before = { ...(await certificate(ours.signer, "ours")) };
  await files.write({ ...before, bundles: { ours: ours.root, theirs: theirs.root } });
  await until(
    () => ask(stranger),
    ({ status }) => status === 200,
  );
  await assert.rejects(
    ask(client(await certificate(theirs.signer, "ours"))),
    "each for its own trust domain only",
  );
  await assert.rejects(ask(client(await certificate(ours.signer, "theirs"))), "and ours too");
  assert.ok((await ask(kept)).socket === first.socket);
});
