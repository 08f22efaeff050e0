import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import fc from "fast-check";
import { decodeMessage, decodeProtobuf, hasProtobuf, isProtobuf, ProtobufError } from "./index.ts";
import { durationText, parseDuration, special } from "./special.ts";
import { fields } from "./wire.ts";

interface Recorded {
  command: string;
  /** The body that kubectl 1.32 sent, base64. */
  body: string;
  /** What `--dry-run=client -o json` of the same command prints, without nulls. */
  object: Record<string, unknown>;
}

const recorded = JSON.parse(
  readFileSync(new URL("./kubectl.fixture.json", import.meta.url), "utf8"),
) as Recorded[];

/** kubectl's dry run prints no namespace where the request's body may have one. */
function comparable(object: Record<string, unknown>): unknown {
  const { namespace: _, ...metadata } = object.metadata as Record<string, unknown>;
  return { ...object, metadata };
}

describe("protobuf bodies of kubectl", () => {
  for (const { command, body, object } of recorded) {
    test(command, () => {
      const bytes = Buffer.from(body, "base64");
      assert.ok(isProtobuf(bytes));
      assert.deepEqual(comparable(decodeProtobuf(bytes)), comparable(object));
    });
  }
});

/** A length-delimited or varint field, for writing test messages. */
function field(number: number, value: number | string | number[]): number[] {
  if (typeof value === "number") return [...varint(number << 3), ...varint(value)];
  const bytes = typeof value === "string" ? [...Buffer.from(value)] : value;
  return [...varint((number << 3) | 2), ...varint(bytes.length), ...bytes];
}

function varint(value: number): number[] {
  const out: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  do {
    out.push(Number(rest & 0x7fn) | (rest > 0x7fn ? 0x80 : 0));
    rest >>= 7n;
  } while (rest > 0n);
  return out;
}

describe("how protobuf becomes JSON", () => {
  const decode = (message: string, ...parts: number[][]) =>
    decodeMessage(message, Uint8Array.from(parts.flat()));

  test("a zero that JSON leaves out is left out, one behind a pointer stays", () => {
    assert.deepEqual(
      decode("core.v1.ContainerPort", field(1, ""), field(2, 0), field(3, 8080), field(4, "TCP")),
      {
        containerPort: 8080,
        protocol: "TCP",
      },
    );
    assert.deepEqual(decode("apps.v1.DeploymentSpec", field(1, 0)).replicas, 0);
  });

  test("an inlined struct's fields stand in the outer object", () => {
    const emptyDir = field(2, field(2, []));
    assert.deepEqual(decode("core.v1.Volume", field(1, "data"), emptyDir), { name: "data", emptyDir: {} });
  });

  test("an integer or a string is the one that was meant", () => {
    assert.equal(special.intOrString!(Uint8Array.from([...field(1, 0), ...field(2, 80)]), decodeMessage), 80);
    assert.equal(
      special.intOrString!(Uint8Array.from([...field(1, 1), ...field(3, "http")]), decodeMessage),
      "http",
    );
  });

  test("times are whole seconds in UTC, finer ones have six digits, and the zero time is nothing", () => {
    const instant = Uint8Array.from([...field(1, 1_700_000_000), ...field(2, 123_456_789)]);
    assert.equal(special.time!(instant, decodeMessage), "2023-11-14T22:13:20Z");
    assert.equal(special.microTime!(instant, decodeMessage), "2023-11-14T22:13:20.123456Z");
    assert.equal(special.time!(new Uint8Array(), decodeMessage), undefined);
    assert.equal(special.time!(Uint8Array.from(field(1, -62135596800)), decodeMessage), undefined);
  });

  test("bytes are base64 and maps keep names that are also JavaScript's", () => {
    const entry = field(2, [...field(1, "__proto__"), ...field(2, "x")]);
    const { data } = decode("core.v1.Secret", entry) as { data: object };
    assert.deepEqual(Object.entries(data), [["__proto__", "eA=="]]);
  });

  test("fields that we do not know are passed over", () => {
    assert.deepEqual(decode("core.v1.ContainerPort", field(99, "new"), field(3, 1)), { containerPort: 1 });
  });
});

describe("what is no protobuf of ours", () => {
  const refused = (bytes: number[]) => () => decodeProtobuf(Uint8Array.from(bytes));
  const magic = [0x6b, 0x38, 0x73, 0];

  test("is refused with a reason", () => {
    assert.throws(refused([0x7b, 0x7d]), /does not appear to be a protobuf message/);
    assert.throws(
      refused([...magic, ...field(1, [...field(1, "example.com/v1"), ...field(2, "Foo")])]),
      /no kind "Foo"/,
    );
    assert.throws(refused([...magic, 0x0a, 0x7f, 0x01]), ProtobufError);
  });

  test("never throws anything but ProtobufError, whatever the bytes", () => {
    const pods = [...magic, ...field(1, [...field(1, "v1"), ...field(2, "Pod")])];
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (noise) => {
        try {
          decodeProtobuf(Uint8Array.from([...pods, ...field(2, [...noise])]));
        } catch (error) {
          // A time out of JavaScript's range and bad JSON inside RawExtension are the two other ways to be wrong.
          assert.ok(
            error instanceof ProtobufError || error instanceof RangeError || error instanceof SyntaxError,
          );
        }
      }),
    );
  });

  test("custom kinds have none", () => {
    assert.equal(hasProtobuf("example.com/v1", "Foo"), false);
    assert.equal(hasProtobuf("v1", "DeleteOptions"), true);
    assert.equal(hasProtobuf("constructor", "x"), false);
  });
});

describe("small readers", () => {
  test("a varint that is written is read", () => {
    fc.assert(
      fc.property(fc.nat(), (value) => {
        assert.deepEqual([...fields(Uint8Array.from(field(1, value)))], [[1, BigInt(value)]]);
      }),
    );
  });

  test("durations are written as Go writes them", () => {
    const cases: [number, string][] = [
      [0, "0s"],
      [1, "1ns"],
      [1500, "1.5µs"],
      [2e6, "2ms"],
      [1.5e9, "1.5s"],
      [9e10, "1m30s"],
      [3.6e12, "1h0m0s"],
      [-1e9, "-1s"],
    ];
    for (const [nanos, text] of cases) {
      assert.equal(durationText(nanos), text);
      assert.equal(parseDuration(text), nanos);
    }
    assert.equal(parseDuration("1 minute"), undefined);
  });
});
