/** Which ClusterIPs and NodePorts Services have; derived from the Services themselves. */
import type { World } from "../../../world/index.ts";
import { type ApiObject, asRecord } from "../object.ts";
import { keyOf } from "../registry.ts";

/** An IPv4 address as a number, or undefined when it is none. */
export function parseIPv4(text: string): number | undefined {
  const parts = text.split(".");
  if (parts.length !== 4) return undefined;
  let value = 0;
  for (const part of parts) {
    if (!/^(0|[1-9][0-9]{0,2})$/.test(part) || Number(part) > 255) return undefined;
    value = value * 256 + Number(part);
  }
  return value;
}

export function formatIPv4(value: number): string {
  return [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join(".");
}

interface Claims {
  addresses: number[];
  /** `TCP/30080`: a number may be shared by protocols. */
  ports: string[];
}

export class ServiceAddresses {
  readonly range: string;
  readonly ports: readonly [number, number];
  readonly #base: number;
  readonly #size: number;
  readonly #addressOwner = new Map<number, string>();
  readonly #portOwner = new Map<string, string>();

  constructor(range: string, ports: readonly [number, number]) {
    const [address, bits] = range.split("/");
    this.range = range;
    this.ports = ports;
    this.#size = 2 ** (32 - Number(bits));
    this.#base = Math.floor((parseIPv4(address!) ?? 0) / this.#size) * this.#size;
  }

  /** The first address, which is the API server's own. */
  get first(): string {
    return formatIPv4(this.#base + 1);
  }

  inRange(address: string): boolean {
    const value = parseIPv4(address);
    // Neither the network's own address nor its broadcast address is given out.
    return value !== undefined && value > this.#base && value < this.#base + this.#size - 1;
  }

  /** The Service that has an address, as `namespace/name`. */
  ownerOf(address: string): string | undefined {
    return this.#addressOwner.get(parseIPv4(address) ?? -1);
  }

  portOwner(protocol: string, port: number): string | undefined {
    return this.#portOwner.get(`${protocol}/${port}`);
  }

  /**
   * A free address, or undefined when there is none. The lower part of the range is kept for people who ask for an
   * address, and used when the rest is full (KEP-3070).
   */
  pickAddress(world: World): string | undefined {
    const reserved = Math.min(Math.max(16, Math.floor(this.#size / 16)), 256);
    const usable = this.#size - 2;
    const band = usable > reserved * 2 ? reserved : 0;
    const free = (from: number, count: number) => {
      const start = Math.floor(world.random() * count);
      for (let i = 0; i < count; i++) {
        const value = this.#base + 1 + from + ((start + i) % count);
        if (!this.#addressOwner.has(value)) return formatIPv4(value);
      }
      return undefined;
    };
    return free(band, usable - band) ?? (band > 0 ? free(0, band) : undefined);
  }

  /** A port that no protocol uses, or undefined when there is none. */
  pickPort(world: World, taken: ReadonlySet<number>): number | undefined {
    const [low, high] = this.ports;
    const count = high - low + 1;
    const start = Math.floor(world.random() * count);
    for (let i = 0; i < count; i++) {
      const port = low + ((start + i) % count);
      if (taken.has(port)) continue;
      if (!["TCP", "UDP", "SCTP"].some((protocol) => this.#portOwner.has(`${protocol}/${port}`))) return port;
    }
    return undefined;
  }

  /** Takes a change of a Service into account. */
  change(before: ApiObject | undefined, after: ApiObject | undefined): void {
    if (before) {
      const claims = claimsOf(before);
      for (const address of claims.addresses) this.#addressOwner.delete(address);
      for (const port of claims.ports) this.#portOwner.delete(port);
    }
    if (after) {
      const key = keyOf(after.metadata.namespace, after.metadata.name);
      const claims = claimsOf(after);
      for (const address of claims.addresses) this.#addressOwner.set(address, key);
      for (const port of claims.ports) this.#portOwner.set(port, key);
    }
  }
}

function claimsOf(service: ApiObject): Claims {
  const spec = asRecord(service.spec) ?? {};
  const address = typeof spec.clusterIP === "string" ? parseIPv4(spec.clusterIP) : undefined;
  const ports = Array.isArray(spec.ports) ? spec.ports : [];
  return {
    addresses: address === undefined ? [] : [address],
    ports: ports.flatMap((item) => {
      const port = asRecord(item);
      return typeof port?.nodePort === "number" && port.nodePort > 0
        ? [`${port.protocol ?? "TCP"}/${port.nodePort}`]
        : [];
    }),
  };
}
