import assert from "node:assert/strict";
import { test } from "node:test";
import type { LabStatus } from "../lab/index.ts";
import { asText } from "./status.ts";

const process = (name: string, state: string, restarts: number) => ({ name, state, restarts, memory: 40e6 });
const lab = (processes: object[]) =>
  ({
    clusters: [],
    network: "flat",
    links: [],
    balancers: [],
    processes,
    memory: 80e6,
  }) as unknown as LabStatus;
const lastRow = (processes: object[]) => asText(lab(processes)).split("\n").at(-1)!.split(/ {2,}/);

test("the last row sums up all processes", () => {
  assert.deepEqual(lastRow([process("lab", "running", 0), process("c1", "running", 2)]), [
    "all",
    "running",
    "2",
    "80 MB",
  ]);
  assert.deepEqual(lastRow([process("lab", "running", 0), process("c1", "stopped", 1)]), [
    "all",
    "1 of 2 running",
    "1",
    "80 MB",
  ]);
});
