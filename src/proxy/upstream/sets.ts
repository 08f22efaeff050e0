/**
 * Which hosts are chosen from: by priority with overprovisioning, panic, locality weights, health (Envoy's
 * source/extensions/load_balancing_policies/common/load_balancer_impl.cc).
 */
import type { World } from "../../world/index.ts";
import { type BalancedHost, type Chooser, chooser, type Policy, weighted } from "./balancers.ts";

export interface SetHost extends BalancedHost {
  readonly health: "healthy" | "degraded" | "unhealthy";
}

/** The endpoints of one locality at one priority. */
export interface LocalityHosts<H> {
  weight: number;
  hosts: readonly H[];
}

export interface BalanceSettings {
  policy: Policy;
  localityWeighted: boolean;
  /** Percent; fewer healthy hosts than this: all are used. */
  panicThreshold: number;
  /** 140: hosts count for 1.4 of themselves. */
  overprovisioning: number;
}

export interface PriorityLoads {
  /** Percent of the traffic by priority; healthy and degraded together sum up to 100. */
  healthy: number[];
  degraded: number[];
  panic: boolean[];
}

/** How the traffic is shared among priorities. `counts` by priority. */
export function priorityLoads(
  counts: readonly { total: number; healthy: number; degraded: number }[],
  overprovisioning: number,
  panicThreshold: number,
): PriorityLoads {
  const availability = (part: number, total: number) =>
    total === 0 ? 0 : Math.min(100, Math.floor((overprovisioning * part) / total));
  const healthy = counts.map((c) => availability(c.healthy, c.total));
  const degraded = counts.map((c) => availability(c.degraded, c.total));
  const available = Math.min(100, healthy.reduce((a, b) => a + b, 0) + degraded.reduce((a, b) => a + b, 0));
  const panic = counts.map((c) => {
    if (available >= 100 || panicThreshold <= 0) return false;
    const share = c.total === 0 ? 0 : (100 * (c.healthy + c.degraded)) / c.total;
    return share < Math.min(100, panicThreshold);
  });
  const loads: PriorityLoads = { healthy: counts.map(() => 0), degraded: counts.map(() => 0), panic };
  if (available === 0) {
    // Nothing is left: in panic the hosts share by their number; else all goes to the first and finds nobody.
    const hosts = counts.reduce((sum, c) => sum + c.total, 0);
    let left = 100;
    counts.forEach((c, p) => {
      const share = hosts === 0 ? 0 : Math.floor((100 * c.total) / hosts);
      loads.healthy[p] = share;
      left -= share;
    });
    const first = hosts === 0 ? 0 : counts.findIndex((c) => c.total > 0);
    if (counts.length > 0) loads.healthy[first]! += left;
    return loads;
  }
  let left = 100;
  const give = (parts: readonly number[], into: number[]) => {
    parts.forEach((part, p) => {
      const load = Math.min(left, Math.floor((part * 100) / available));
      into[p] = load;
      left -= load;
    });
  };
  give(healthy, loads.healthy);
  give(degraded, loads.degraded);
  if (left > 0) {
    // What rounding left goes to the first that has anybody.
    const first = healthy.findIndex((part) => part > 0);
    if (first >= 0) loads.healthy[first]! += left;
    else loads.degraded[degraded.findIndex((part) => part > 0)]! += left;
  }
  return loads;
}

