import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { HpackDecoder, HpackError } from "./hpack.ts";

const hex = (text: string) => Buffer.from(text.replaceAll(/\s/g, ""), "hex");
const decode = (decoder: HpackDecoder, block: Buffer) => {
  const { fields, tooLarge } = decoder.decode(block, Infinity, Infinity);
  assert.equal(tooLarge, false);
  return fields;
};

/** A literal `:path` in Huffman code that is given in bits; the last byte is filled up with ones. */
function huffman(bits: string): Buffer {
  const bytes =
    (bits + "1".repeat(-bits.length & 7)).match(/.{8}/g)?.map((byte) => Number.parseInt(byte, 2)) ?? [];
  return Buffer.from([0x04, 0x80 | bytes.length, ...bytes]);
}

describe("the examples of RFC 7541, Appendix C", () => {
  for (const [name, block, ...fields] of [
    ["C.2.1", "400a637573746f6d2d6b65790d637573746f6d2d686561646572", "custom-key", "custom-header"],
    ["C.2.2", "040c2f73616d706c652f70617468", ":path", "/sample/path"],
    ["C.2.3", "100870617373776f726406736563726574", "password", "secret"],
    ["C.2.4", "82", ":method", "GET"],
  ] as const) {
    test(name, () => assert.deepEqual(decode(new HpackDecoder(), hex(block)), fields));
  }

  const first = [":method", "GET", ":scheme", "http", ":path", "/", ":authority", "www.example.com"];
  const requests = [
    first,
    [...first, "cache-control", "no-cache"],
    [...first.with(3, "https").with(5, "/index.html"), "custom-key", "custom-value"],
  ];
  const date = (second: number) => `Mon, 21 Oct 2013 20:13:${second} GMT`;
  const response = (status: string, second: number) => [
    ":status",
    status,
    "cache-control",
    "private",
    "date",
    date(second),
    "location",
    "https://www.example.com",
  ];
  const cookie = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
  const responses = [
    response("302", 21),
    response("307", 21),
    [...response("200", 22), "content-encoding", "gzip", "set-cookie", cookie],
  ];

  for (const [name, tableSize, expected, blocks] of [
    [
      "C.3: requests, not in Huffman code",
      4096,
      requests,
      [
        "828684410f7777772e6578616d706c652e636f6d",
        "828684be58086e6f2d6361636865",
        "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
      ],
    ],
    [
      "C.4: requests in Huffman code",
      4096,
      requests,
      [
        "828684418cf1e3c2e5f23a6ba0ab90f4ff",
        "828684be5886a8eb10649cbf",
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
      ],
    ],
    [
      "C.5: responses, not in Huffman code, that push one another out of a table of 256 bytes",
      256,
      responses,
      [
        `4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54
         6e1768747470733a2f2f7777772e6578616d706c652e636f6d`,
        "4803333037c1c0bf",
        `88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d
         4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b20766572
         73696f6e3d31`,
      ],
    ],
    [
      "C.6: the same in Huffman code",
      256,
      responses,
      [
        `488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b
         97c8e9ae82ae43d3`,
        "4883640effc1c0bf",
        `88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdf
         cd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007`,
      ],
    ],
  ] as const) {
    test(name, () => {
      const decoder = new HpackDecoder(tableSize);
      for (const [i, block] of blocks.entries()) assert.deepEqual(decode(decoder, hex(block)), expected[i]);
    });
  }
});

describe("what is read", () => {
  test("a field larger than the table empties it, and is read", () => {
    const decoder = new HpackDecoder(64);
    assert.deepEqual(decode(decoder, hex("4001610162 be")), ["a", "b", "a", "b"]);
    const long = `40016121${"63".repeat(33)}`;
    assert.deepEqual(decode(decoder, hex(long)), ["a", "c".repeat(33)]);
    assert.throws(() => decoder.decode(hex("be"), Infinity, Infinity), HpackError);
  });

  test("the name of the field that is pushed out by its own insertion is still known", () => {
    const decoder = new HpackDecoder(64);
    const [name, value] = ["n".repeat(10), "v".repeat(20)];
    const block = Buffer.concat([hex("400a"), Buffer.from(name), hex("14"), Buffer.from(value)]);
    decode(decoder, block);
    assert.deepEqual(decode(decoder, hex("7e0177 be")), [name, "w", name, "w"]);
  });

  test("the size of the table may change twice before fields; at 0 it is emptied", () => {
    const decoder = new HpackDecoder();
    decode(decoder, hex("4001610162"));
    assert.deepEqual(decode(decoder, hex("203fe11f 4001630164 be")), ["c", "d", "c", "d"]);
    assert.throws(() => decoder.decode(hex("bf"), Infinity, Infinity), HpackError);
    assert.deepEqual(decode(new HpackDecoder(), hex("3fe11f")), []);
  });

  test("what is too large or too many is left out, and said; the table has it all the same", () => {
    const block = hex("82 4001610162 4001630164 84");
    const [head, all] = [
      [":method", "GET"],
      [":method", "GET", "a", "b", "c", "d", ":path", "/"],
    ];
    for (const [size, fields, kept, tooLarge] of [
      [148, 4, all, false],
      [147, 4, all.slice(0, 6), true],
      [42 + 33, 4, head, true],
      [41, 4, [], true],
      [0, 4, [], true],
      [1e6, 3, all.slice(0, 6), true],
      [1e6, 1, head, true],
      [1e6, 0, [], true],
    ] as const) {
      const decoder = new HpackDecoder();
      assert.deepEqual(decoder.decode(block, size, fields), { fields: kept, tooLarge }, `${size} ${fields}`);
      assert.deepEqual(decode(decoder, hex("be bf")), ["c", "d", "a", "b"]);
    }
  });

  test("every byte of a value is the character of that number", () => {
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
    const block = Buffer.concat([hex("44 7f8101"), bytes]);
    assert.deepEqual(decode(new HpackDecoder(), block), [":path", bytes.toString("latin1")]);
  });

  test("the longest codes, and padding of 0 to 7 bits", () => {
    const nul = `${"1".repeat(10)}000`;
    const [lf, cr, syn] = ["00", "01", "10"].map((end) => "1".repeat(28) + end);
    assert.deepEqual(decode(new HpackDecoder(), huffman(nul + lf + cr + syn)), [":path", "\0\n\r\x16"]);
    // Eight times the code of `0`, of 5 bits, leaves each number of bits once.
    for (let count = 0; count < 8; count++) {
      const block = huffman("00000".repeat(count));
      assert.deepEqual(decode(new HpackDecoder(), block), [":path", "0".repeat(count)]);
    }
  });
});

