/** A Transport that loses requests, answers and streams on command. */
import type { World } from "../../world/index.ts";
import type { KubeResponse, Transport } from "../transport.ts";

export class Faults {
  /** Chance that a request never reaches the server, and that its answer never reaches us. */
  lossBefore = 0;
  lossAfter = 0;
  /** Requests that have reached the server, as `METHOD path`. */
  readonly requests: string[] = [];
  readonly #world: World;
  readonly #streams = new Set<() => void>();

  constructor(world: World) {
    this.#world = world;
  }

  wrap(inner: Transport): Transport {
    return async (request) => {
      if (this.#world.random() < this.lossBefore) throw reset();
      this.requests.push(`${request.method} ${request.path}`);
      const response = await inner(request);
      if (this.#world.random() < this.lossAfter) throw reset();
      return /[?&]watch=/.test(request.path) ? this.#stream(response) : response;
    };
  }

  /** Breaks all watches; each first delivers a part of what was under way. */
  cut(): void {
    for (const cut of [...this.#streams]) cut();
  }

  get writes(): string[] {
    return this.requests.filter((request) => !request.startsWith("GET "));
  }

  #stream(response: KubeResponse): KubeResponse {
    const broken = Promise.withResolvers<never>();
    broken.promise.catch(() => {});
    const cut = () => broken.reject(reset());
    this.#streams.add(cut);
    const body = async function* (this: Faults): AsyncGenerator<Uint8Array> {
      const chunks = response.body[Symbol.asyncIterator]();
      try {
        for (;;) {
          const next = await Promise.race([chunks.next(), broken.promise]);
          if (next.done) return;
          const { value } = next;
          const middle = Math.floor(this.#world.random() * value.length);
          if (middle > 0) yield value.subarray(0, middle);
          yield value.subarray(middle);
        }
      } finally {
        this.#streams.delete(cut);
        void chunks.return?.()?.catch(() => {});
      }
    };
    return { ...response, body: body.call(this) };
  }
}

function reset(): Error {
  return Object.assign(new Error("read ECONNRESET"), { code: "ECONNRESET" });
}
