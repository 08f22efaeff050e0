import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { HpackDecoder, HpackEncoder } from "./hpack.ts";

const hex = (text: string) => Buffer.from(text.replaceAll(/\s/g, ""), "hex");
const decode = (decoder: HpackDecoder, block: Buffer) => decoder.decode(block, Infinity, Infinity).fields;
const encode = (encoder: HpackEncoder, ...fields: string[]) => encoder.encode(fields).toString("hex");

describe("what is written", () => {
  test("a field that was there before is one byte", () => {
    const encoder = new HpackEncoder();
    const fields = [":method", "GET", ":path", "/pets", "user-agent", "curl", "x-pet", "dog"];
    assert.equal(
      encode(encoder, ...fields),
      "82 4405 2f70657473 7a04 6375726c 4005 782d706574 03 646f67".replaceAll(" ", ""),
    );
    for (let i = 0; i < 3; i++) assert.equal(encode(encoder, ...fields), "82c0bfbe");
    // The same value in turn with another, and at another place.
    assert.equal(encode(encoder, "x-pet", "cat", ...fields), "7e03636174 82c1c0bf".replaceAll(" ", ""));
    assert.equal(encode(encoder, ...fields, "x-pet", "cat"), "82c1c0bfbe");
  });

  test("values that come once push nothing out of the table", () => {
    const encoder = new HpackEncoder();
    const decoder = new HpackDecoder();
    const stable = Array.from({ length: 20 }, (_, i) => [`x-stable-${i}`, `value ${i}`]).flat();
    const id = (i: number) => `${i}`.padStart(36, "0");
    let written = 0;
    const rounds = 5_000;
    for (let i = 0; i < rounds; i++) {
      const ids = [":path", `/pets/${i}`, "x-request-id", id(i), "date", id(i), "x-own-id", id(i)];
      const fields = [...ids, ...stable];
      const block = encoder.encode(fields);
      assert.deepEqual(decode(decoder, block), fields);
      // 20 indices, and four values with their lengths and indices of their names.
      if (block.length > 20 + 3 * 36 + 11 + 4 * 3) written++;
    }
    assert.ok(written < rounds / 100, `${written} of ${rounds}`);
  });

  test("a value that begins to come again is in the table soon", () => {
    const encoder = new HpackEncoder();
    for (let i = 0; i < 1_000; i++) encoder.encode([":path", `/pets/${i}`]);
    let literal = 0;
    while (encoder.encode([":path", "/v1.Pets/Feed"]).length > 1) literal++;
    assert.ok(literal < 100, `${literal}`);
  });

  test("secrets are never indexed: by their name, or where they are short (7.1.3)", () => {
    const encoder = new HpackEncoder();
    for (let i = 0; i < 3; i++) {
      assert.equal(
        encode(encoder, "authorization", "Basic YTpi"),
        `1f080a${Buffer.from("Basic YTpi").toString("hex")}`,
      );
      assert.equal(encode(encoder, "cookie", "id=1"), `1f110469643d31`);
      assert.equal(encode(encoder, "x-api-key", "k"), `1009${Buffer.from("x-api-key").toString("hex")}016b`);
    }
    const long = `session=${"0123456789".repeat(3)}`;
    encode(encoder, "cookie", long);
    assert.equal(encode(encoder, "cookie", long), "be");
  });

  test("another size of the table is told first: the lowest there was, and the one there is (4.2)", () => {
    const encoder = new HpackEncoder();
    encode(encoder, "x-pet", "dog");
    encoder.setMaxTableSize(65_536);
    assert.equal(encode(encoder, "x-pet", "dog"), "be");
    encoder.setMaxTableSize(0);
    encoder.setMaxTableSize(8_192);
    assert.equal(encode(encoder), "203fe11f");
    assert.equal(encode(encoder), "");
    assert.equal(encode(encoder, "x-pet", "dog").slice(0, 2), "40");
    encoder.setMaxTableSize(30);
    assert.equal(encode(encoder, ":method", "GET"), "3e82");
    assert.equal(encode(encoder, "x-pet", "dog").slice(0, 2), "00");
    encoder.setMaxTableSize(100);
    assert.equal(encode(encoder), "3f45");
  });

  test("a block stays as it is when others are written, and may be as large as it comes to be", () => {
    const encoder = new HpackEncoder();
    const decoder = new HpackDecoder();
    const lists = Array.from({ length: 200 }, (_, i) =>
      Array.from({ length: 1 + (i % 7) }, (_, k) => [
        `x-${k}`,
        `${i}`.repeat(1 + ((i * 7919) % 20_000)),
      ]).flat(),
    );
    const blocks = lists.map((fields) => encoder.encode(fields));
    for (const [i, block] of blocks.entries()) assert.deepEqual(decode(decoder, block), lists[i]);
  });
});

test("what one end writes the other reads, over any series of lists and sizes of the table", () => {
  const character = fc.nat(255).map((code) => String.fromCharCode(code));
  const anyText = fc.string({ unit: character, maxLength: 60 });
  const name = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.constantFrom(":method", ":path", "cookie", "authorization", "x-request-id", "x-a", "x-b"),
    },
    { weight: 1, arbitrary: anyText },
  );
  const value = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.constantFrom(
        "",
        "GET",
        "/",
        "a",
        "b",
        "c".repeat(30),
        "d".repeat(700),
        "e".repeat(5_000),
      ),
    },
    { weight: 2, arbitrary: anyText },
  );
  const fields = fc.array(fc.tuple(name, value), { maxLength: 12 }).map((pairs) => pairs.flat());
  const step = fc.oneof(
    { weight: 5, arbitrary: fields },
    { weight: 1, arbitrary: fc.oneof(fc.nat(200), fc.nat(5_000)) },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60, size: "max" }), (steps) => {
      const encoder = new HpackEncoder();
      const decoder = new HpackDecoder();
      for (const step of steps) {
        if (typeof step === "number") encoder.setMaxTableSize(step);
        else assert.deepEqual(decode(decoder, encoder.encode(step)), step);
      }
    }),
    { numRuns: 500 },
  );
});

test("what a connection keeps is bounded, whatever strangers send", () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const used = () => {
    collect();
    return process.memoryUsage().heapUsed;
  };
  const before = used();
  const kept = Array.from({ length: 20 }, (_, connection) => {
    const decoder = new HpackDecoder();
    const encoder = new HpackEncoder();
    for (let i = 1; i < 200; i++) {
      // A literal without indexing of each static name, and a part of a large text in a table.
      const value = Buffer.alloc(16_000, `${connection} ${i} `);
      const block = Buffer.concat([hex(`0f${(i % 46).toString(16).padStart(2, "0")}7f817c`), value]);
      const [, text] = decode(decoder, block);
      assert.equal(text!.length, 16_000);
      encoder.encode([text!.slice(100, 150), text!.slice(200, 250), "accept", text!.slice(200, 250)]);
      decode(decoder, hex(`4002${i.toString(16).padStart(4, "0")}00`));
    }
    return { decoder, encoder };
  });
  const each = (used() - before) / kept.length;
  assert.ok(each < 100_000, `${Math.round(each)} bytes`);
});