describe("what cannot be read", () => {
  const ones = (count: number) => "1".repeat(count);
  for (const [what, message, block] of [
    ["index 0", /^index 0/, hex("80")],
    ["an index beyond the table", /beyond the table/, hex("be")],
    ["a large index beyond the table", /beyond the table/, hex("ffffffff7f")],
    ["a name beyond the table, with indexing", /beyond the table/, hex("7e0161")],
    ["a name beyond the table, without", /beyond the table/, hex("0f2f0161")],
    ["a name beyond the table, never indexed", /beyond the table/, hex("1f2f0161")],
    ["a number of 36 bits", /too many bytes/, hex("ff8080808001")],
    ["a number of 64 bits", /too many bytes/, hex("ffffffffffffffffffff01")],
    ["a number without an end", /too many bytes/, hex(`ff${"80".repeat(100)}`)],
    ["half a number", /within a number/, hex("ff80")],
    ["half a length", /within a number/, hex("447f")],
    ["half a size", /within a number/, hex("3f")],
    ["a length beyond the block", /within a string/, hex("440261")],
    ["a length far beyond the block", /within a string/, hex("447fffffff7f61")],
    ["a length beyond the block, in Huffman code", /within a string/, hex("44821f")],
    ["no value", /before a string/, hex("44")],
    ["no name", /before a string/, hex("40")],
    ["a name alone", /before a string/, hex("400161")],
    ["a table larger than announced", /than was announced/, hex("3fe21f")],
    ["a new size of the table after a field", /amid fields/, hex("8220")],
    ["8 bits of padding", /no Huffman code/, huffman(`11111000${ones(8)}`)],
    ["padding alone, of 8 bits", /no Huffman code/, huffman(ones(8))],
    ["padding of zeros", /no Huffman code/, huffman("00011000")],
    ["padding with a zero in it", /no Huffman code/, huffman("00011101")],
    ["half a code", /no Huffman code/, huffman(`${ones(15)}0`)],
    ["EOS alone", /no Huffman code/, huffman(ones(30))],
    ["EOS in the middle", /no Huffman code/, huffman(`00011${ones(30)}00011`)],
    ["more ones than EOS has", /no Huffman code/, huffman(ones(64))],
  ] as const) {
    test(what, () => {
      const refused = (error: Error) => error instanceof HpackError && message.test(error.message);
      assert.throws(() => new HpackDecoder().decode(block, Infinity, Infinity), refused);
      // Nor is it where nothing is kept.
      assert.throws(() => new HpackDecoder().decode(block, 0, 0), refused);
    });
  }

  test("any beginning of a block is read or refused", () => {
    const block = hex("203fe11f 8286 84418cf1e3c2e5f23a6ba0ab90f4ff 408825a849e95ba97d7f0161 be");
    decode(new HpackDecoder(), block);
    for (let end = 0; end < block.length; end++) {
      try {
        decode(new HpackDecoder(), block.subarray(0, end));
      } catch (error) {
        assert.ok(error instanceof HpackError, `${end} bytes: ${error}`);
      }
    }
  });

  test("whatever bytes come, nothing but HpackError is thrown", () => {
    const valid = fc.constantFrom(
      "203fe11f828684418cf1e3c2e5f23a6ba0ab90f4ff408825a849e95ba97d7f0161",
      "828684be5886a8eb10649cbf",
      "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8",
    );
    const change = fc.tuple(fc.nat(63), fc.nat(255));
    const mutated = fc.tuple(valid, fc.array(change, { maxLength: 4 })).map(([text, changes]) => {
      const block = hex(text);
      for (const [place, byte] of changes) block[place % block.length] = byte;
      return block;
    });
    const random = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes));
    const blocks = fc.array(fc.oneof(mutated, random), { minLength: 1, maxLength: 10 });
    fc.assert(
      fc.property(blocks, (all) => {
        const decoder = new HpackDecoder();
        for (const block of all) {
          try {
            const { fields } = decoder.decode(block, 65_536, 100);
            for (const text of fields) assert.equal(typeof text, "string");
          } catch (error) {
            assert.ok(error instanceof HpackError, `${error}`);
            return;
          }
        }
      }),
      { numRuns: 3_000 },
    );
  });
});
