/**
 * How a mesh goes from one root to another without a moment in which two workloads do not trust each other
 * (law 9): first everybody trusts the new root as well, then it signs, and when the last certificate of the old one
 * is over, the old root is trusted no more. Pure: the state is kept in a Secret that all replicas of discovery
 * share, and each of them computes the same next state from it.
 */
import { X509Certificate } from "node:crypto";
import { anchorOf, type Ca, type Entries, endOf, entriesOf, readCa } from "./ca.ts";
import { bundle, certificatesIn, fingerprint } from "./pem.ts";

export interface CaState {
  /** Signs. */
  active: Ca;
  /** Will sign when its root has been trusted for long enough that everybody has heard of it. */
  next?: Ca;
  /** What is to be trusted, in the order in which it came. */
  trusted: readonly TrustedRoot[];
}

export interface TrustedRoot {
  /** PEM. */
  root: string;
  /** ms since the epoch, without a break. */
  since: number;
  /** Set when it signs no more: what it signed is over then. */
  until?: number;
}

export interface Pace {
  /** How long it may take until everybody has heard of a new root, ms. */
  distribute: number;
  /** The longest life of a certificate that was signed, ms. */
  lifetime: number;
}

/** An hour until the last node has the new bundle, a day until the last certificate is over. */
export const usualPace: Pace = { distribute: 3600_000, lifetime: 24 * 3600_000 + 5 * 60_000 };

/** The state of a mesh that never had another authority: everybody who comes learns of it as they come. */
export function firstState(active: Ca): CaState {
  return { active, trusted: certificatesIn(active.roots).map((root) => ({ root, since: 0 })) };
}

/** Everything that is to be trusted in this state; PEM. */
export function rootsOf({ trusted }: CaState): string {
  return bundle(...trusted.map(({ root }) => root));
}

/**
 * The state after what has become due. `wanted`: the authority that somebody plugged in, or undefined to keep what
 * there is. Returns the same object when nothing changes.
 */
export function advance(state: CaState, now: number, wanted: Ca | undefined, pace = usualPace): CaState {
  let { active, next } = state;
  if (wanted) next = sameCa(wanted, active) ? undefined : wanted;
  if (next && sameCa(next, state.next)) next = state.next;
  // Those of the next one from now on, those of the active one as they were.
  let trusted = withRoots(state.trusted, [active.roots, next?.roots ?? ""], now, pace);
  // One that is over signs nothing that could be trusted: then there is nothing to wait for.
  if (next && (ripeness(trusted, next, pace) <= now || endOf(active) <= now)) {
    active = next;
    next = undefined;
    trusted = withRoots(trusted, [active.roots], now, pace);
  }
  trusted = trusted.filter(({ until = Infinity }) => until > now);
  const same = active === state.active && next === state.next && sameTrusted(trusted, state.trusted);
  return same ? state : { active, ...(next && { next }), trusted };
}

/** When `advance` has something to do next, ms since the epoch; Infinity when never. */
export function nextDeadline({ active, next, trusted }: CaState, pace = usualPace): number {
  const ends = trusted.map(({ until = Infinity }) => until);
  return Math.min(next ? Math.min(ripeness(trusted, next, pace), endOf(active)) : Infinity, ...ends);
}

/** Whether a new root of our own should be prepared: a tenth of its life is left, and none is on its way. */
export function needsSuccessor({ active, next }: CaState, now: number): boolean {
  if (next) return false;
  const root = new X509Certificate(anchorOf(active));
  const life = root.validToDate.getTime() - root.validFromDate.getTime();
  return endOf(active) - now < life / 10;
}

/** From when on everybody trusts what an authority signs. */
function ripeness(trusted: readonly TrustedRoot[], ca: Ca, { distribute }: Pace): number {
  const anchor = fingerprint(anchorOf(ca));
  const since = trusted.find(({ root }) => fingerprint(root) === anchor)?.since ?? Infinity;
  // 0 is the mesh's first: nobody is without it.
  return since === 0 ? 0 : since + distribute;
}

/** These roots are trusted without an end, the others until what they may have signed is over. */
function withRoots(
  trusted: readonly TrustedRoot[],
  texts: readonly string[],
  now: number,
  { lifetime }: Pace,
): TrustedRoot[] {
  const wanted = new Map(certificatesIn(bundle(...texts)).map((root) => [fingerprint(root), root]));
  const known = trusted.map(({ root, since, until = now + lifetime }) =>
    wanted.delete(fingerprint(root)) ? { root, since } : { root, since, until },
  );
  return [...known, ...[...wanted.values()].map((root) => ({ root, since: now }))];
}

function sameCa(a: Ca, b: Ca | undefined): boolean {
  return (["certificate", "chain", "roots"] as const).every((field) => a[field] === b?.[field]);
}

function sameTrusted(a: readonly TrustedRoot[], b: readonly TrustedRoot[]): boolean {
  return (
    a.length === b.length &&
    a.every((each, i) => (["root", "since", "until"] as const).every((field) => each[field] === b[i]![field]))
  );
}

/** The entries of the Secret that holds the state. */
export function writeState({ active, next, trusted }: CaState): Record<string, string> {
  const dates = trusted.map(({ root, since, until }) => ({
    since: new Date(since).toISOString(),
    ...(until !== undefined && { until: new Date(until).toISOString() }),
    root,
  }));
  return {
    ...entriesOf(active),
    ...(next && entriesOf(next, "next-")),
    "trusted.json": `${JSON.stringify(dates, undefined, 2)}\n`,
  };
}

/**
 * Throws, in words for people, when the entries do not hold a state. An authority that is over is one all the same:
 * who comes after it goes on from there.
 */
export function readState(entries: Entries): CaState {
  const active = readCa(entries, 0);
  const next = entries["next-ca-cert.pem"] === undefined ? undefined : readCa(entries, 0, "next-");
  const text = entries["trusted.json"];
  if (text === undefined) return { ...firstState(active), ...(next && { next }) };
  const dates = JSON.parse(text) as { root: string; since: string; until?: string }[];
  const trusted = dates.map(({ root, since, until }) => ({
    root: bundle(root),
    since: Date.parse(since),
    ...(until !== undefined && { until: Date.parse(until) }),
  }));
  return { active, ...(next && { next }), trusted };
}
