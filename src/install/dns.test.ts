import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { configMaps } from "../api/index.ts";
import { forwardsOf, unforwardClusterSet } from "./dns.ts";
import { dnsForwarding, prepareCluster, withoutServerBlock, withServerBlock } from "./index.ts";
import { cluster } from "./testing/cluster.ts";

const corefile = `.:53 {
    errors
    health {
       lameduck 5s
    }
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
    }
    forward . /etc/resolv.conf
    cache 30
    reload
}
`;
const ref = { namespace: "kube-system", name: "coredns" };

describe("a Corefile", () => {
  test("gets a block that is found again, replaced, and taken away without a trace", () => {
    const patched = withServerBlock(corefile, "10.11.0.20");
    assert.deepEqual(forwardsOf(patched), ["10.11.0.20"]);
    assert.deepEqual(forwardsOf(withServerBlock(patched, "10.11.0.21")), ["10.11.0.21"]);
    assert.equal(withoutServerBlock(withServerBlock(patched, "10.11.0.21")), corefile);
    assert.equal(forwardsOf(corefile), undefined);
  });
  test("a person's block counts too, and the port is that of the cluster's own block", () => {
    assert.deepEqual(forwardsOf(`${corefile}clusterset.local {\n  forward . 1.2.3.4 1.2.3.5\n}\n`), [
      "1.2.3.4",
      "1.2.3.5",
    ]);
    assert.equal(forwardsOf(`${corefile}other.local {\n  forward . 1.2.3.4\n}\n`), undefined);
    assert.match(
      withServerBlock(".:53 {\n    bind 10.0.0.1 # here\n}\n", "1.1.1.1"),
      /\{\n {4}bind 10\.0\.0\.1\n {4}errors\n/,
    );
    assert.match(withServerBlock(".:1053 {\n}\n", "1.1.1.1"), /^clusterset\.local:1053 \{$/m);
  });
});

describe("a cluster with CoreDNS", () => {
  test("is left alone and told about without --patch-coredns; with it, it forwards, and uninstall undoes that", async () => {
    const { client } = await cluster("a");
    await client.create(configMaps, { metadata: ref, data: { Corefile: corefile } });
    const notes: string[] = [];
    const hooks = { onNote: (note: string) => notes.push(note) };
    await prepareCluster(client, { name: "a" }, hooks);
    assert.match(notes.join(), /--patch-coredns/);
    assert.deepEqual(await dnsForwarding(client), { by: "Corefile", to: undefined });
    await prepareCluster(client, { name: "a", patchCoreDns: true }, hooks);
    assert.equal((await dnsForwarding(client)).to?.length, 1);
    assert.equal(notes.length, 1);
    assert.deepEqual(await unforwardClusterSet(client), ["server block in ConfigMap kube-system/coredns"]);
    assert.equal((await client.get(configMaps, ref))?.data?.Corefile, corefile);
    assert.equal(await client.get(configMaps, { ...ref, name: "kube-dns" }), undefined);
  });
});
