/**
 * The network of pods on one node: a network namespace per pod with `eth0` at the end of a veth pair, a /32 and a
 * route to it on the node. The node end of every pair has the first address of the node's pod range, which is
 * the pod's gateway. These functions run in the node's network namespace.
 */
import { createHash } from "node:crypto";
import { readdir } from "node:fs/promises";
import { type NodeSpec, nthAddress } from "../spec.ts";
import { formatAddress, parseAddress, parseRange } from "./address.ts";
import { ip, namespaceFile, sysctl } from "./names.ts";
import { CommandError, quote, type Run } from "./run.ts";

/** A pod's network on its node. */
export interface PodNetwork {
  /** Name of the network namespace. */
  namespace: string;
  /** The pod's address. */
  address: string;
}

/** No node can be called so. */
const prefix = "pod_";

/** Name of a pod's network namespace, `pod_<uid>`. */
export function podNamespace(uid: string): string {
  return `${prefix}${uid}`;
}

/** Name of the node's end of a pod's veth pair; interface names have at most 15 characters. */
function podLink(uid: string): string {
  return `pod${createHash("sha256").update(uid).digest("hex").slice(0, 10)}`;
}

/** Gives a pod its namespace and address, and sysctls (`net/path=value`) of its own. What an attempt that broke off left behind is replaced. */
export async function attachPod(
  node: NodeSpec,
  uid: string,
  address: string,
  run: Run,
  sysctls: readonly string[] = [],
): Promise<PodNetwork> {
  const namespace = podNamespace(uid);
  const link = podLink(uid);
  const gateway = nthAddress(node.podRange, 1);
  const script = [
    "set -e",
    `if [ -e ${namespaceFile(namespace)} ]; then`,
    `  ip link delete ${link} 2>/dev/null || true`,
    `  ip netns delete ${quote(namespace)}`,
    "fi",
    `ip netns add ${quote(namespace)}`,
    ip(undefined, [
      `link add ${link} type veth peer name eth0 netns ${namespace}`,
      `addr add ${gateway}/32 dev ${link}`,
      `link set ${link} up`,
      `route add ${address}/32 dev ${link} src ${node.address}`,
    ]),
    ip(namespace, [
      "link set lo up",
      `addr add ${address}/32 dev eth0`,
      "link set eth0 up",
      `route add ${gateway}/32 dev eth0 src ${address}`,
      `route add default via ${gateway} dev eth0 src ${address}`,
    ]),
    sysctl(namespace, ["net/ipv4/ip_unprivileged_port_start=0", "net/ipv4/ping_group_range=0 0", ...sysctls]),
  ];
  await run(["/bin/sh", "-s"], script.join("\n"));
  return { namespace, address };
}

/** Takes a pod's namespace away; its links and routes go with it. No error when there is none. */
export async function detachPod(uid: string, run: Run): Promise<void> {
  const namespace = podNamespace(uid);
  const script = [
    // Deleting the pair at once frees the address; the namespace itself lives until its last process is gone.
    `ip link delete ${podLink(uid)} 2>/dev/null`,
    `if [ -e ${namespaceFile(namespace)} ]; then ip netns delete ${quote(namespace)}; fi`,
  ];
  await run(["/bin/sh", "-s"], script.join("\n"));
}

/** Uids of the pods that have a network namespace in this lab, whichever node they are on. */
export async function attachedPods(): Promise<string[]> {
  const names = await readdir("/run/netns").catch(() => []);
  return names.filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length));
}

/** The address that a pod's namespace has, or undefined when it has none. */
export async function addressOf(uid: string, run: Run): Promise<string | undefined> {
  try {
    const links = JSON.parse(
      await run(["ip", "-n", podNamespace(uid), "-j", "addr", "show", "dev", "eth0"]),
    ) as {
      addr_info?: { family: string; local: string }[];
    }[];
    return links.flatMap((link) => link.addr_info ?? []).find(({ family }) => family === "inet")?.local;
  } catch (error) {
    if (error instanceof CommandError) return undefined;
    throw error;
  }
}

/**
 * Gives out the addresses of a node's pod range, each to one pod at a time. Addresses are given in order and
 * start over at the end, so that an address that was just given back rests before it is used again.
 */
export class AddressPool {
  readonly #first: number;
  readonly #count: number;
  readonly #taken = new Map<number, string>();
  readonly #byOwner = new Map<string, number>();
  #next = 0;

  /** The network's own address, the gateway and the broadcast address are never given out. */
  constructor(range: string) {
    const { first, size } = parseRange(range);
    this.#first = first + 2;
    this.#count = Math.max(0, size - 3);
  }

  /** The owner's address, a free one when it has none. Undefined when all are taken. */
  take(owner: string): string | undefined {
    const has = this.#byOwner.get(owner);
    if (has !== undefined) return formatAddress(has);
    for (let tried = 0; tried < this.#count; tried++) {
      const value = this.#first + ((this.#next + tried) % this.#count);
      if (this.#taken.has(value)) continue;
      this.#next = (value - this.#first + 1) % this.#count;
      this.#set(value, owner);
      return formatAddress(value);
    }
    return undefined;
  }

  /** Notes an address that a pod has already (after a restart). False when another has it or it is not of the range. */
  keep(owner: string, address: string): boolean {
    const value = parseAddress(address);
    const offset = value - this.#first;
    if (offset < 0 || offset >= this.#count) return false;
    const other = this.#taken.get(value);
    if (other !== undefined && other !== owner) return false;
    this.release(owner);
    this.#set(value, owner);
    this.#next = Math.max(this.#next, (offset + 1) % this.#count);
    return true;
  }

  release(owner: string): void {
    const value = this.#byOwner.get(owner);
    if (value === undefined) return;
    this.#byOwner.delete(owner);
    this.#taken.delete(value);
  }

  #set(value: number, owner: string): void {
    this.#taken.set(value, owner);
    this.#byOwner.set(owner, value);
  }
}
