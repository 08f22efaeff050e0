/**
 * The balancers, each over one list of hosts (Envoy's source/extensions/load_balancing_policies). Which list, by
 * priority, locality and health, is `sets.ts`'s business.
 */
import type { World } from "../../world/index.ts";
import { xxhash64 } from "../hash.ts";

/** What balancers see of a host. */
export interface BalancedHost {
  /** `10.0.0.1:80`: what hash balancers hash. */
  readonly hashKey: string;
  readonly weight: number;
  readonly activeRequests: number;
  /** When it came, on the monotonic clock: new hosts may start slowly. */
  readonly since: number;
}

/** Chooses from one list. Undefined for an empty list. */
export interface Chooser<H> {
  choose(hash: bigint | undefined): H | undefined;
}

/** New hosts get less at first (Envoy's SlowStartConfig): `window` in ms, `least` the share that they begin with. */
export interface SlowStart {
  window: number;
  aggression: number;
  least: number;
}

export type Policy =
  | { kind: "round-robin"; slowStart?: SlowStart }
  | { kind: "random" }
  | { kind: "least-request"; choices: number; bias: number; slowStart?: SlowStart }
  | { kind: "ring-hash"; smallest: number; largest: number }
  | { kind: "maglev"; tableSize: number };

/** `start` is where round robin begins: kept over rebuilding, so that turns go on. */
export function chooser<H extends BalancedHost>(
  policy: Policy,
  hosts: readonly H[],
  world: World,
  turn: { next: number },
): Chooser<H> {
  switch (policy.kind) {
    case "random":
      return { choose: () => hosts[Math.floor(world.random() * hosts.length)] };
    case "round-robin":
      if (sameWeights(hosts) && !anyNew(hosts, policy.slowStart, world)) {
        return { choose: () => (hosts.length === 0 ? undefined : hosts[turn.next++ % hosts.length]) };
      }
      return weighted(hosts, (host) => host.weight * started(host, policy.slowStart, world), turn);
    case "least-request":
      if (sameWeights(hosts) && !anyNew(hosts, policy.slowStart, world))
        return fewestOf(hosts, policy.choices, world);
      return weighted(
        hosts,
        (host) =>
          (host.weight * started(host, policy.slowStart, world)) / (host.activeRequests + 1) ** policy.bias,
        turn,
      );
    case "ring-hash":
      return ring(hosts, policy, world);
    case "maglev":
      return maglev(hosts, policy.tableSize, world);
  }
}

function anyNew(hosts: readonly BalancedHost[], slow: SlowStart | undefined, world: World): boolean {
  if (!slow) return false;
  const now = world.monotonic();
  return hosts.some(({ since }) => now - since < slow.window);
}

/** How much of its weight a host has by now. */
function started(host: BalancedHost, slow: SlowStart | undefined, world: World): number {
  if (!slow) return 1;
  const age = Math.max(1, world.monotonic() - host.since);
  if (age >= slow.window) return 1;
  return Math.max((age / slow.window) ** (1 / slow.aggression), slow.least);
}

function sameWeights(hosts: readonly BalancedHost[]): boolean {
  return hosts.every(({ weight }) => weight === hosts[0]!.weight);
}

/** The least busy of so many chosen at random. */
function fewestOf<H extends BalancedHost>(hosts: readonly H[], choices: number, world: World): Chooser<H> {
  return {
    choose() {
      let best: H | undefined;
      for (let i = 0; i < choices; i++) {
        const sampled = hosts[Math.floor(world.random() * hosts.length)];
        if (!sampled) return undefined;
        if (!best || sampled.activeRequests < best.activeRequests) best = sampled;
      }
      return best;
    },
  };
}

