/** The command operators of Envoy's format strings (docs: configuration/observability/access_log/usage). */
import { hostname } from "node:os";
import { type Address, type PeerCertificate, type StreamFacts, Unservable } from "../contract.ts";
import { printAddress } from "../values.ts";
import { grpcStatusName } from "./grpc.ts";

type Operator = (facts: StreamFacts) => string | undefined;

const filled = (text: string | undefined) => (text === "" ? undefined : text);
const number = (value: number | undefined) => (value === undefined ? undefined : String(Math.floor(value)));
const plain =
  (read: Operator): ((argument: string | undefined) => Operator) =>
  () =>
    read;

/** `X?Y`: the first header, or the second where it is missing. */
function header(
  argument: string | undefined,
  read: (facts: StreamFacts, name: string) => string | undefined,
) {
  if (!argument) throw new Unservable("format string: a header operator names no header");
  const [first, second] = argument.toLowerCase().split("?") as [string, string?];
  if (second === undefined) return (facts: StreamFacts) => read(facts, first);
  return (facts: StreamFacts) => read(facts, first) ?? read(facts, second);
}

const address = (read: (facts: StreamFacts) => Address | undefined, part: "all" | "ip" | "port") =>
  plain((facts) => {
    const found = read(facts);
    if (!found) return undefined;
    return part === "all" ? printAddress(found) : part === "ip" ? found.ip : String(found.port);
  });

const remote = (facts: StreamFacts) => facts.remote ?? facts.downstream.remote;
const direct = (facts: StreamFacts) => facts.downstream.remote;
const local = (facts: StreamFacts) => facts.downstream.local;
const upstream = (facts: StreamFacts) => facts.upstream?.host?.address;
const upstreamLocal = (facts: StreamFacts) => facts.upstream?.local;

const peer = (read: (certificate: PeerCertificate) => string) =>
  plain((facts) => {
    const certificate = facts.downstream.tls?.peer;
    return certificate && filled(read(certificate));
  });
const upstreamPeer = (read: (certificate: PeerCertificate) => string) =>
  plain((facts) => {
    const certificate = facts.upstream?.tls?.peer;
    return certificate && filled(read(certificate));
  });

/** `ns:key:key`, or `ns`: what is there, as text or JSON. */
function metadata(
  argument: string | undefined,
  read: (facts: StreamFacts) => Record<string, unknown> | undefined,
): Operator {
  const path = (argument ?? "").split(":");
  return (facts) => {
    let value: unknown = read(facts);
    for (const key of path) value = (value as Record<string, unknown> | undefined)?.[key];
    if (value === undefined || value === null) return undefined;
    return typeof value === "string" ? value : JSON.stringify(value);
  };
}

function certificatePem(certificate: PeerCertificate): string {
  const base64 = certificate.der.toString("base64").replace(/.{64}/g, "$&\n").trimEnd();
  return encodeURIComponent(`-----BEGIN CERTIFICATE-----\n${base64}\n-----END CERTIFICATE-----\n`);
}

/** strftime as Envoy has it, with `%3f` for milliseconds; without a format ISO 8601 in UTC. */
function startTime(format: string | undefined): Operator {
  if (!format) return (facts) => new Date(facts.start).toISOString();
  return (facts) => {
    const date = new Date(facts.start);
    const iso = date.toISOString();
    return format.replace(/%(\d?)([a-zA-Z%])/g, (all, digits: string, letter: string) => {
      switch (letter) {
        case "Y":
          return iso.slice(0, 4);
        case "m":
          return iso.slice(5, 7);
        case "d":
          return iso.slice(8, 10);
        case "H":
          return iso.slice(11, 13);
        case "M":
          return iso.slice(14, 16);
        case "S":
          return iso.slice(17, 19);
        case "F":
          return iso.slice(0, 10);
        case "T":
          return iso.slice(11, 19);
        case "z":
          return "+0000";
        case "Z":
          return "UTC";
        case "s":
          return String(Math.floor(facts.start / 1000));
        case "f":
          return iso
            .slice(20, 23)
            .padEnd(9, "0")
            .slice(0, Number(digits || "9"));
        case "%":
          return "%";
        default:
          return all;
      }
    });
  };
}

const time = (name: string) => plain((facts) => number(facts.times?.[name]));

