/** Terminates TLS of a connection whose first bytes have been looked at. */
import { TLSSocket } from "node:tls";
import type { TransportSocket } from "#protocols/envoy/config/core/v3/base.ts";
import { DownstreamTlsContext } from "#protocols/envoy/extensions/transport_sockets/tls/v3/tls.ts";
import type { StatsScope } from "../contract.ts";
import { Unservable } from "../contract.ts";
import type { Secrets } from "../secrets.ts";
import { factsOf, judgePeer, TlsMaterial } from "../tls.ts";
import type { TakenConnection } from "./connection.ts";
import type { ClientHello } from "./hello.ts";

const type = "type.googleapis.com/envoy.extensions.transport_sockets";

/** A filter chain's TLS. */
export class ServerTls {
  readonly material: TlsMaterial;
  readonly #required: boolean;
  readonly #stats: StatsScope;

  constructor(context: DownstreamTlsContext, secrets: Secrets, stats: StatsScope) {
    if (context.requireSni) throw new Unservable("require_sni is not served");
    if (!context.commonTlsContext) throw new Unservable("No TLS certificates found for server context");
    this.#required = context.requireClientCertificate ?? false;
    this.#stats = stats;
    this.material = new TlsMaterial(context.commonTlsContext, secrets, "server");
  }

  /** Undefined: the chain is plain. Throws Unservable. */
  static read(
    socket: TransportSocket | undefined,
    secrets: Secrets,
    stats: StatsScope,
  ): ServerTls | undefined {
    const any = socket?.configType?.$case === "typedConfig" ? socket.configType.value : undefined;
    if (!any || any.typeUrl === `${type}.raw_buffer.v3.RawBuffer`) return undefined;
    if (any.typeUrl !== `${type}.tls.v3.DownstreamTlsContext`) {
      throw new Unservable(`transport socket ${any.typeUrl} is not served`);
    }
    return new ServerTls(DownstreamTlsContext.decode(any.value), secrets, stats);
  }

  /** Shakes hands. `done` gets true when the connection's socket is the plain text side; else it is over. */
  accept(connection: TakenConnection, hello: ClientHello | undefined, done: (good: boolean) => void): void {
    const raw = connection.socket;
    const material = this.material.current;
    if (!material) {
      // Nothing to show yet, or any more.
      this.#stats.counter("downstream_context_secrets_not_ready").inc();
      raw.on("error", () => undefined).destroy();
      done(false);
      return;
    }
    const { alpn } = this.material;
    // Envoy's SPIFFE validator takes nobody without a certificate, whatever the context says.
    const required = this.#required || material.trust?.domains !== undefined;
    // Envoy goes on without ALPN when nothing is shared; OpenSSL as Node uses it would refuse.
    const shared = hello?.alpn.some((name) => alpn.includes(name)) ?? false;
    if (connection.head.length > 0) raw.unshift(connection.head);
    connection.head = Buffer.alloc(0);
    const socket = new TLSSocket(raw, {
      isServer: true,
      secureContext: material.context,
      requestCert: material.trust !== undefined || required,
      rejectUnauthorized: required,
      ...(shared ? { ALPNProtocols: [...alpn] } : {}),
    });
    let early: Buffer[] = [];
    const onData = (chunk: Buffer) => early.push(chunk);
    const stopWatching = () => {
      socket.off("error", fail).off("close", fail).off("end", fail).off("secure", secure).off("data", onData);
    };
    const fail = () => {
      stopWatching();
      socket.on("error", () => undefined).destroy();
      raw.on("error", () => undefined).destroy();
      this.#stats.counter("ssl.connection_error").inc();
      done(false);
    };
    const secure = () => {
      stopWatching();
      const judged = judgePeer(socket, material.trust, required);
      if ("problem" in judged) {
        this.#stats
          .counter(judged.problem.startsWith("PEER") ? "ssl.fail_verify_no_cert" : "ssl.fail_verify_error")
          .inc();
        socket.on("error", () => undefined).destroy();
        done(false);
        return;
      }
      this.#stats.counter("ssl.handshake").inc();
      connection.tls = factsOf(socket, judged.peer, material.local, hello?.serverName);
      connection.socket = socket;
      connection.head = Buffer.concat(early);
      early = [];
      socket.pause();
      done(true);
    };
    socket.on("error", fail).on("close", fail).on("secure", secure);
    // Half-closed connections stay open by themselves: who leaves during the handshake is seen by reading only.
    socket.on("end", fail).on("data", onData).resume();
  }
}
