import assert from "node:assert/strict";
import { test } from "node:test";
import { fields } from "../protobuf/wire.ts";
import { testServer } from "../testing/harness.ts";
import { openApiV2Protobuf } from "./openapi-v2.ts";

test("OpenAPI v2 defines the built-in kinds, and every reference in it has its definition", async () => {
  await using cluster = await testServer();
  const { body } = await cluster.client.get("/openapi/v2");
  assert.equal(body.swagger, "2.0");
  const pod = body.definitions["io.k8s.api.core.v1.Pod"];
  assert.deepEqual(pod["x-kubernetes-group-version-kind"], [{ group: "", kind: "Pod", version: "v1" }]);
  assert.equal(pod.properties.spec.$ref, "#/definitions/io.k8s.api.core.v1.PodSpec");
  const text = JSON.stringify(body);
  for (const [, name] of text.matchAll(/"\$ref":"#\/definitions\/([^"]+)"/g)) {
    assert.ok(Object.hasOwn(body.definitions, name!), name);
  }
  assert.equal(text.includes("components/schemas"), false);
  const port = body.definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"];
  assert.deepEqual(port, { type: "string", format: "int-or-string" });
});

test("OpenAPI v2 is protobuf for those who ask for it, and nothing else than JSON otherwise", async () => {
  await using cluster = await testServer();
  const accept = openApiV2Protobuf.asked;
  const answer = await cluster.server.as({ name: "admin", groups: ["system:masters"] })({
    method: "GET",
    path: "/openapi/v2",
    headers: { accept },
  });
  assert.equal(answer.headers["content-type"], openApiV2Protobuf.answered);
  const chunks: Uint8Array[] = [];
  for await (const chunk of answer.body) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  const document = [...fields(bytes)];
  assert.deepEqual(document[0], [1, Buffer.from("2.0")]);
  assert.deepEqual(
    document.map(([number]) => number),
    [1, 2, 8, 9],
  );
  const definitions = [...fields(document[3]![1] as Uint8Array)];
  const { body } = await cluster.client.get("/openapi/v2");
  assert.equal(definitions.length, Object.keys(body.definitions).length);
  assert.equal((await cluster.client.get("/openapi/v2", { accept: "text/html" })).code, 406);
});
