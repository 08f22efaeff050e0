/** Who sees an object: `exportTo` of Services, VirtualServices, DestinationRules and ServiceEntries. */

/** Exported to all namespaces, to some, or (an empty set) to none. */
export type Exports = "all" | ReadonlySet<string>;

/** `*` is everybody, `.` its own namespace, `~` nobody; none given is everybody. */
export function exportsOf(exportTo: readonly string[] | undefined, namespace: string): Exports {
  if (!exportTo || exportTo.length === 0 || exportTo.includes("*")) return "all";
  return new Set(exportTo.filter((each) => each !== "~").map((each) => (each === "." ? namespace : each)));
}

/** Whether clients of a namespace see it. */
export function isExportedTo(exports: Exports, client: string): boolean {
  return exports === "all" || exports.has(client);
}

/** The annotation that says it on a Service, where there is no field. */
export const exportToAnnotation = "networking.istio.io/exportTo";

/**
 * Clients that see the same: those of a namespace, `coolapp`; or those of its workloads that some DestinationRules select,
 * `coolapp?coolapp/rule`, the first before others.
 */
export function clientOf(namespace: string, rules: readonly string[]): string {
  return [namespace, ...rules].join("?");
}

/** The namespace of clients. */
export function namespaceOf(client: string): string {
  const end = client.indexOf("?");
  return end < 0 ? client : client.slice(0, end);
}

/** The DestinationRules that select them. */
export function selectingRules(client: string): readonly string[] {
  return client.includes("?") ? client.split("?").slice(1) : [];
}

/** The same value for all clients, but for those of some namespaces, or of some workloads there. */
export interface Variants<T> {
  /** What clients of all other namespaces see. */
  rest: T;
  byNamespace: ReadonlyMap<string, T>;
}

/**
 * Makes what all clients see. `make` is called for a client of no namespace in particular, and for those that it
 * mentions as ones that may see something else: of a namespace, or of those workloads that one rule selects.
 */
export function variants<T>(
  make: (client: string, mention: (namespace: string) => void) => T,
  same: (a: T, b: T) => boolean,
): Variants<T> {
  const seen = new Set<string>([""]);
  const waiting: string[] = [];
  const mention = (namespace: string) => {
    if (seen.has(namespace)) return;
    seen.add(namespace);
    waiting.push(namespace);
  };
  const rest = make("", mention);
  const byNamespace = new Map<string, T>();
  const selected = new Map<string, T>();
  for (let client = waiting.pop(); client !== undefined; client = waiting.pop()) {
    const value = make(client, mention);
    if (client.includes("?")) selected.set(client, value);
    else if (!same(value, rest)) byNamespace.set(client, value);
  }
  // Of others of their namespace, that is.
  for (const [client, value] of selected)
    if (!same(value, byNamespace.get(namespaceOf(client)) ?? rest)) byNamespace.set(client, value);
  return { rest, byNamespace };
}

/** What clients see. */
export function seenBy<T>(all: Variants<T>, client: string): T {
  if (all.byNamespace.size === 0) return all.rest;
  const namespace = namespaceOf(client);
  for (const rule of selectingRules(client)) {
    const found = all.byNamespace.get(clientOf(namespace, [rule]));
    if (found !== undefined) return found;
  }
  return all.byNamespace.get(namespace) ?? all.rest;
}
