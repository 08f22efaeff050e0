import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, test } from "node:test";
import fc from "fast-check";
import { type CustomResourceDefinition, customResourceDefinitions, definitions } from "../api/index.ts";
import { compareVersions, definitionRevision, planDefinition, prepareCluster } from "./index.ts";
import { definitionManifests } from "./manifests.ts";
import { cluster } from "./testing/cluster.ts";

/** Raise `definitionRevision` when this changes, and put the new pair here. */
const known = { revision: 7, sha256: "447303088514040c" };

test("a changed definition has a new revision", () => {
  const sha256 = createHash("sha256").update(JSON.stringify(definitions())).digest("hex");
  const found = { revision: definitionRevision, sha256: sha256.slice(0, 16) };
  const todo = "raise definitionRevision in manifests.ts, put the new pair here, run node scripts/helm.ts";
  assert.deepEqual(found, known, `${todo}: ${JSON.stringify(found)}`);
});

describe("versions", () => {
  test("are ordered as Kubernetes orders them", () => {
    const ordered = [
      "foo1",
      "foo10",
      "v1alpha1",
      "v1alpha2",
      "v2alpha1",
      "v1beta1",
      "v1beta2",
      "v1",
      "v2",
      "v10",
    ];
    fc.assert(
      fc.property(fc.shuffledSubarray(ordered), (some) => {
        const sorted = [...some].sort(compareVersions);
        assert.deepEqual(
          sorted,
          ordered.filter((version) => some.includes(version)),
        );
      }),
    );
  });
});

const name = "serviceexports.multicluster.x-k8s.io";
const ours = definitionManifests().find(({ object }) => object.metadata.name === name)!.object;
const withVersions = (...versions: string[]): CustomResourceDefinition => ({
  ...ours,
  metadata: { name },
  spec: {
    ...ours.spec,
    versions: versions.map((version, i) => ({
      ...ours.spec.versions[0]!,
      name: version,
      storage: i === versions.length - 1,
    })),
  },
});

describe("a definition", () => {
  test("that is not there is installed; ours is updated", () => {
    assert.equal(planDefinition(ours, undefined).action, "install");
    assert.equal(planDefinition(ours, ours).action, "update");
  });
  test("of others stays as it is when it serves what we need", () => {
    assert.equal(planDefinition(ours, withVersions("v1alpha1", "v1beta1")).action, "keep");
  });
  test("of others that is too old is updated", () => {
    const plan = planDefinition(ours, withVersions("v1alpha1"));
    assert.deepEqual([plan.action, plan.reason], ["update", "it does not serve v1beta1"]);
  });
  test("that is newer is kept, whoever installed it", () => {
    const newer = withVersions("v1beta1", "v1");
    assert.match(planDefinition(ours, newer).reason, /it has v1, newer than v1beta1/);
    const release = (version: string, revision: string) => ({
      ...withVersions("v1alpha1"),
      metadata: {
        name,
        labels: {
          "multicluster.x-k8s.io/release-version": version,
          "multicluster.x-k8s.io/crd-schema-revision": revision,
        },
      },
    });
    for (const [version, revision] of [
      ["v0.5.2", "1"],
      ["v0.5.10", "0"],
      ["v1.0.0", "0"],
    ] as const) {
      const said = `it is that of mcs-api ${version} revision ${revision}, newer than v0.5.2 revision 0 that Weft brings`;
      assert.equal(planDefinition(ours, release(version, revision)).reason, said);
    }
    for (const version of ["v0.5.2", "v0.3.0", "main", ""]) {
      assert.equal(planDefinition(ours, release(version, "0")).action, "update", version);
    }
    const { labels } = ours.metadata;
    const annotations = { "weft.dev/definition-revision": String(definitionRevision + 1) };
    const next = { ...ours, metadata: { name, labels: labels!, annotations } };
    assert.equal(planDefinition(ours, next).action, "keep");
  });
});

describe("installing", () => {
  test("brings an old definition of others up to date and leaves it theirs; a newer one it names and keeps", async () => {
    const { client } = await cluster("a");
    const imports = "serviceimports.multicluster.x-k8s.io";
    await client.create(customResourceDefinitions, withVersions("v1alpha1"));
    const theirs = definitions().find(({ metadata }) => metadata.name === imports)!;
    const v1 = { ...theirs.spec.versions[0]!, name: "v1", storage: true };
    const versions = [...theirs.spec.versions.map((version) => ({ ...version, storage: false })), v1];
    await client.create(customResourceDefinitions, { ...theirs, spec: { ...theirs.spec, versions } });
    const notes: string[] = [];
    await prepareCluster(client, { name: "a" }, { onNote: (note) => notes.push(note) });
    assert.deepEqual(notes.sort(), [
      `kept the definition ${imports}: it has v1, newer than v1beta1 that Weft brings`,
      `updated the definition ${name}: it does not serve v1beta1`,
    ]);
    const updated = await client.get(customResourceDefinitions, name);
    assert.deepEqual(
      updated!.spec.versions.map((version) => version.name),
      ["v1alpha1", "v1beta1"],
    );
    assert.deepEqual(updated!.metadata.labels, {
      "multicluster.x-k8s.io/crd-schema-revision": "0",
      "multicluster.x-k8s.io/release-version": "v0.5.2",
    });
    assert.equal((await client.get(customResourceDefinitions, imports))!.spec.versions.length, 3);
  });
});
