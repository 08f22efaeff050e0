/** All listeners (LDS). */
import { Listener } from "#protocols/envoy/config/listener/v3/listener.ts";
import type { Apply } from "../ads.ts";
import type { Address } from "../contract.ts";
import { messageOf, printAddress } from "../values.ts";
import { BoundListener, type ListenerDeps, listenerAddress } from "./listener.ts";

export class ListenerManager {
  readonly #deps: ListenerDeps;
  readonly #listeners = new Map<string, BoundListener>();
  /** By address, for those that connections are handed on to. */
  readonly #byAddress = new Map<string, BoundListener>();
  /** Replaced ones that still have connections. */
  readonly #leaving = new Set<BoundListener>();
  #heard = false;
  #stopped = false;
  readonly #waiting: (() => void)[] = [];
  /** Resolves when the first response is here and all its listeners serve (or cannot: then they say why). */
  readonly ready: Promise<void>;

  constructor(deps: Omit<ListenerDeps, "find" | "nextId">) {
    let ids = 0;
    this.#deps = { ...deps, find: (address) => this.find(address), nextId: () => ++ids };
    this.ready = new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** The active listener of an address: its own, or that of every address with the port. */
  find({ ip, port }: Address): BoundListener | undefined {
    const any = ip.includes(":") ? `[::]:${port}` : `0.0.0.0:${port}`;
    const own = this.#byAddress.get(printAddress({ ip, port })) ?? this.#byAddress.get(any);
    return own?.active ? own : undefined;
  }

  list(): readonly BoundListener[] {
    return [...this.#listeners.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  get connections(): number {
    let count = 0;
    for (const listener of [...this.#listeners.values(), ...this.#leaving]) count += listener.connections;
    return count;
  }

  readonly apply: Apply = (changed, removed) => {
    const rejections: { name: string; reason: string }[] = [];
    // What goes away first: another may take its address.
    for (const name of removed) this.#remove(name);
    for (const { name, bytes } of changed) {
      try {
        this.#put(name, bytes);
      } catch (error) {
        rejections.push({ name, reason: messageOf(error) });
      }
    }
    this.#heard = true;
    this.#settle();
    return rejections;
  };

  #put(name: string, bytes: Buffer): void {
    if (this.#stopped) return;
    const known = this.#listeners.get(name);
    if (known?.bytes?.equals(bytes)) return;
    const message = Listener.decode(bytes);
    const address = listenerAddress(message);
    const binds = (one: Listener | undefined) => one?.bindToPort !== false;
    if (
      known &&
      printAddress(known.address) === printAddress(address) &&
      binds(known.message) === binds(message)
    ) {
      known.update(message, bytes);
      return;
    }
    const fresh = new BoundListener(name, address, this.#deps);
    fresh.onActive = () => this.#settle();
    fresh.update(message, bytes);
    this.#listeners.set(name, fresh);
    if (known) this.#leave(known);
    this.#byAddress.set(printAddress(address), fresh);
  }

  #remove(name: string): void {
    const listener = this.#listeners.get(name);
    if (!listener) return;
    this.#listeners.delete(name);
    this.#leave(listener);
  }

  #leave(listener: BoundListener): void {
    const address = printAddress(listener.address);
    if (this.#byAddress.get(address) === listener) this.#byAddress.delete(address);
    this.#leaving.add(listener);
    listener.close();
    this.#deps.proxy.world.after(this.#deps.drainTime, () => this.#leaving.delete(listener));
  }

  #settle(): void {
    if (!this.#heard) return;
    for (const listener of this.#listeners.values()) {
      if (!listener.active || listener.warming) return;
      if (!listener.listening && listener.problem === undefined) return;
    }
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** Clients are told to go; those that come are still served. `inbound`: only where others call us. */
  drain(inbound: boolean): void {
    for (const listener of this.#listeners.values()) {
      if (!inbound || listener.direction === "inbound") listener.drain();
    }
  }

  /** Nothing new is accepted. */
  stopAccepting(inbound: boolean): void {
    for (const listener of this.#listeners.values()) {
      if (!inbound || listener.direction === "inbound") listener.stopAccepting();
    }
  }

  stop(): void {
    this.#stopped = true;
    for (const listener of [...this.#listeners.values(), ...this.#leaving]) listener.close(true);
    this.#listeners.clear();
    this.#leaving.clear();
    this.#byAddress.clear();
  }
}
