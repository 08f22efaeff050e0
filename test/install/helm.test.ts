/** The Helm chart is what `weft install` applies, and Helm can install, upgrade and uninstall it. Half a minute. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { parseAllDocuments } from "yaml";
import { chartFolder, drift } from "../../scripts/helm.ts";
import {
  clusterProperties,
  clusterRoles,
  customResourceDefinitions,
  definitions,
  deployments,
  type KubeObject,
  namespaces,
} from "../../src/api/index.ts";
import { manifests, ownGroup } from "../../src/install/index.ts";
import { KubeClient } from "../../src/kube/index.ts";
import { type ApiServer, createApiServer } from "../../src/lab/apiserver/index.ts";
import { makeClusterPki } from "../../src/lab/pki.ts";
import { defaultCluster } from "../../src/lab/spec.ts";
import { realWorld } from "../../src/world/index.ts";
import { run } from "../support/lab.ts";
import { tool } from "../support/tools.ts";

test("the chart in the repository is what the manifests make", () => {
  assert.deepEqual(drift(), [], "node scripts/helm.ts writes it anew");
});

const helm = tool("helm");

describe("helm", { skip: helm.skip, timeout: 120_000 }, () => {
  const dir = mkdtempSync(join(tmpdir(), "weft-helm-"));
  const env = {
    ...process.env,
    KUBECONFIG: join(dir, "kubeconfig"),
    HELM_CACHE_HOME: join(dir, "cache"),
    HELM_CONFIG_HOME: join(dir, "config"),
    HELM_DATA_HOME: join(dir, "data"),
  };
  const namespace = ["--namespace", "weft-system"];
  let server: ApiServer;
  let client: KubeClient;

  async function ask(...args: string[]): Promise<string> {
    const { status, stdout, stderr } = await run(helm.file, args, env);
    assert.equal(status, 0, `helm ${args.join(" ")}\n${stdout}\n${stderr}`);
    return stdout;
  }
  const template = (...args: string[]) =>
    ask("template", "weft", chartFolder, ...namespace, "--kube-version", "1.36.0", "--include-crds", ...args);

  before(async () => {
    const world = realWorld();
    const pki = await makeClusterPki(world, defaultCluster("c1", 0));
    server = await createApiServer({
      world,
      cluster: "c1",
      storage: { kind: "memory" },
      serviceRange: "10.11.0.0/16",
      advertise: { address: "172.18.0.1", port: 6443 },
      serviceAccount: pki.cluster.serviceAccount,
    });
    const tls = { ...pki.cluster.serving, clientCa: pki.cluster.ca.cert };
    const { port } = await server.listen({ host: "127.0.0.1", port: 0, tls });
    const base64 = (text: string) => Buffer.from(text).toString("base64");
    const { admin, ca } = pki.cluster;
    const kubeconfig = {
      "current-context": "c1",
      contexts: [{ name: "c1", context: { cluster: "c1", user: "c1" } }],
      clusters: [
        {
          name: "c1",
          cluster: {
            server: `https://127.0.0.1:${port}`,
            "certificate-authority-data": base64(ca.cert),
          },
        },
      ],
      users: [
        {
          name: "c1",
          user: {
            "client-certificate-data": base64(admin.cert),
            "client-key-data": base64(admin.key),
          },
        },
      ],
    };
    writeFileSync(env.KUBECONFIG, JSON.stringify(kubeconfig), { mode: 0o600 });
    const transport = server.as({ name: "admin", groups: ["system:masters"] });
    client = new KubeClient({ transport, world, cluster: "c1" });
  });
  after(async () => {
    await server?.close();
    rmSync(dir, { recursive: true, force: true });
  });

  test("renders what `weft install` applies: for default values, for two replicas, for another lease", async () => {
    for (const [values, options] of [
      [[], {}],
      [["--set", "replicas=2"], { replicas: 2 }],
      [["--set", "leaseDuration=10"], { leaseDuration: 10 }],
      [["--set", "image=example.com/weft:2"], { image: "example.com/weft:2" }],
    ] as const) {
      const rendered = parseAllDocuments(await template("--set", "clusterName=c1", ...values)).map(
        (document) => document.toJS() as KubeObject,
      );
      const byName = (objects: KubeObject[]) =>
        new Map(objects.map((object) => [`${object.kind} ${object.metadata.name}`, object]));
      // The namespace is Helm's to make: --create-namespace.
      const applied = manifests({ name: "c1", ...options })
        .map(({ object }) => JSON.parse(JSON.stringify(object)) as KubeObject)
        .filter(({ kind }) => kind !== "Namespace");
      const [are, should] = [byName(rendered), byName(applied)];
      assert.deepEqual([...are.keys()].sort(), [...should.keys()].sort());
      for (const [name, object] of should) assert.deepEqual(are.get(name), object, name);
    }
  });

  test("refuses another namespace and values that cannot be", async () => {
    const attempt = (...args: string[]) =>
      run(helm.file, ["template", "weft", chartFolder, "--kube-version", "1.36.0", ...args], env);
    assert.match((await attempt("--namespace", "other")).stderr, /Weft lives in the namespace weft-system/);
    assert.match((await attempt(...namespace, "--set", "clusterName=Not_A_Name")).stderr, /clusterName/);
    assert.match((await attempt(...namespace, "--set", "replicas=0")).stderr, /replicas/);
  });

  test("installs, upgrades and uninstalls; definitions that others use stay", async () => {
    const release = ["weft", chartFolder, ...namespace];
    await ask("install", ...release, "--create-namespace", "--set", "clusterName=c1");
    assert.ok(await client.get(namespaces, "weft-system"));
    assert.equal((await client.get(deployments, "weft-system/weft"))?.spec?.replicas, 1);
    assert.equal((await client.get(clusterProperties, "cluster.clusterset.k8s.io"))?.spec.value, "c1");
    await ask("upgrade", ...release, "--set", "clusterName=c1,replicas=2");
    assert.equal((await client.get(deployments, "weft-system/weft"))?.spec?.replicas, 2);
    assert.match(await ask("status", "weft", ...namespace), /STATUS: deployed/);
    await ask("uninstall", "weft", ...namespace);
    assert.equal(await client.get(deployments, "weft-system/weft"), undefined);
    assert.equal(await client.get(clusterRoles, "weft"), undefined);
    const left = (await client.list(customResourceDefinitions)).items.map(({ metadata }) => metadata.name);
    const shared = definitions().filter(({ spec }) => spec.group !== ownGroup);
    assert.deepEqual(left.sort(), shared.map(({ metadata }) => metadata.name).sort());
  });
});
