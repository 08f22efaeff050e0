/** Leases (coordination.k8s.io/v1): saying that we are alive, and who of several may act. */
import { type Lease, leases } from "../api/index.ts";
import { microTimestamp, sleep, type World } from "../world/index.ts";
import type { KubeClient } from "./client.ts";
import { isAlreadyExists, isConflict, isNotFound } from "./errors.ts";

export interface HeartbeatOptions {
  client: KubeClient;
  namespace: string;
  name: string;
  /** Who holds the Lease, for people to see. */
  identity: string;
  /** Milliseconds between renewals; a third of the duration unless told. */
  every?: number;
  /** `leaseDurationSeconds`: how long a reader waits after the last renewal; 30 s unless told. */
  durationSeconds?: number;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  /** A renewal failed; the next is tried a second later. */
  onError?: (error: unknown) => void;
}

export interface Heartbeat {
  /** Monotonic milliseconds of the last renewal, or undefined. */
  readonly renewedAt: number | undefined;
  /** Ends the renewals; the Lease runs out by itself. */
  stop(): void;
}

/** A failed renewal is tried again after this many milliseconds. */
const heartbeatRetry = 1_000;

/** Renews a Lease that only we hold. Readers tell our life from the record changing, not from its time. */
export function startHeartbeat(options: HeartbeatOptions): Heartbeat {
  const { client, namespace, name, identity } = options;
  const { world } = client;
  const { durationSeconds = 30, every = (durationSeconds * 1000) / 3 } = options;
  const stop = new AbortController();
  let renewedAt: number | undefined;
  const acquireTime = microTimestamp(world);

  const beat = async () => {
    const { labels, annotations } = options;
    await client.apply(
      leases,
      {
        metadata: { namespace, name, ...(labels && { labels }), ...(annotations && { annotations }) },
        spec: {
          holderIdentity: identity,
          leaseDurationSeconds: durationSeconds,
          acquireTime,
          renewTime: microTimestamp(world),
        },
      },
      { force: true, signal: stop.signal, timeout: every },
    );
    renewedAt = world.monotonic();
  };
  const run = async () => {
    while (!stop.signal.aborted) {
      let wait = every;
      try {
        await beat();
      } catch (error) {
        if (stop.signal.aborted) return;
        options.onError?.(error);
        wait = Math.min(heartbeatRetry, every);
      }
      await sleep(world, wait, stop.signal).catch(() => {});
    }
  };
  void run();
  return {
    get renewedAt() {
      return renewedAt;
    },
    stop: () => stop.abort(),
  };
}

export interface ElectionOptions {
  client: KubeClient;
  namespace: string;
  name: string;
  /** Unique among the candidates. */
  identity: string;
  /** Milliseconds after which a silent leader is replaced; 15 s unless told. */
  leaseDuration?: number;
  /** Milliseconds without a renewal after which a leader stops by itself, before others take over; 10 s. */
  renewDeadline?: number;
  /** Milliseconds between tries; 2 s unless told. */
  retryPeriod?: number;
  /** We lead from now on, until the signal is aborted. */
  onLeading: (signal: AbortSignal) => void;
  onError?: (error: unknown) => void;
}

export interface Election {
  readonly leading: boolean;
  /** Stops leading and gives the Lease back, so that the next candidate need not wait. */
  stop(): Promise<void>;
  /** Stops as if the process had ended: nothing is said, and the Lease runs out by itself. */
  abandon(): void;
}

/**
 * Leader election as client-go does it (`tools/leaderelection`): the age of another's record is measured on our
 * own clock since it last changed; taking over goes by resourceVersion, so that one of two wins.
 */
export function elect(options: ElectionOptions): Election {
  return new Candidate(options);
}

class Candidate implements Election {
  leading = false;
  readonly #options: Required<Omit<ElectionOptions, "onError">> & Pick<ElectionOptions, "onError">;
  readonly #client: KubeClient;
  readonly #world: World;
  readonly #stop = new AbortController();
  readonly #ended: Promise<void>;
  #abandoned = false;
  #term: AbortController | undefined;
  /** When another's Lease is out, on our monotonic clock. */
  #runsOutAt = 0;
  #seen: { version: string | undefined; at: number } | undefined;
  #lease: Lease | undefined;
  #renewedAt = 0;

