import assert from "node:assert/strict";
import { test } from "node:test";
import * as api from "../index.ts";

test("every kind of ours has a definition that serves the version that its resource names", () => {
  for (const resource of [
    api.serviceExports,
    api.serviceImports,
    api.clusterProperties,
    api.serviceOffers,
    api.endpointOffers,
    api.peerReports,
    api.trustBundles,
    api.serviceMeshControlPlanes,
    api.serviceMeshMemberRolls,
    api.serviceMeshMembers,
    api.virtualServices,
    api.destinationRules,
    api.gateways,
    api.serviceEntries,
    api.workloadEntries,
    api.sidecars,
    api.peerAuthentications,
    api.authorizationPolicies,
    api.gatewayApi.gatewayClasses,
    api.gatewayApi.gateways,
    api.gatewayApi.httpRoutes,
    api.gatewayApi.referenceGrants,
    api.rateLimits,
  ]) {
    const definition = api
      .definitions()
      .find((d) => d.metadata.name === `${resource.plural}.${resource.group}`);
    assert.ok(definition, resource.plural);
    const { spec } = definition;
    assert.equal(spec.names.kind, resource.kind);
    assert.equal(spec.scope === "Namespaced", resource.namespaced);
    assert.ok(spec.versions.some((version) => version.name === resource.version && version.served));
    assert.equal(spec.versions.filter((version) => version.storage).length, 1);
  }
});

test("Istio's kinds are served in the versions that manifests name, with their short names", () => {
  const of = (name: string) => api.definitions().find(({ metadata }) => metadata.name === name)!.spec;
  const versions = (name: string) =>
    of(name)
      .versions.map((version) => version.name)
      .sort();
  assert.deepEqual(versions("virtualservices.networking.istio.io"), [...api.istioVersions].sort());
  assert.deepEqual(versions("peerauthentications.security.istio.io"), ["v1", "v1beta1"]);
  assert.deepEqual(of("destinationrules.networking.istio.io").names.shortNames, ["dr"]);
  assert.deepEqual(of("servicemeshcontrolplanes.maistra.io").names.shortNames, ["smcp"]);
});

test("no definition carries descriptions of fields that others wrote", () => {
  const istio = api.definitions().filter(({ spec }) => spec.group.endsWith("istio.io"));
  assert.equal(istio.length, 8);
  assert.doesNotMatch(JSON.stringify(istio), /"description":"/);
});

test("kubectl prints a ServiceImport as TYPE, IP, AGE and a ServiceExport as AGE", () => {
  const columns = (name: string) =>
    api
      .definitions()
      .find((d) => d.metadata.name.startsWith(name))
      ?.spec.versions.map((v) => v.additionalPrinterColumns?.map((c) => [c.name, c.jsonPath]));
  const age = ["Age", ".metadata.creationTimestamp"];
  const imports = [["Type", ".spec.type"], ["IP", ".spec.ips"], age];
  assert.deepEqual(columns("serviceimports"), [imports, imports]);
  assert.deepEqual(columns("serviceexports"), [[age], [age]]);
});

test("our schemas are structural: every node has a type, every list says how it merges", () => {
  const visit = (schema: api.JSONSchemaProps, path: string) => {
    assert.ok(schema.type, `${path} has no type`);
    if (schema.type === "array") {
      assert.ok(schema["x-kubernetes-list-type"], `${path} does not say how it merges`);
      visit(schema.items as api.JSONSchemaProps, `${path}[]`);
    }
    for (const [name, child] of Object.entries(schema.properties ?? {})) visit(child, `${path}.${name}`);
    for (const name of schema.required ?? [])
      assert.ok(schema.properties?.[name], `${path} requires ${name}`);
  };
  const published = ["networking.istio.io", "security.istio.io", "gateway.networking.k8s.io"];
  for (const definition of api.definitions().filter(({ spec }) => !published.includes(spec.group))) {
    for (const version of definition.spec.versions) {
      visit(version.schema!.openAPIV3Schema!, `${definition.spec.names.kind}/${version.name}`);
    }
  }
});
