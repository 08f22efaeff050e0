/** A delta ADS client that takes everything: for tests, and as the proxies of the bench. */
import { type ChannelCredentials, Client, type ClientDuplexStream, credentials } from "@grpc/grpc-js";
import {
  DeltaDiscoveryRequest,
  DeltaDiscoveryResponse,
} from "#protocols/envoy/service/discovery/v3/discovery.ts";
import { type Kind, typeUrls } from "../encode/index.ts";
import type { Issued } from "./certificates.ts";

const path = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

export interface TestNode {
  pod: string;
  namespace: string;
  serviceAccount: string;
  labels?: Record<string, string>;
  address?: string;
  type?: "sidecar" | "router";
}

export interface TestClientOptions {
  target: string;
  node: TestNode;
  /** Plain text without. */
  tls?: Issued & { serverName: string };
  /** Reasons for not taking a response. */
  judge?: (response: DeltaDiscoveryResponse) => string | undefined;
  /** Called with every response after it was applied. */
  onResponse?: (kind: Kind, response: DeltaDiscoveryResponse, bytes: number) => void;
}

const kindOf = new Map<string, Kind>(Object.entries(typeUrls).map(([kind, url]) => [url, kind as Kind]));

export class TestClient {
  /** What it holds: kind → name → version and message. */
  readonly held: Record<Kind, Map<string, { version: string; message: Uint8Array }>> = {
    cluster: new Map(),
    endpoints: new Map(),
    listener: new Map(),
    route: new Map(),
    secret: new Map(),
  };
  bytes = 0;
  responses = 0;
  ended: string | undefined;
  readonly #options: TestClientOptions;
  readonly #client: Client;
  readonly #stream: ClientDuplexStream<Uint8Array, Buffer>;
  readonly #waiting = new Set<() => void>();

  constructor(options: TestClientOptions) {
    this.#options = options;
    const { tls } = options;
    const channel: ChannelCredentials = tls
      ? credentials.createSsl(Buffer.from(tls.ca), Buffer.from(tls.key), Buffer.from(tls.cert))
      : credentials.createInsecure();
    this.#client = new Client(options.target, channel, {
      "grpc.max_receive_message_length": -1,
      "grpc.use_local_subchannel_pool": 1,
      ...(tls && { "grpc.ssl_target_name_override": tls.serverName }),
    });
    this.#stream = this.#client.makeBidiStreamRequest(
      path,
      (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length),
      (bytes: Buffer) => bytes,
    );
    this.#stream.on("data", (bytes: Buffer) => this.#receive(bytes));
    this.#stream.on("error", (error) => {
      this.ended = error.message;
      this.#wake();
    });
    this.#stream.on("end", () => {
      this.ended ??= "ended";
      this.#wake();
    });
  }

  /** Asks for everything of a kind (no names), or for these. */
  ask(kind: Kind, names: readonly string[] = [], versions: Readonly<Record<string, string>> = {}): void {
    const {
      pod,
      namespace,
      serviceAccount,
      labels = {},
      address = "10.10.0.7",
      type = "sidecar",
    } = this.#options.node;
    this.#send({
      node: {
        id: `${type}~${address}~${pod}.${namespace}~${namespace}.svc.cluster.local`,
        metadata: { NAMESPACE: namespace, SERVICE_ACCOUNT: serviceAccount, LABELS: labels, CLUSTER_ID: "c1" },
      },
      typeUrl: typeUrls[kind],
      resourceNamesSubscribe: [...names],
      initialResourceVersions: versions,
    });
  }

  leave(kind: Kind, names: readonly string[]): void {
    for (const name of names) this.held[kind].delete(name);
    this.#send({ typeUrl: typeUrls[kind], resourceNamesUnsubscribe: [...names] });
  }

  /** Resolves when the condition holds, which is looked at after every response. */
  async until(condition: () => boolean, what = "it"): Promise<void> {
    if (condition()) return;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${what} did not come within 10 s`)), 10_000);
      const look = () => {
        if (!condition() && this.ended === undefined) return;
        clearTimeout(timer);
        this.#waiting.delete(look);
        if (condition()) resolve();
        else reject(new Error(`the stream ended: ${this.ended}`));
      };
      this.#waiting.add(look);
    });
  }

  close(): void {
    this.#stream.cancel();
    this.#client.close();
  }

  #send(request: Parameters<typeof DeltaDiscoveryRequest.fromPartial>[0]): void {
    this.#stream.write(DeltaDiscoveryRequest.encode(DeltaDiscoveryRequest.fromPartial(request)).finish());
  }

  #receive(bytes: Buffer): void {
    const response = DeltaDiscoveryResponse.decode(bytes);
    const { typeUrl, nonce } = response;
    const kind = kindOf.get(typeUrl)!;
    this.bytes += bytes.length;
    this.responses++;
    const reason = this.#options.judge?.(response);
    if (reason === undefined) {
      for (const { name, version, resource } of response.resources)
        this.held[kind].set(name, { version, message: resource!.value });
      for (const name of response.removedResources) this.held[kind].delete(name);
    }
    this.#options.onResponse?.(kind, response, bytes.length);
    this.#send({
      typeUrl,
      responseNonce: nonce,
      ...(reason !== undefined && { errorDetail: { code: 13, message: reason, details: [] } }),
    });
    this.#wake();
  }

  #wake(): void {
    for (const look of [...this.#waiting]) look();
  }
}
