/**
 * How a mesh goes from one root to another without a moment in which two workloads do not trust each other
 * (law 9): first everybody trusts the new root as well, then it signs, and when the last certificate of the old one
 * is over, the old root is trusted no more. Pure: the state is kept in a Secret that all replicas of discovery
 * share, and each of them computes the same next state from it.
 */
import { X509Certificate } from "node:crypto";
import { anchorOf, type Ca, type Entries, endOf, entriesOf, readCa } from "./ca.ts";
import { bundle, certificatesIn, fingerprint, split } from "./pem.ts";

export interface CaState {
  /** Signs. */
  active: Ca;
  /** Will sign; its roots are trusted since that moment (ms since the epoch). */
  next?: { ca: Ca; since: number };
  /** Roots that sign no more, trusted until then. */
  retiring: readonly { root: string; until: number }[];
}

export interface Pace {
  /** How long it may take until everybody has heard of a new root, ms. */
  distribute: number;
  /** The longest life of a certificate that was signed, ms. */
  lifetime: number;
}

/** A day after which the last certificate is over, and an hour until the last node has the new bundle. */
export const usualPace: Pace = { distribute: 3600_000, lifetime: 24 * 3600_000 + 5 * 60_000 };

/** Everything that is to be trusted in this state; PEM. */
export function rootsOf({ active, next, retiring }: CaState): string {
  return bundle(active.roots, next?.ca.roots ?? "", ...retiring.map(({ root }) => root));
}

/**
 * The state after what has become due. `wanted`: the authority that somebody plugged in, or undefined to keep the
 * one that there is. Returns the same object when nothing changes.
 */
export function advance(state: CaState, now: number, wanted: Ca | undefined, pace = usualPace): CaState {
  let after = state;
  if (wanted && !sameCa(wanted, after.active) && !(after.next && sameCa(wanted, after.next.ca))) {
    after = trusted(anchorOf(wanted), rootsOf(after))
      ? signWith(after, wanted, now, pace)
      : { ...after, next: { ca: wanted, since: now } };
  }
  if (after.next && now >= after.next.since + pace.distribute) {
    const { next, ...rest } = after;
    after = signWith(rest, next.ca, now, pace);
  }
  const standing = after.retiring.filter(({ until }) => until > now);
  return standing.length === after.retiring.length ? after : { ...after, retiring: standing };
}

/** When `advance` has something to do next, ms since the epoch; Infinity when never. */
export function nextDeadline({ next, retiring }: CaState, pace = usualPace): number {
  return Math.min(next ? next.since + pace.distribute : Infinity, ...retiring.map(({ until }) => until));
}

/** Whether a new root of our own should be prepared: a tenth of its life is left, and none is on its way. */
export function needsSuccessor(state: CaState, now: number): boolean {
  if (state.next) return false;
  const root = new X509Certificate(anchorOf(state.active));
  const [from, to] = [root.validFromDate.getTime(), root.validToDate.getTime()];
  return Math.min(to, endOf(state.active)) - now < (to - from) / 10;
}

/** From now on `ca` signs. What was trusted besides stays so until all that it may have signed is over. */
function signWith(state: CaState, ca: Ca, now: number, { lifetime }: Pace): CaState {
  const { next: _, ...rest } = state;
  const old = certificatesIn(split(bundle(state.active.roots, state.next?.ca.roots ?? ""), ca.roots).only);
  const again = (root: string) => old.some((each) => fingerprint(each) === fingerprint(root));
  const retiring = [
    ...state.retiring.filter(({ root }) => !again(root) && !trusted(root, ca.roots)),
    ...old.map((root) => ({ root, until: now + lifetime })),
  ];
  return { ...rest, active: ca, retiring };
}

function trusted(root: string, roots: string): boolean {
  return split(root, roots).only === "";
}

function sameCa(a: Ca, b: Ca): boolean {
  return (["certificate", "chain", "roots"] as const).every((field) => a[field] === b[field]);
}

/** The entries of the Secret that holds the state. */
export function writeState({ active, next, retiring }: CaState): Record<string, string> {
  const rotation = {
    ...(next && { nextSince: new Date(next.since).toISOString() }),
    retiring: retiring.map(({ root, until }) => ({ root, until: new Date(until).toISOString() })),
  };
  return {
    ...entriesOf(active),
    ...(next && entriesOf(next.ca, "next-")),
    "rotation.json": `${JSON.stringify(rotation, undefined, 2)}\n`,
  };
}

/** Throws, in words for people, when the entries do not hold a state. */
export function readState(entries: Entries, now: number): CaState {
  const active = readCa(entries, now);
  const { nextSince, retiring = [] } = JSON.parse(entries["rotation.json"] ?? "{}") as {
    nextSince?: string;
    retiring?: { root: string; until: string }[];
  };
  return {
    active,
    ...(nextSince && { next: { ca: readCa(entries, now, "next-"), since: Date.parse(nextSince) } }),
    retiring: retiring.map(({ root, until }) => ({ root: bundle(root), until: Date.parse(until) })),
  };
}
