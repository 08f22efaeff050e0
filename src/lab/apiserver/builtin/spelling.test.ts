import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { canonicalQuantity, normalizeBuiltin, parseQuantity } from "./index.ts";
import { type Any, deployment, pod } from "./testing.ts";

describe("objects as Go writes them", () => {
  test("have no nulls and no empty optional fields", () => {
    const object: Any = pod({
      nodeSelector: {},
      hostNetwork: false,
      volumes: null,
      activeDeadlineSeconds: null,
    });
    object.metadata = { name: "p", creationTimestamp: null, labels: {}, annotations: { a: "" } };
    assert.equal(normalizeBuiltin(object), undefined);
    assert.deepEqual(object.metadata, { name: "p", annotations: { a: "" } });
    assert.deepEqual(Object.keys(object.spec), ["containers"]);
  });

  test("keep a zero behind a pointer", () => {
    const object = deployment({ replicas: 0, paused: false });
    normalizeBuiltin(object);
    assert.equal(object.spec.replicas, 0);
    assert.equal("paused" in object.spec, false);
  });

  test("have one spelling for quantities and times", () => {
    const object: Any = pod({
      containers: [{ name: "a", image: "i", resources: { limits: { cpu: 0.5, memory: "1024Mi" } } }],
    });
    object.metadata.creationTimestamp = "2026-01-01T02:00:00.5+02:00";
    normalizeBuiltin(object);
    assert.deepEqual(object.spec.containers[0].resources.limits, { cpu: "500m", memory: "1Gi" });
    assert.equal(object.metadata.creationTimestamp, "2026-01-01T00:00:00Z");
  });

  test("of a wrong type are refused in encoding/json's words", () => {
    const problems: [object, string][] = [
      [
        deployment({ replicas: "3" }),
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
      ],
      [
        deployment({}, { containers: {} }),
        "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
      ],
      [
        deployment({}, { containers: [{ name: "a", env: [{ name: "x", value: 1 }] }] }),
        "json: cannot unmarshal number into Go struct field EnvVar.spec.template.spec.containers.env.value of type string",
      ],
      [
        pod({ containers: [{ name: "a", resources: { limits: { cpu: "lots" } } }] }),
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
      ],
      [{ apiVersion: "v1", kind: "Secret", data: { a: "*" } }, "illegal base64 data at input byte 0"],
      [
        { apiVersion: "v1", kind: "ConfigMap", data: { a: 1 } },
        "json: cannot unmarshal number into Go struct field ConfigMap.data of type string",
      ],
    ];
    for (const [object, message] of problems) assert.equal(normalizeBuiltin(object)?.message, message);
  });

  test("of custom kinds are left alone", () => {
    const object = { apiVersion: "example.com/v1", kind: "Pod", spec: null };
    assert.equal(normalizeBuiltin(object), undefined);
    assert.equal(object.spec, null);
  });
});

describe("quantities", () => {
  const cases: [string, string][] = [
    ["0", "0"],
    ["0.5", "500m"],
    ["1000m", "1"],
    ["1500m", "1500m"],
    ["1024Mi", "1Gi"],
    ["1.5Gi", "1536Mi"],
    ["1000Ki", "1000Ki"],
    ["1000M", "1G"],
    ["100Mi", "100Mi"],
    ["1e3", "1e3"],
    ["12e6", "12e6"],
    ["-1", "-1"],
    ["0.1", "100m"],
    ["1n", "1n"],
    ["0.0000000001", "1n"],
    ["512", "512"],
  ];
  for (const [text, canonical] of cases)
    test(`${text} is ${canonical}`, () => assert.equal(canonicalQuantity(text), canonical));

  test("that are none are undefined", () => {
    for (const text of ["", "x", "1 Gi", "1gi", "--1", "1.2.3", "."])
      assert.equal(parseQuantity(text), undefined, text);
  });

  test("in their one spelling are the same amount, and stay as they are", () => {
    const suffix = fc.constantFrom("", "n", "u", "m", "k", "M", "G", "Ki", "Mi", "Gi", "e3");
    fc.assert(
      fc.property(fc.integer({ min: -100000, max: 100000 }), suffix, (amount, unit) => {
        const written = canonicalQuantity(`${amount}${unit}`)!;
        assert.equal(parseQuantity(written)!.nano, parseQuantity(`${amount}${unit}`)!.nano);
        assert.equal(canonicalQuantity(written), written);
      }),
    );
  });
});
