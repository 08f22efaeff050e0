/**
 * Any history of authorities plugged in, at any pace: no two workloads ever meet that do not trust each other, and in
 * the end the last one signs and is all that is trusted.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import fc from "fast-check";
import { SimulatedWorld } from "../world/index.ts";
import { anchorOf, type Ca, endOf, readCa } from "./ca.ts";
import { bundle, certificatesIn, fingerprint } from "./pem.ts";
import {
  advance,
  type CaState,
  firstState,
  needsSuccessor,
  nextDeadline,
  type Pace,
  readState,
  rootsOf,
  writeState,
} from "./rotation.ts";
import { opensslCa } from "./testing/openssl.ts";
import { makeRoot } from "./x509.ts";

const work = mkdtempSync(join(tmpdir(), "weft-rotation-"));
after(() => rmSync(work, { recursive: true }));
const minute = 60_000;
const start = new SimulatedWorld(1).now();
const pace: Pace = { distribute: 60 * minute, lifetime: 24 * 60 * minute };

const own = await makeRoot(new SimulatedWorld(1), "td");
const self: Ca = {
  certificate: bundle(own.certificate),
  key: own.key,
  chain: "",
  roots: bundle(own.certificate),
};
const [a, c] = [opensslCa(work, "ec", start), opensslCa(work, "ec", start)];
const b = opensslCa(work, "ec", start, a);
const cas: Ca[] = [self, ...[a, b, c].map(({ entries }) => readCa(entries, start))];
/** By hand, as Istio's users rotate: the same signer, another root beside its own. */
cas.push({ ...cas[1]!, roots: bundle(cas[1]!.roots, cas[3]!.roots) });

interface Workload {
  /** Fingerprint of the root that its certificate leads to. */
  anchor: string;
  signedAt: number;
  renewAt: number;
  /** Fingerprints of what it trusts, and when that was read from the authority. */
  trusts: Set<string>;
}

test("histories of plug-ins: everybody trusts everybody at every moment, and the last one wins", () => {
  const step = fc.record({
    /** Minutes. */
    passes: fc.oneof(fc.integer({ min: 1, max: 90 }), fc.integer({ min: 60, max: 2000 })),
    plugIn: fc.option(fc.nat({ max: cas.length - 1 }), { nil: undefined, freq: 2 }),
    /** Share of the allowed delay after which each workload hears of a bundle, and of life at which it renews. */
    delays: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 4, maxLength: 4 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
      let now = start;
      let state = firstState(self);
      let wanted: Ca | undefined;
      let seen: Ca | undefined;
      /** What the authority said was to be trusted, and since when. */
      const published: { at: number; roots: Set<string> }[] = [];
      const publish = (next: CaState) => {
        state = readState(writeState(next));
        published.push({ at: now, roots: new Set(certificatesIn(rootsOf(state)).map(fingerprint)) });
      };
      const renewed = (delay: number): Workload => ({
        anchor: fingerprint(anchorOf(state.active)),
        signedAt: now,
        renewAt: now + pace.lifetime * (0.5 + delay / 6),
        trusts: published.at(-1)!.roots,
      });
      publish(state);
      const workloads = [0.1, 0.4, 0.7, 1].map(renewed);
      const pass = (minutes: number, delays: number[]) => {
        const end = now + minutes * minute;
        while (now < end) {
          now = Math.min(end, now + 7 * minute);
          // As the authority does: when something is due, or somebody plugged in another.
          if (wanted !== seen || now >= nextDeadline(state, pace)) {
            const after = advance(state, now, wanted, pace);
            if (after !== state) publish(after);
            seen = wanted;
          }
          workloads.forEach((workload, i) => {
            const heard = now - delays[i]! * pace.distribute;
            const known = published.findLast(({ at }) => at <= heard) ?? published[0]!;
            workload.trusts = known.roots;
            if (now >= workload.renewAt) workloads[i] = renewed(delays[i]!);
          });
          for (const one of workloads) {
            assert.ok(now - one.signedAt < pace.lifetime);
            for (const other of workloads)
              assert.ok(other.trusts.has(one.anchor), `at ${(now - start) / minute} min`);
          }
        }
      };
      for (const { passes, plugIn, delays } of steps) {
        if (plugIn !== undefined) wanted = cas[plugIn]!;
        pass(passes, delays);
      }
      pass(3 * 24 * 60, [0, 0.3, 0.6, 1]);
      assert.deepEqual(state.active, wanted ?? self);
      assert.equal(rootsOf(state).length, (wanted ?? self).roots.length, "nothing else is trusted");
      assert.equal(nextDeadline(state, pace), Infinity);
      assert.equal(advance(state, now, wanted, pace), state, "nothing more to do");
    }),
    { numRuns: 60 },
  );
});

test("another signer of the same root takes over at once, another root only when everybody knows it", () => {
  const from = firstState(cas[1]!);
  const sibling = advance(from, start, cas[2], pace);
  assert.equal(sibling.active, cas[2]);
  const waiting = advance(sibling, start, cas[3], pace);
  assert.equal(waiting.active, cas[2]);
  assert.equal(nextDeadline(waiting, pace), start + pace.distribute);
  assert.equal(advance(waiting, start + pace.distribute - 1, cas[3], pace).active, cas[2]);
  const done = advance(waiting, start + pace.distribute, cas[3], pace);
  assert.equal(done.active, cas[3]);
  assert.equal(nextDeadline(done, pace), start + pace.distribute + pace.lifetime);
  const back = advance(waiting, start + minute, cas[2], pace);
  assert.equal(back.next, undefined, "taken back before its time");
});

test("an authority that is over is followed at once", () => {
  const end = endOf(cas[1]!);
  const late = advance(firstState(cas[1]!), end - minute, cas[3], pace);
  assert.equal(late.active, cas[1]);
  assert.equal(nextDeadline(late, pace), end);
  assert.equal(advance(late, end, cas[3], pace).active, cas[3]);
});

test("a root of our own gets its successor while a tenth of its life is left", () => {
  const year = 365 * 24 * 60 * minute;
  assert.equal(needsSuccessor(firstState(self), start + 8.9 * year), false);
  assert.equal(needsSuccessor(firstState(self), start + 9.1 * year), true);
  const state = advance(firstState(self), start, cas[3], pace);
  assert.equal(needsSuccessor(state, start + 9.1 * year), false);
});
