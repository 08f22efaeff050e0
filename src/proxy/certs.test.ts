import assert from "node:assert/strict";
import { test } from "node:test";
import { Secret } from "#protocols/envoy/extensions/transport_sockets/tls/v3/secret.ts";
import { makeCa } from "../xds/testing/certificates.ts";
import { certificateDumps } from "./certs.ts";
import type { SecretValue } from "./secrets.ts";

const handle = (name: string, current: SecretValue | undefined) => ({
  name,
  current,
  answered: true,
  subscribe: () => () => {},
});

test("/certs: whose certificates they are and until when, of every kind of secret, and no key", async () => {
  const ca = await makeCa();
  const uri = "spiffe://cluster.local/ns/demo/sa/one";
  const { cert, key } = await ca.issue({ uri });
  const secret = Secret.fromPartial({
    type: {
      $case: "tlsCertificate",
      value: {
        certificateChain: { specifier: { $case: "inlineString", value: cert } },
        privateKey: { specifier: { $case: "inlineString", value: key } },
      },
    },
  });
  const found = certificateDumps([
    handle("default", { kind: "certificate", certificatePem: cert, keyPem: key }),
    handle("ROOTCA", { kind: "bundles", bundles: { "cluster.local": ca.ca, broken: "none" } }),
    handle("shop", { kind: "message", secret }),
    handle("later", undefined),
  ]);
  assert.deepEqual(
    found.map(({ name, ca_cert, cert_chain }) => [
      name,
      ca_cert.length,
      cert_chain.map(({ subject_alt_names }) => subject_alt_names),
    ]),
    [
      ["default", 0, [[{ uri }]]],
      ["ROOTCA", 1, []],
      ["shop", 0, [[{ uri }]]],
    ],
  );
  const { valid_from, expiration_time, serial_number } = found[0]!.cert_chain[0]!;
  assert.ok(Date.parse(valid_from) < Date.parse(expiration_time));
  assert.match(serial_number, /^[0-9a-f]+$/);
  assert.ok(!JSON.stringify(found).includes("PRIVATE"));
});