/** Earliest deadline first: a host's next turn comes after 1/weight. Weights are read when it has had its turn. */
export function weighted<H>(
  hosts: readonly H[],
  weightOf: (host: H) => number,
  turn: { next: number },
): Chooser<H> {
  const heap: { deadline: number; order: number; host: H }[] = [];
  let order = 0;
  const before = (a: (typeof heap)[number], b: (typeof heap)[number]) =>
    a.deadline < b.deadline || (a.deadline === b.deadline && a.order < b.order);
  const push = (now: number, host: H) => {
    const weight = weightOf(host);
    if (!(weight > 0)) return;
    const entry = { deadline: now + 1 / weight, order: order++, host };
    let at = heap.push(entry) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(entry, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = entry;
  };
  const pop = () => {
    const top = heap[0];
    const last = heap.pop();
    if (!top || !last || heap.length === 0) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
      if (!before(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return top;
  };
  const choose = () => {
    const top = pop();
    if (!top) return undefined;
    push(top.deadline, top.host);
    return top.host;
  };
  for (const host of hosts) push(0, host);
  // Not every proxy begins with the same host.
  if (heap.length > 0) for (let i = turn.next % heap.length; i > 0; i--) choose();
  return {
    choose() {
      turn.next++;
      return choose();
    },
  };
}

/** Ketama: a host has points on a ring by its weight; a key goes to the next point (ring_hash_lb.cc). */
function ring<H extends BalancedHost>(
  hosts: readonly H[],
  { smallest, largest }: { smallest: number; largest: number },
  world: World,
): Chooser<H> {
  if (hosts.length === 0) return { choose: () => undefined };
  const total = hosts.reduce((sum, { weight }) => sum + weight, 0);
  const shares = hosts.map(({ weight }) => weight / total);
  const least = Math.min(...shares);
  const scale = Math.min(Math.ceil(least * smallest) / least, largest);
  const points: { at: bigint; host: H }[] = [];
  let current = 0;
  let target = 0;
  hosts.forEach((host, index) => {
    target += scale * shares[index]!;
    for (let i = 0; current < target; i++, current++)
      points.push({ at: xxhash64(`${host.hashKey}_${i}`), host });
  });
  points.sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0));
  const ats = new BigUint64Array(points.map(({ at }) => at));
  return {
    choose(hash = randomHash(world)) {
      let low = 0;
      let high = ats.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (ats[middle]! < hash) low = middle + 1;
        else high = middle;
      }
      return points[low === ats.length ? 0 : low]!.host;
    },
  };
}

/** Google's Maglev: a table that hosts fill in turns by their own permutations (maglev_lb.cc). */
function maglev<H extends BalancedHost>(hosts: readonly H[], size: number, world: World): Chooser<H> {
  if (hosts.length === 0) return { choose: () => undefined };
  const total = hosts.reduce((sum, { weight }) => sum + weight, 0);
  // In the order of their addresses, so that the order in which they are told does not matter.
  const sorted = [...hosts].sort((a, b) => (a.hashKey < b.hashKey ? -1 : a.hashKey > b.hashKey ? 1 : 0));
  const entries = sorted.map((host) => ({
    host,
    share: host.weight / total,
    offset: Number(xxhash64(host.hashKey) % BigInt(size)),
    skip: Number((xxhash64(host.hashKey, 1n) % BigInt(size - 1)) + 1n),
    next: 0,
    target: 0,
  }));
  const most = Math.max(...entries.map(({ share }) => share));
  const table = new Array<H | undefined>(size);
  let filled = 0;
  for (let round = 1; filled < size; round++) {
    for (const entry of entries) {
      if (filled === size) break;
      // Lighter hosts sit out turns.
      if (round * entry.share < entry.target) continue;
      entry.target += most;
      let slot = (entry.offset + entry.skip * entry.next) % size;
      while (table[slot] !== undefined) {
        entry.next++;
        slot = (entry.offset + entry.skip * entry.next) % size;
      }
      table[slot] = entry.host;
      entry.next++;
      filled++;
    }
  }
  return { choose: (hash = randomHash(world)) => table[Number(hash % BigInt(size))] };
}

function randomHash(world: World): bigint {
  return (BigInt(Math.floor(world.random() * 2 ** 32)) << 32n) | BigInt(Math.floor(world.random() * 2 ** 32));
}