/** Round robin's places, kept over rebuilding; the first is random. */
export class Turns {
  readonly #world: World;
  readonly #turns = new Map<string, { next: number }>();
  constructor(world: World) {
    this.#world = world;
  }
  of(source: string): { next: number } {
    let turn = this.#turns.get(source);
    if (!turn) {
      turn = { next: Math.floor(this.#world.random() * 0x10000) };
      this.#turns.set(source, turn);
    }
    return turn;
  }
}

/** One balancer over everything; made anew when hosts or their health change. */
export function balance<H extends SetHost>(
  priorities: readonly (readonly LocalityHosts<H>[])[],
  settings: BalanceSettings,
  world: World,
  turns: Turns,
): Chooser<H> {
  return balanceWithout(priorities, settings, world, turns, new Set())!;
}

/** The same without some priorities; undefined if nobody is left in the others. Panic is what it is with all of them. */
export function balanceWithout<H extends SetHost>(
  priorities: readonly (readonly LocalityHosts<H>[])[],
  settings: BalanceSettings,
  world: World,
  turns: Turns,
  excluded: ReadonlySet<number>,
): Chooser<H> | undefined {
  const counts = priorities.map((localities) => {
    const all = localities.flatMap(({ hosts }) => hosts);
    return {
      total: all.length,
      healthy: all.filter(({ health }) => health === "healthy").length,
      degraded: all.filter(({ health }) => health === "degraded").length,
    };
  });
  const { overprovisioning, panicThreshold } = settings;
  let loads = priorityLoads(counts, overprovisioning, panicThreshold);
  if (excluded.size > 0) {
    const left = counts.map((count, p) => (excluded.has(p) ? { total: 0, healthy: 0, degraded: 0 } : count));
    if (!left.some(({ healthy, degraded }) => healthy + degraded > 0)) return undefined;
    loads = { ...priorityLoads(left, overprovisioning, panicThreshold), panic: loads.panic };
  }
  const made = new Map<string, Chooser<H>>();
  const at = (priority: number, health: "healthy" | "degraded"): Chooser<H> => {
    const name = `${priority} ${loads.panic[priority] ? "all" : health}`;
    let found = made.get(name);
    if (!found) {
      const wanted = (host: H) => loads.panic[priority] || host.health === health;
      found = withinPriority(
        priorities[priority]!,
        wanted,
        Boolean(loads.panic[priority]),
        settings,
        world,
        turns,
        name,
      );
      made.set(name, found);
    }
    return found;
  };
  const hashed = settings.policy.kind === "ring-hash" || settings.policy.kind === "maglev";
  const alone = loads.healthy.indexOf(100);
  if (alone >= 0) return at(alone, "healthy");
  return {
    choose(hash) {
      // Only those that choose by hash keep to a priority by it.
      let slot = hash === undefined || !hashed ? Math.floor(world.random() * 100) : Number(hash % 100n);
      for (const [health, parts] of [
        ["healthy", loads.healthy],
        ["degraded", loads.degraded],
      ] as const) {
        for (let priority = 0; priority < parts.length; priority++) {
          slot -= parts[priority]!;
          if (slot < 0) return at(priority, health).choose(hash);
        }
      }
      return undefined;
    },
  };
}

function withinPriority<H extends SetHost>(
  localities: readonly LocalityHosts<H>[],
  wanted: (host: H) => boolean,
  panic: boolean,
  settings: BalanceSettings,
  world: World,
  turns: Turns,
  name: string,
): Chooser<H> {
  const { policy, localityWeighted, overprovisioning } = settings;
  const lists = localities.map((locality) => ({ ...locality, chosen: locality.hosts.filter(wanted) }));
  const hashed = policy.kind === "ring-hash" || policy.kind === "maglev";
  const flat = () =>
    chooser(
      policy,
      lists.flatMap(({ chosen }) => chosen),
      world,
      turns.of(name),
    );
  // In panic only the hash balancers look at localities.
  if (!localityWeighted || (panic && !hashed)) return flat();
  if (hashed) {
    // One table over all; a host weighs its share of its locality, however few are left there.
    const entries = lists.flatMap((list) => {
      const total = list.chosen.reduce((sum, { weight }) => sum + weight, 0);
      return list.chosen.flatMap((host) =>
        list.weight === 0
          ? []
          : [
              {
                host,
                hashKey: host.hashKey,
                activeRequests: 0,
                since: 0,
                weight: (list.weight * host.weight) / total,
              },
            ],
      );
    });
    const table = chooser(policy, entries, world, turns.of(name));
    return { choose: (hash) => table.choose(hash)?.host };
  }
  const effective = (list: (typeof lists)[number]) =>
    list.chosen.length === 0
      ? 0
      : list.weight * Math.min(1, (overprovisioning * list.chosen.length) / list.hosts.length / 100);
  const used = lists.filter((list) => effective(list) > 0);
  // Weights that nobody gave decide nothing.
  if (used.length === 0) return flat();
  const inside = used.map((list) => ({
    list,
    chooser: chooser(policy, list.chosen, world, turns.of(`${name} ${lists.indexOf(list)}`)),
  }));
  if (inside.length === 1) return inside[0]!.chooser;
  const localityChooser = weighted(inside, ({ list }) => effective(list), turns.of(`${name} localities`));
  return { choose: (hash) => localityChooser.choose(undefined)?.chooser.choose(hash) };
}
