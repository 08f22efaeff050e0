/** Small readings of Envoy's messages: durations, addresses, percentages, address ranges. */

import { readFileSync } from "node:fs";
import { isIP, isIPv4, isIPv6 } from "node:net";
import type { Address as AddressMessage, CidrRange } from "#protocols/envoy/config/core/v3/address.ts";
import type { DataSource } from "#protocols/envoy/config/core/v3/base.ts";
import type { Duration } from "#protocols/google/protobuf/duration.ts";
import { type IpRange, readRange } from "../addresses/index.ts";
import { type Address, Unservable } from "./contract.ts";

/** Milliseconds; `otherwise` when it is not given. */
export function milliseconds(duration: Duration | undefined, otherwise: number): number {
  return duration ? duration.seconds * 1000 + duration.nanos / 1e6 : otherwise;
}

/** Where a socket address points; a pipe is its path with port 0. */
export function addressOf(message: AddressMessage | undefined): Address {
  const address = message?.address;
  if (address?.$case === "socketAddress") {
    const port = address.value.portSpecifier;
    if (port?.$case === "namedPort") throw new Unservable(`named port ${port.value} is not served`);
    return { ip: address.value.address, port: port?.value ?? 0 };
  }
  if (address?.$case === "pipe") return { ip: address.value.path, port: 0 };
  throw new Unservable("an address without socket_address or pipe is not served");
}

/** `10.0.0.1:80`, `[::1]:80`; a pipe is its path. */
export function printAddress(address: Address): string {
  if (address.ip.startsWith("/")) return address.ip;
  return isIPv6(address.ip) ? `[${address.ip}]:${address.port}` : `${address.ip}:${address.port}`;
}

/** `10.0.0.1:80` or `[::1]:80` read back; undefined when it is neither. */
export function parseAddress(text: string): Address | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text.trim());
  const ip = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  return ip && isIP(ip) && port > 0 && port < 65536 ? { ip, port } : undefined;
}

/** IPv4 in IPv6 (`::ffff:10.0.0.1`) as IPv4, as sockets that listen on `::` report it. */
export function plainIp(ip: string): string {
  return ip.startsWith("::ffff:") && isIPv4(ip.slice(7)) ? ip.slice(7) : ip;
}

/** Reads a CidrRange; a missing length is 0, as Envoy's wrapper has it, and one too long is the address's. */
export function ipRange({ addressPrefix, prefixLen = 0 }: CidrRange): IpRange {
  const range = readRange(`${addressPrefix}/${Math.min(prefixLen, isIPv4(addressPrefix) ? 32 : 128)}`);
  if (!range) throw new Unservable(`invalid ip/mask combo '${addressPrefix}/${prefixLen}'`);
  return range;
}

/** The bytes that a DataSource names: inline, or a file that is read now. */
export function dataOf(source: DataSource | undefined): Buffer | undefined {
  switch (source?.specifier?.$case) {
    case "inlineBytes":
      return Buffer.from(source.specifier.value);
    case "inlineString":
      return Buffer.from(source.specifier.value);
    case "filename":
      return readFileSync(source.specifier.value);
    case "environmentVariable":
      return Buffer.from(process.env[source.specifier.value] ?? "");
    default:
      return undefined;
  }
}

/** A wrapper of Node's or V8's error that fits one line. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
