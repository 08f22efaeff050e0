import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { framed, grpcMessage, grpcStatus, messages } from "./grpc.ts";

test("what is framed is cut into the same messages, however it arrives", () => {
  const message = fc.oneof(fc.uint8Array({ maxLength: 40 }), fc.constant(new Uint8Array(20_000).fill(7)));
  fc.assert(
    fc.property(fc.array(message, { maxLength: 5 }), fc.integer({ min: 1, max: 30_000 }), (sent, step) => {
      const bytes = Buffer.concat(sent.flatMap((each) => framed([each.subarray(0, 3), each.subarray(3)])));
      const got: Buffer[] = [];
      const read = messages(20_000, (each) => got.push(Buffer.from(each)));
      for (let at = 0; at < bytes.length; at += step)
        assert.equal(read(bytes.subarray(at, at + step)), undefined);
      assert.deepEqual(
        got,
        sent.map((each) => Buffer.from(each)),
      );
    }),
  );
});

const never = () => assert.fail("no message");

test("a message that is too long or compressed is told", () => {
  const [code] = messages(9, never)(framed([Buffer.alloc(10)])[0]!)!;
  assert.equal(code, grpcStatus.RESOURCE_EXHAUSTED);
  assert.equal(messages(9, never)(Buffer.from([1, 0, 0, 0, 0]))![0], grpcStatus.UNIMPLEMENTED);
});

test("a status message is printable ASCII that says any text, also beyond the first plane", () => {
  assert.equal(grpcMessage("50% of 🙂\n"), "50%25 of %F0%9F%99%82%0A");
  assert.equal(grpcMessage("half \ud83d"), "half %EF%BF%BD");
  fc.assert(
    fc.property(fc.string({ unit: "grapheme" }), (text) => {
      assert.match(grpcMessage(text), /^[\x20-\x7e]*$/);
      assert.equal(decodeURIComponent(grpcMessage(text)), text.toWellFormed());
    }),
  );
});
