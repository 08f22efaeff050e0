/**
 * What all encoders share: messages packed as google.protobuf.Any, times and percentages in Envoy's shape, and the
 * encoded resource, which is made once for each object of the model and kept beside it.
 */
import { hash } from "node:crypto";
import { BinaryWriter } from "@bufbuild/protobuf/wire";
import type { Address } from "#protocols/envoy/config/core/v3/address.ts";
import { Resource } from "#protocols/envoy/service/discovery/v3/discovery.ts";
import type { Any } from "#protocols/google/protobuf/any.ts";
import type { Duration } from "#protocols/google/protobuf/duration.ts";
import type { Origin } from "../../traffic/index.ts";

/** The types of resources that Weft serves, in the order in which they are handed out (make before break). */
export const typeUrls = {
  cluster: "type.googleapis.com/envoy.config.cluster.v3.Cluster",
  endpoints: "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
  listener: "type.googleapis.com/envoy.config.listener.v3.Listener",
  route: "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
  secret: "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
} as const;

export type Kind = keyof typeof typeUrls;

/** One resource as it goes over the wire. */
export interface Encoded {
  kind: Kind;
  name: string;
  /** A hash of the bytes: what is equal has the same version at every discovery and after every restart. */
  version: string;
  /** The message itself, without its Any. */
  message: Uint8Array;
  /** envoy.service.discovery.v3.Resource: name, version and the message as Any. */
  resource: Uint8Array;
}

/** A generated message's codec. */
export interface Codec<T = unknown> {
  encode(message: T, writer: BinaryWriter): { finish(): Uint8Array };
  fromPartial(object: never): T;
}

type Partially<C extends Codec> = Parameters<C["fromPartial"]>[0];

/** The message's bytes, where no field is left out. */
export function encodeWhole<T>(codec: Pick<Codec<T>, "encode">, message: T): Uint8Array {
  const own = writer ?? new BinaryWriter();
  writer = undefined; // what cannot be written leaves it as it is then
  const bytes = codec.encode(message, own).finish();
  if (bytes.length <= worthKeeping) writer = own;
  return bytes;
}

/** One for all messages, whose buffer need not grow anew for each; a large one is let go of, bytes. */
let writer: BinaryWriter | undefined;
const worthKeeping = 64 * 1024;

/** The message's bytes. */
export function encode<C extends Codec>(codec: C, message: Partially<C>): Uint8Array {
  return encodeWhole(codec, codec.fromPartial(message as never));
}

/** The message as Any; `type` is its full name (`envoy.config…`). */
export function pack<C extends Codec>(type: string, codec: C, message: Partially<C>): Any {
  return { typeUrl: `type.googleapis.com/${type}`, value: encode(codec, message) as Any["value"] };
}

/** Milliseconds as google.protobuf.Duration. */
export function duration(milliseconds: number): Duration {
  const seconds = Math.floor(milliseconds / 1000);
  return { seconds, nanos: Math.round((milliseconds - seconds * 1000) * 1_000_000) };
}

/** A percentage (0 to 100) as FractionalPercent, in parts of a million. */
export function fraction(percent: number): { numerator: number; denominator: 2 } {
  return { numerator: Math.round(Math.min(100, Math.max(0, percent)) * 10_000), denominator: 2 };
}

/** What Envoy's 32-bit fields can hold; Istio's "no limit" is the largest. */
export function uint32(value: number): number {
  return Math.min(0xffff_ffff, Math.max(0, Math.floor(value)));
}

/** A socket address, with all its fields. */
export function socketAddress(address: string, port: number): Address {
  const portSpecifier = { $case: "portValue" as const, value: port };
  const value = { protocol: 0 as const, address, portSpecifier, resolverName: "", ipv4Compat: false };
  return { address: { $case: "socketAddress", value } };
}

/** Where resources come from by name over the same stream; they are waited for as long as it takes. */
export const fromAds = {
  configSourceSpecifier: { $case: "ads" as const, value: {} },
  initialFetchTimeout: duration(0),
  resourceApiVersion: 2 as const, // V3
};

/**
 * The object behind a resource, in the metadata that istioctl reads:
 * `/apis/networking.istio.io/v1/namespaces/coolapp/virtual-service/catalog`.
 */
export function originMetadata(origins: readonly Origin[], kind: string) {
  const origin = origins.find((each) => each.kind === kind);
  if (!origin) return undefined;
  const words = kind.replace(/(?<=[a-z])(?=[A-Z])/g, "-").toLowerCase();
  const config = `/apis/networking.istio.io/v1/namespaces/${origin.namespace}/${words}/${origin.name}`;
  return { filterMetadata: { istio: { config } } };
}

/** Wraps encoded bytes; the version is 16 characters of their SHA-1 in base64url. */
export function encoded(kind: Kind, name: string, message: Uint8Array): Encoded {
  const version = hash("sha1", message, "base64url").slice(0, 16);
  const packed = { typeUrl: typeUrls[kind], value: message as Any["value"] };
  const resource = encodeWhole(Resource, { name, aliases: [], version, resource: packed });
  return { kind, name, version, message, resource };
}

/** Makes `make` remember its result by object: what did not change is the same object and is encoded once. */
export function once<T extends object, R extends object>(make: (value: T) => R): (value: T) => R {
  const known = new WeakMap<T, R>();
  return (value) => {
    let found = known.get(value);
    if (!found) {
      found = make(value);
      known.set(value, found);
    }
    return found;
  };
}
