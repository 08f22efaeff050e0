/**
 * A proxy as far as discovery can tell: takes everything over delta ADS, and looks no deeper into it than names. Many of
 * them share a process with the bench, so they must cost little.
 */
import { Client, type ClientDuplexStream, credentials, type ServiceError, status } from "@grpc/grpc-js";
import { DeltaDiscoveryRequest } from "#protocols/envoy/service/discovery/v3/discovery.ts";
import { type Kind, typeUrls } from "../../src/xds/index.ts";
import { monotonic } from "./observe.ts";

const path = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
const kindOf = new Map<string, Kind>(Object.entries(typeUrls).map(([kind, url]) => [url, kind as Kind]));

export interface Tls {
  ca: string;
  cert: string;
  key: string;
  serverName: string;
}

/** The node of the i-th proxy. */
function nodeOf(i: number) {
  return {
    id: `sidecar~10.10.${i >> 8}.${i & 255}~p${i}.scale0~scale0.svc.cluster.local`,
    metadata: { NAMESPACE: "scale0", SERVICE_ACCOUNT: "default", LABELS: { app: "bench" }, CLUSTER_ID: "c1" },
  };
}

export class BenchProxy {
  readonly names: Record<Kind, Set<string>> = {
    cluster: new Set(),
    endpoints: new Set(),
    listener: new Set(),
    route: new Set(),
    secret: new Set(),
  };
  readonly bytes: Record<Kind, number> = { cluster: 0, endpoints: 0, listener: 0, route: 0, secret: 0 };
  messages = 0;
  /** When endpoints of this name came last. */
  readonly endpointsAt = new Map<string, number>();
  onResponse: (() => void) | undefined;
  readonly #client: Client;
  readonly #i: number;
  #stream!: ClientDuplexStream<Uint8Array, Buffer>;
  #closed = false;

  /** `tls`: undefined without it. */
  constructor(target: string, tls: Tls | undefined, i: number) {
    this.#i = i;
    const channel = tls
      ? credentials.createSsl(Buffer.from(tls.ca), Buffer.from(tls.key), Buffer.from(tls.cert))
      : credentials.createInsecure();
    this.#client = new Client(target, channel, {
      "grpc.max_receive_message_length": -1,
      "grpc.use_local_subchannel_pool": 1,
      ...(tls && { "grpc.ssl_target_name_override": tls.serverName }),
    });
    this.#open();
  }

  close(): void {
    this.#closed = true;
    this.#stream.cancel();
    this.#client.close();
  }

  #open(): void {
    const stream = this.#client.makeBidiStreamRequest(
      path,
      (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length),
      (bytes: Buffer) => bytes,
    );
    stream.on("data", (bytes: Buffer) => this.#receive(bytes));
    stream.on("error", (error: ServiceError) => {
      if (this.#closed) return;
      // istiod admits so many in a second, and refuses who waited for one; they come again, as Envoy does.
      if (this.messages === 0 && error.code === status.RESOURCE_EXHAUSTED)
        setTimeout(() => this.#closed || this.#open(), 500).unref();
      else console.error("proxy", error.message);
    });
    this.#stream = stream;
    this.#ask("cluster", []);
  }

  #ask(kind: Kind, names: readonly string[]): void {
    this.#send({ node: nodeOf(this.#i), typeUrl: typeUrls[kind], resourceNamesSubscribe: [...names] });
  }

  #send(request: Parameters<typeof DeltaDiscoveryRequest.fromPartial>[0]): void {
    this.#stream.write(DeltaDiscoveryRequest.encode(DeltaDiscoveryRequest.fromPartial(request)).finish());
  }

  #receive(bytes: Buffer): void {
    const at = monotonic();
    const { typeUrl, nonce, names } = parse(bytes);
    const kind = kindOf.get(typeUrl)!;
    this.messages++;
    this.bytes[kind] += bytes.length;
    const first = this.names[kind].size === 0;
    for (const name of names) {
      this.names[kind].add(name);
      if (kind === "endpoints") this.endpointsAt.set(name, at);
    }
    this.#send({ typeUrl, responseNonce: nonce });
    if (kind === "cluster" && this.names.endpoints.size < this.names.cluster.size) {
      const unknown = names.filter((name) => name.startsWith("outbound|") && !this.names.endpoints.has(name));
      if (unknown.length > 0) this.#ask("endpoints", unknown);
    }
    if (first && kind === "endpoints") this.#ask("listener", []);
    if (first && kind === "listener") this.#ask("route", ["80"]);
    this.onResponse?.();
  }
}

/** DeltaDiscoveryResponse, no deeper than the names: 2 resources (3 name), 4 type_url, 5 nonce. */
function parse(bytes: Buffer): { typeUrl: string; nonce: string; names: string[] } {
  const found = { typeUrl: "", nonce: "", names: [] as string[] };
  each(bytes, 0, bytes.length, (field, from, to) => {
    if (field === 2)
      each(bytes, from, to, (inner, start, end) => {
        if (inner === 3) found.names.push(bytes.toString("utf8", start, end));
      });
    else if (field === 4) found.typeUrl = bytes.toString("latin1", from, to);
    else if (field === 5) found.nonce = bytes.toString("latin1", from, to);
  });
  return found;
}

/** Calls `on` with every length-delimited field; there are no others here. */
function each(
  bytes: Buffer,
  from: number,
  to: number,
  on: (field: number, from: number, to: number) => void,
): void {
  for (let at = from; at < to; ) {
    const field = bytes[at++]! >> 3;
    let length = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++]!;
      length |= (byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    on(field, at, at + length);
    at += length;
  }
}
