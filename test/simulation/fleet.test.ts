/**
 * Law 12: three clusters' control planes on real API servers under a simulated clock and a bad network. Random
 * histories of exports, un-exports, conflicts, scaling, crashes, partitions and mischief; each must end with every
 * cluster in the same, right state, and quiet.
 *
 * WEFT_RUNS multiplies the number of histories, WEFT_SEED=<n> WEFT_ONLY=1 replays one.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { play } from "./history.ts";
import { actualState, rightState } from "./state.ts";

const first = Number(process.env.WEFT_SEED ?? Math.floor(Math.random() * 2 ** 31));
const histories = process.env.WEFT_ONLY ? 1 : Math.ceil(50 * Number(process.env.WEFT_RUNS ?? 1));
const steps = 40;

test(`${histories} histories from seed ${first} end in the right state`, async () => {
  for (let seed = first; seed < first + histories; seed++) {
    const record: string[] = [];
    try {
      const { fleet } = await play(seed, steps, record);
      assert.deepEqual(await actualState(fleet), await rightState(fleet));
      const writes = () =>
        [...fleet.members].flatMap(([name, { plane }]) =>
          [...plane!.sinks].map(([sink, { writes }]) => `${name} ${sink} ${JSON.stringify(writes)}`),
        );
      const settled = writes();
      await fleet.pass(60);
      assert.deepEqual(writes(), settled, "a settled fleet writes nothing");
      await fleet.close();
    } catch (error) {
      const history = record.map((line) => `  ${line}`).join("\n");
      throw new Error(`WEFT_SEED=${seed} WEFT_ONLY=1 replays this history:\n${history}`, { cause: error });
    }
  }
});
