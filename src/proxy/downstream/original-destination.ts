/**
 * Where a redirected connection was going: the kernel's connection tracking knows (SO_ORIGINAL_DST), and Node does
 * not ask. One call of libc's getsockopt, 2 µs. Loaded with the first listener that needs it.
 */
import type { Socket } from "node:net";
import type { Address } from "../contract.ts";

export type OriginalDestination = (socket: Socket) => Address | undefined;

/** linux/netfilter_ipv4.h, linux/netfilter_ipv6/ip6_tables.h */
const option = 80;
const levels = { IPv4: 0, IPv6: 41 } as const;

let loaded: Promise<OriginalDestination> | undefined;

/** Undefined answers: the connection was not redirected. */
export function originalDestination(): Promise<OriginalDestination> {
  loaded ??= load();
  return loaded;
}

async function load(): Promise<OriginalDestination> {
  const { default: koffi } = await import("koffi");
  const getsockopt = koffi
    .load("libc.so.6")
    .func("int getsockopt(int fd, int level, int option, _Out_ uint8_t *value, _Inout_ uint32_t *length)");
  const value = Buffer.alloc(28);
  const length = [0];
  return (socket) => {
    const fd = (socket as Socket & { _handle?: { fd?: number } })._handle?.fd;
    if (fd === undefined || fd < 0) return undefined;
    // A listener on :: has IPv4 connections as mapped addresses: their tracking is IPv4's.
    const ipv4 = socket.localFamily === "IPv4" || socket.localAddress?.startsWith("::ffff:");
    length[0] = 28;
    if (getsockopt(fd, ipv4 ? levels.IPv4 : levels.IPv6, option, value, length) !== 0) return undefined;
    const port = value.readUInt16BE(2);
    if (ipv4) return { ip: `${value[4]}.${value[5]}.${value[6]}.${value[7]}`, port };
    const groups: string[] = [];
    for (let i = 8; i < 24; i += 2) groups.push(value.readUInt16BE(i).toString(16));
    return { ip: new URL(`http://[${groups.join(":")}]`).hostname.slice(1, -1), port };
  };
}
