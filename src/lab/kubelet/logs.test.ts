import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import fc from "fast-check";
import { SimulatedWorld } from "../../world/index.ts";
import { type LogOptions, LogWriter, readLog } from "./logs.ts";

const dir = mkdtempSync(join(tmpdir(), "weft-logs-"));
after(() => rmSync(dir, { recursive: true }));
let count = 0;

async function read(path: string, world: SimulatedWorld, options: LogOptions = {}): Promise<string> {
  let text = "";
  for await (const chunk of readLog(path, options, world)) text += chunk.toString();
  return text;
}

test("what was written is read back, however the output was cut into chunks", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.string({ unit: "binary", maxLength: 30 }).map((text) => text.replaceAll("\r", " "))),
      fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1 }),
      async (lines, cuts) => {
        const world = new SimulatedWorld(1);
        const path = join(dir, `log-${count++}`);
        const writer = new LogWriter(path, world);
        const whole = Buffer.from(lines.map((line) => `${line}\n`).join(""));
        for (let at = 0, n = 0; at < whole.length; n++) {
          const end = at + cuts[n % cuts.length]!;
          writer.append("stdout", whole.subarray(at, end));
          at = end;
        }
        await writer.close();
        assert.equal(await read(path, world), whole.toString());
      },
    ),
    { numRuns: 60 },
  );
});

test("lines carry time, stream and whether they are whole", async () => {
  const world = new SimulatedWorld(1, Date.UTC(2026, 0, 1));
  const path = join(dir, "format");
  const writer = new LogWriter(path, world);
  writer.append("stdout", Buffer.from("one\ntw"));
  await world.advance(1500);
  writer.append("stderr", Buffer.from("bad\n"));
  writer.append("stdout", Buffer.from("o"));
  await writer.close();
  assert.deepEqual(readFileSync(path, "utf8").split("\n"), [
    "2026-01-01T00:00:00.000000000Z stdout F one",
    "2026-01-01T00:00:01.500000000Z stderr F bad",
    "2026-01-01T00:00:01.500000000Z stdout P two",
    "",
  ]);
  assert.equal(await read(path, world, { tailLines: 2 }), "bad\ntwo");
  assert.equal(await read(path, world, { stream: "stderr" }), "bad\n");
  assert.equal(await read(path, world, { tailLines: 0 }), "");
  assert.equal(await read(path, world, { sinceSeconds: 1 }), "bad\ntwo");
  assert.equal(await read(path, world, { sinceTime: "2026-01-01T00:00:02Z" }), "");
  assert.equal(await read(path, world, { limitBytes: 5 }), "one\nb");
  assert.equal(
    await read(path, world, { timestamps: true, tailLines: 1 }),
    "2026-01-01T00:00:01.500000000Z two",
  );
});

test("a follower gets everything in order, across a file that is put aside, and ends with the container", async () => {
  const world = new SimulatedWorld(1);
  const path = join(dir, "follow");
  const writer = new LogWriter(path, world);
  let ended = false;
  const listeners = new Set<() => void>();
  const source = {
    onWritten: (listener: () => void) => {
      listeners.add(listener);
      return writer.onWritten(listener);
    },
    ended: () => ended,
  };
  let text = "";
  const following = (async () => {
    for await (const chunk of readLog(path, { follow: true }, world, source)) text += chunk.toString();
  })();
  const line = `${"x".repeat(1000)}\n`;
  let lines = 0;
  // More than the 10 MB at which a new file is begun.
  for (let n = 0; n < 110; n++) {
    writer.append("stdout", Buffer.from(line.repeat(100)));
    lines += 100;
    await new Promise((resolve) => setImmediate(resolve));
  }
  await writer.close();
  ended = true;
  for (const listener of listeners) listener();
  await following;
  assert.equal(text.length, lines * line.length);
});

test("a log that is not there is empty", async () => {
  assert.equal(await read(join(dir, "nothing"), new SimulatedWorld(1)), "");
});