  constructor(options: ElectionOptions) {
    this.#options = { leaseDuration: 15_000, renewDeadline: 10_000, retryPeriod: 2_000, ...options };
    this.#client = options.client;
    this.#world = options.client.world;
    this.#ended = this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#ended;
  }

  abandon(): void {
    this.#abandoned = true;
    this.#stop.abort();
    this.#resign();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        if (await this.#acquire()) this.#lead();
      } catch (error) {
        if (!signal.aborted) this.#options.onError?.(error);
      }
      const silence = this.#world.monotonic() - this.#renewedAt;
      if (this.leading && silence >= this.#options.renewDeadline) this.#resign();
      await sleep(this.#world, this.#pause(), signal).catch(() => {});
    }
    const led = this.leading;
    this.#resign();
    if (led && !this.#abandoned)
      await this.#release().catch((error: unknown) => this.#options.onError?.(error));
  }

  /** Until the next try; who waits for another's Lease to run out looks at the very moment. */
  #pause(): number {
    const { retryPeriod } = this.#options;
    if (this.leading) return retryPeriod;
    const left = this.#runsOutAt - this.#world.monotonic();
    const period = retryPeriod * (1 + this.#world.random() * 0.2);
    return left > 0 ? Math.min(period, left) : period;
  }

  /** Renews or takes the Lease; resolves to whether it is ours now. */
  async #acquire(): Promise<boolean> {
    const { namespace, name, identity, leaseDuration, renewDeadline } = this.#options;
    const call = { signal: this.#stop.signal, timeout: renewDeadline / 2 };
    if (this.leading && this.#lease && (await this.#renew(this.#lease, call))) return true;
    const lease = await this.#client.get(leases, { namespace, name }, call);
    const began = this.#world.monotonic();
    const now = microTimestamp(this.#world);
    const version = lease?.metadata.resourceVersion;
    if (!this.#seen || this.#seen.version !== version) this.#seen = { version, at: began };
    const { spec } = lease ?? {};
    const holder = spec?.holderIdentity;
    const mine = holder === identity;
    const duration = spec?.leaseDurationSeconds ? spec.leaseDurationSeconds * 1000 : leaseDuration;
    this.#runsOutAt = holder && !mine ? this.#seen.at + duration : 0;
    if (began < this.#runsOutAt) {
      this.#resign();
      return false;
    }
    const record: Lease["spec"] = {
      holderIdentity: identity,
      leaseDurationSeconds: Math.ceil(leaseDuration / 1000),
      acquireTime: mine ? (spec?.acquireTime ?? now) : now,
      renewTime: now,
      leaseTransitions: (spec?.leaseTransitions ?? 0) + (mine || !lease ? 0 : 1),
    };
    try {
      this.#lease = lease
        ? await this.#client.replace(leases, { ...lease, spec: record }, call)
        : await this.#client.create(leases, { metadata: { namespace, name }, spec: record }, call);
    } catch (error) {
      // Someone was faster; the next look shows who.
      if (isConflict(error) || isAlreadyExists(error)) return this.leading;
      throw error;
    }
    this.#renewedAt = began;
    this.#seen = { version: this.#lease.metadata.resourceVersion, at: began };
    return true;
  }

  /** Our own Lease as we left it, without looking first; false when somebody touched it. */
  async #renew(lease: Lease, call: { signal: AbortSignal; timeout: number }): Promise<boolean> {
    const began = this.#world.monotonic();
    const spec = { ...lease.spec, renewTime: microTimestamp(this.#world) };
    try {
      this.#lease = await this.#client.replace(leases, { ...lease, spec }, call);
    } catch (error) {
      if (isConflict(error) || isNotFound(error)) return false;
      throw error;
    }
    this.#renewedAt = began;
    this.#seen = { version: this.#lease.metadata.resourceVersion, at: began };
    return true;
  }

  #lead(): void {
    if (this.leading || this.#abandoned) return;
    this.leading = true;
    this.#term = new AbortController();
    this.#options.onLeading(this.#term.signal);
  }

  #resign(): void {
    this.leading = false;
    this.#term?.abort();
    this.#term = undefined;
  }

  async #release(): Promise<void> {
    if (!this.#lease) return;
    const spec = { ...this.#lease.spec, holderIdentity: "", leaseDurationSeconds: 1 };
    await this.#client.replace(leases, { ...this.#lease, spec });
  }
}