/** By name; what they are given stands in parentheses. */
export const AccessLogFormatOperators: Record<string, (argument: string | undefined) => Operator> = {
  START_TIME: startTime,
  REQ: (argument) => header(argument, (facts, name) => filled(facts.requestHeader?.(name))),
  RESP: (argument) => header(argument, (facts, name) => filled(facts.responseHeader?.(name))),
  TRAILER: (argument) => header(argument, (facts, name) => filled(facts.responseTrailer?.(name))),
  PROTOCOL: plain((facts) => facts.protocol),
  RESPONSE_CODE: plain((facts) => String(facts.responseCode)),
  RESPONSE_CODE_DETAILS: plain((facts) => filled(facts.responseCodeDetails?.replace(/ /g, "_"))),
  CONNECTION_TERMINATION_DETAILS: plain((facts) => filled(facts.connectionTerminationDetails)),
  RESPONSE_FLAGS: plain((facts) => filled(facts.flags.join(","))),
  UPSTREAM_TRANSPORT_FAILURE_REASON: plain((facts) =>
    filled(facts.upstream?.transportFailure?.replace(/ /g, "_")),
  ),
  BYTES_RECEIVED: plain((facts) => String(facts.bytesReceived)),
  BYTES_SENT: plain((facts) => String(facts.bytesSent)),
  DOWNSTREAM_WIRE_BYTES_RECEIVED: plain((facts) => String(facts.wireBytesReceived ?? facts.bytesReceived)),
  DOWNSTREAM_WIRE_BYTES_SENT: plain((facts) => String(facts.wireBytesSent ?? facts.bytesSent)),
  DURATION: plain((facts) => number(facts.duration)),
  REQUEST_DURATION: time("REQUEST_DURATION"),
  REQUEST_TX_DURATION: time("REQUEST_TX_DURATION"),
  RESPONSE_DURATION: time("RESPONSE_DURATION"),
  RESPONSE_TX_DURATION: time("RESPONSE_TX_DURATION"),
  UPSTREAM_HOST: address(upstream, "all"),
  UPSTREAM_REMOTE_ADDRESS: address(upstream, "all"),
  UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: address(upstream, "ip"),
  UPSTREAM_REMOTE_PORT: address(upstream, "port"),
  UPSTREAM_LOCAL_ADDRESS: address(upstreamLocal, "all"),
  UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT: address(upstreamLocal, "ip"),
  UPSTREAM_LOCAL_PORT: address(upstreamLocal, "port"),
  UPSTREAM_CLUSTER: plain((facts) => filled(facts.clusterName)),
  UPSTREAM_CLUSTER_RAW: plain((facts) => filled(facts.clusterName)),
  UPSTREAM_TLS_VERSION: plain((facts) => facts.upstream?.tls?.version),
  UPSTREAM_TLS_CIPHER: plain((facts) => facts.upstream?.tls?.cipher),
  UPSTREAM_PEER_URI_SAN: upstreamPeer((certificate) => certificate.uris.join(",")),
  UPSTREAM_PEER_DNS_SAN: upstreamPeer((certificate) => certificate.dns.join(",")),
  UPSTREAM_PEER_SUBJECT: upstreamPeer((certificate) => certificate.subject),
  DOWNSTREAM_REMOTE_ADDRESS: address(remote, "all"),
  DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: address(remote, "ip"),
  DOWNSTREAM_REMOTE_PORT: address(remote, "port"),
  DOWNSTREAM_DIRECT_REMOTE_ADDRESS: address(direct, "all"),
  DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT: address(direct, "ip"),
  DOWNSTREAM_DIRECT_REMOTE_PORT: address(direct, "port"),
  DOWNSTREAM_LOCAL_ADDRESS: address(local, "all"),
  DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT: address(local, "ip"),
  DOWNSTREAM_LOCAL_PORT: address(local, "port"),
  DOWNSTREAM_TLS_VERSION: plain((facts) => facts.downstream.tls?.version),
  DOWNSTREAM_TLS_CIPHER: plain((facts) => facts.downstream.tls?.cipher),
  DOWNSTREAM_PEER_URI_SAN: peer((certificate) => certificate.uris.join(",")),
  DOWNSTREAM_PEER_DNS_SAN: peer((certificate) => certificate.dns.join(",")),
  DOWNSTREAM_PEER_SUBJECT: peer((certificate) => certificate.subject),
  DOWNSTREAM_PEER_ISSUER: peer((certificate) => certificate.issuer),
  DOWNSTREAM_PEER_SERIAL: peer((certificate) => certificate.serial),
  DOWNSTREAM_PEER_FINGERPRINT_256: peer((certificate) => certificate.fingerprint),
  DOWNSTREAM_PEER_CERT: peer(certificatePem),
  DOWNSTREAM_LOCAL_URI_SAN: plain((facts) => filled(facts.downstream.tls?.local?.uris.join(","))),
  DOWNSTREAM_LOCAL_SUBJECT: plain((facts) => filled(facts.downstream.tls?.local?.subject)),
  REQUESTED_SERVER_NAME: plain((facts) => filled(facts.downstream.serverName)),
  ROUTE_NAME: plain((facts) => filled(facts.routeName)),
  VIRTUAL_CLUSTER_NAME: plain(() => undefined),
  FILTER_CHAIN_NAME: plain((facts) => filled(facts.downstream.chain)),
  CONNECTION_ID: plain((facts) => String(facts.downstream.id)),
  HOSTNAME: plain(() => hostname()),
  GRPC_STATUS: plain((facts) => {
    const status = facts.responseTrailer?.("grpc-status") ?? facts.responseHeader?.("grpc-status");
    return status === undefined ? undefined : (grpcStatusName(Number(status)) ?? status);
  }),
  GRPC_STATUS_NUMBER: plain(
    (facts) => facts.responseTrailer?.("grpc-status") ?? facts.responseHeader?.("grpc-status"),
  ),
  DYNAMIC_METADATA: (argument) => metadata(argument, (facts) => facts.metadata ?? facts.downstream.metadata),
  UPSTREAM_METADATA: (argument) =>
    metadata(argument, (facts) => facts.upstream?.host?.metadata?.filterMetadata),
  CLUSTER_METADATA: (argument) =>
    metadata(argument, (facts) => facts.upstream?.host?.cluster.metadata?.filterMetadata),
  // Filter state is Envoy's own; what Istio logs from it does not exist without its filters.
  FILTER_STATE: plain(() => undefined),
  ENVIRONMENT: (argument) => {
    const value = process.env[argument ?? ""];
    return () => value;
  },
};
