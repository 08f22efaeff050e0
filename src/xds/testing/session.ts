/** A session under a clock that is moved by hand, with a client that answers when it is told to. */
import {
  DeltaDiscoveryRequest,
  DeltaDiscoveryResponse,
} from "#protocols/envoy/service/discovery/v3/discovery.ts";
import type { Timer, World } from "../../world/index.ts";
import { type Encoded, type Kind, typeUrls } from "../encode/index.ts";
import { encoded } from "../encode/pack.ts";
import { type Request, Session } from "../session.ts";

const kindOf = new Map<string, Kind>(Object.entries(typeUrls).map(([kind, url]) => [url, kind as Kind]));

/** What a client is to have, by hand: kind → name → a text that stands for the contents. */
type Wanted = Record<Kind, Map<string, string>>;
export const nothing = (): Wanted => ({
  cluster: new Map(),
  endpoints: new Map(),
  listener: new Map(),
  route: new Map(),
  secret: new Map(),
});

export interface Sent {
  kind: Kind;
  names: string[];
  removed: string[];
  nonce: string;
  versions: Map<string, string>;
}

/** A clock that moves when it is told to, and does at once what is due: the protocol needs no more of a world. */
export class Clock implements World {
  #now = 0;
  #timers: { at: number; wake: () => void }[] = [];
  now = () => this.#now;
  monotonic = () => this.#now;
  random = () => 0.5;
  bytes = (length: number) => new Uint8Array(length);

  after(delay: number, wake: () => void): Timer {
    const timer = { at: this.#now + delay, wake };
    this.#timers.push(timer);
    return {
      cancel: () => {
        this.#timers = this.#timers.filter((each) => each !== timer);
      },
    };
  }

  advance(duration: number): void {
    const end = this.#now + duration;
    for (;;) {
      const next = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      this.#timers = this.#timers.filter((each) => each !== next);
      this.#now = next.at;
      next.wake();
    }
    this.#now = end;
  }
}

/** A session with a client that answers when it is told to. */
export class Bench {
  readonly world = new Clock();
  readonly wanted = nothing();
  readonly sent: Sent[] = [];
  readonly held = nothing();
  known = true;
  #acknowledged = 0;
  readonly session: Session;

  constructor() {
    this.session = new Session({
      world: this.world,
      view: this.#view(),
      systemVersion: () => "1",
      send: (message) => {
        const bytes = Buffer.concat(message).subarray(5); // its gRPC head aside
        const { typeUrl, resources, removedResources, nonce } = DeltaDiscoveryResponse.decode(bytes);
        this.sent.push({
          kind: kindOf.get(typeUrl)!,
          names: resources.map(({ name }) => name),
          removed: removedResources,
          nonce,
          versions: new Map(resources.map(({ name, version }) => [name, version])),
        });
      },
    });
  }

  #view() {
    const bench = this;
    const find = (kind: Kind, name: string): Encoded | undefined => {
      const text = bench.wanted[kind].get(name);
      return text === undefined ? undefined : encoded(kind, name, Buffer.from(text));
    };
    return {
      get known() {
        return bench.known;
      },
      find,
      nameOf: (_kind: Kind, name: string) => name,
      names: (kind: Kind) => bench.wanted[kind].keys(),
      endpointsOf: (cluster: string) => (bench.wanted.cluster.has(cluster) ? cluster : undefined),
    };
  }

  ask(kind: Kind, names: string[] = [], more: Partial<Request> = {}): void {
    this.session.receive({
      typeUrl: typeUrls[kind],
      resourceNamesSubscribe: names,
      resourceNamesUnsubscribe: [],
      initialResourceVersions: {},
      responseNonce: "",
      ...more,
    });
  }

  /** Changes what is wanted and pushes it; an empty text takes it away. */
  change(...changes: [kind: Kind, name: string, text: string][]): void {
    for (const [kind, name, text] of changes) {
      if (text === "") this.wanted[kind].delete(name);
      else this.wanted[kind].set(name, text);
      this.session.changed(kind, [name]);
    }
    this.session.push();
  }

  /** Every other plain ACK is known by its bytes. */
  answer({ kind, nonce }: Sent, reason?: string): void {
    if (reason === undefined && this.#acknowledged++ % 2 === 0) {
      const request = DeltaDiscoveryRequest.fromPartial({ typeUrl: typeUrls[kind], responseNonce: nonce });
      const bytes = Buffer.from(DeltaDiscoveryRequest.encode(request).finish());
      if (this.session.acknowledges(bytes)) return;
    }
    this.ask(kind, [], {
      responseNonce: nonce,
      ...(reason && { errorDetail: { code: 13, message: reason } }),
    });
  }

  /** Takes what has been sent since the last call. */
  take(): Sent[] {
    return this.sent.splice(0);
  }

  /** Answers everything well until nothing comes any more; what was sent, in order. */
  settle(): Sent[] {
    const all: Sent[] = [];
    for (let next = this.take(); next.length > 0; next = this.take()) {
      for (const each of next) {
        all.push(each);
        this.answer(each);
        // As Envoy: it asks for the endpoints of clusters that it got.
        if (each.kind === "cluster" && each.names.length > 0) this.ask("endpoints", each.names);
      }
    }
    return all;
  }
}
