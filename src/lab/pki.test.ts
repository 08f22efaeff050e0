import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { connect, createServer, type TLSSocket } from "node:tls";
import { realWorld } from "../world/index.ts";
import { makeClusterPki } from "./pki.ts";
import { defaultCluster } from "./spec.ts";
import { LabState } from "./state.ts";

const spec = defaultCluster("c1", 0);
const pki = await makeClusterPki(realWorld(), spec);

test("the API server's certificate is for every address and name it is called by, signed by the CA", () => {
  const ca = new X509Certificate(pki.cluster.ca.cert);
  const serving = new X509Certificate(pki.cluster.serving.cert);
  assert.ok(serving.checkIssued(ca) && serving.verify(ca.publicKey) && ca.ca && !serving.ca);
  for (const address of ["127.0.0.1", "172.18.0.1", "10.11.0.1"])
    assert.ok(serving.checkIP(address), address);
  for (const name of ["localhost", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]) {
    assert.ok(serving.checkHost(name), name);
  }
});

test("clients say who they are by name and organization, over a TLS connection that both sides check", async () => {
  const seen = new Promise<TLSSocket>((resolve, reject) => {
    const server = createServer(
      {
        key: pki.cluster.serving.key,
        cert: pki.cluster.serving.cert,
        ca: pki.cluster.ca.cert,
        requestCert: true,
      },
      (socket) => {
        socket.on("error", () => {});
        resolve(socket);
        server.close();
      },
    );
    server.on("tlsClientError", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      const { client } = pki.nodes["c1-control-plane"]!;
      const socket = connect({ host: "127.0.0.1", port, ca: pki.cluster.ca.cert, ...client }, () =>
        socket.end(),
      );
      socket.on("error", reject);
    });
  });
  const socket = await seen;
  const peer = socket.getPeerCertificate();
  assert.equal(socket.authorized, true);
  assert.deepEqual([peer.subject.CN, peer.subject.O], ["system:node:c1-control-plane", "system:nodes"]);
  socket.destroy();
});

test("the state directory gives back what was written, and only its user can read it", () => {
  const dir = mkdtempSync(join(tmpdir(), "weft-state-"));
  try {
    const state = new LabState(join(dir, "lab"));
    state.create({
      spec: { clusters: [spec] },
      ports: { c1: 1 },
      launcher: 1,
      kubeconfig: "/k",
      started: "",
    });
    state.writeClusterPki("c1", pki.cluster);
    state.writeNodePki("c1", "c1-control-plane", pki.nodes["c1-control-plane"]!);
    const trimmed = (value: unknown) => JSON.parse(JSON.stringify(value).replaceAll('\\n"', '"'));
    assert.deepEqual(trimmed(state.readClusterPki("c1")), trimmed(pki.cluster));
    assert.deepEqual(
      trimmed(state.readNodePki("c1", "c1-control-plane")),
      trimmed(pki.nodes["c1-control-plane"]),
    );
    assert.equal(statSync(state.dir).mode & 0o777, 0o700);
    assert.equal(statSync(join(state.clusterDir("c1"), "ca.key")).mode & 0o777, 0o600);
    assert.equal(state.read()?.ports.c1, 1);
    state.remove();
    assert.equal(state.read(), undefined);
  } finally {
    rmSync(dir, { recursive: true, force: true }); // an empty parent goes with the lab
  }
});
