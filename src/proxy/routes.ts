/** Route tables (RDS): compiled once for each version, asked for while a listener uses them. */
import { RouteConfiguration } from "#protocols/envoy/config/route/v3/route.ts";
import { type AdsClient, type Apply, typeUrls } from "./ads.ts";
import type { CompiledRoutes, RouteHandle, Routes } from "./contract.ts";
import { messageOf } from "./values.ts";

class Entry implements RouteHandle {
  readonly name: string;
  current: CompiledRoutes | undefined;
  bytes: Buffer | undefined;
  readonly #watchers = new Set<() => void>();
  readonly #used: (used: boolean) => void;

  constructor(name: string, used: (used: boolean) => void) {
    this.name = name;
    this.#used = used;
  }

  subscribe(changed: () => void): () => void {
    if (this.#watchers.size === 0) this.#used(true);
    // Each call counts for itself, whatever function it brings.
    const mine = () => changed();
    this.#watchers.add(mine);
    return () => {
      if (this.#watchers.delete(mine) && this.#watchers.size === 0) this.#used(false);
    };
  }

  set(bytes: Buffer, compiled: CompiledRoutes): void {
    this.bytes = bytes;
    this.current = compiled;
    for (const watcher of [...this.#watchers]) watcher();
  }
}

export class RouteTables implements Routes {
  readonly #ads: AdsClient | undefined;
  readonly #compile: (config: RouteConfiguration) => CompiledRoutes;
  readonly #entries = new Map<string, Entry>();

  constructor(ads: AdsClient | undefined, compile: (config: RouteConfiguration) => CompiledRoutes) {
    this.#ads = ads;
    this.#compile = compile;
    ads?.serve(typeUrls.route, this.apply);
  }

  get(name: string): RouteHandle {
    return this.#entry(name);
  }

  list(): readonly RouteHandle[] {
    return [...this.#entries.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  #entry(name: string): Entry {
    let entry = this.#entries.get(name);
    if (!entry) {
      const made = new Entry(name, (used) => {
        if (!this.#ads) return;
        if (used) {
          this.#entries.set(name, made);
          this.#ads.subscribe(typeUrls.route, name);
        } else {
          this.#ads.unsubscribe(typeUrls.route, name);
          this.#entries.delete(name);
        }
      });
      this.#entries.set(name, made);
      entry = made;
    }
    return entry;
  }

  // A table that is removed stays while listeners use it (as in Envoy: it goes with its listener).
  readonly apply: Apply = (changed) => {
    const rejections: { name: string; reason: string }[] = [];
    for (const { name, bytes } of changed) {
      const entry = this.#entry(name);
      if (entry.bytes?.equals(bytes)) continue;
      try {
        entry.set(bytes, this.#compile(RouteConfiguration.decode(bytes)));
      } catch (error) {
        rejections.push({ name, reason: messageOf(error) });
      }
    }
    return rejections;
  };
}
