/**
 * Runs in the network namespace of a node (see `observe.ts`). Reads orders as JSON lines, answers each with one:
 *
 *   { id, get: URL }       the status and body of an HTTP GET; status 0 when nobody answers
 *   { id, expect: TEXT }   once when nft's monitor has said TEXT, with the monotonic time of that, ms
 */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

interface Order {
  id: number;
  get?: string;
  expect?: string;
}

const expected = new Map<string, number>();
const answer = (value: object) => process.stdout.write(`${JSON.stringify(value)}\n`);

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const { id, get, expect } = JSON.parse(line) as Order;
    if (expect !== undefined) expected.set(expect, id);
    else if (get !== undefined) {
      fetch(get, { signal: AbortSignal.timeout(5_000) }).then(
        async (response) => answer({ id, status: response.status, body: await response.text() }),
        () => answer({ id, status: 0, body: "" }),
      );
    }
  })
  .on("close", () => process.exit(0));

let rest = "";
spawn("nft", ["monitor"], { stdio: ["ignore", "pipe", "inherit"] })
  .stdout.setEncoding("utf8")
  .on("data", (text: string) => {
    const at = Number(process.hrtime.bigint()) / 1e6;
    const said = rest + text;
    rest = said.slice(said.lastIndexOf("\n") + 1);
    for (const [word, id] of expected) {
      if (!said.includes(word)) continue;
      expected.delete(word);
      answer({ id, at });
    }
  });
