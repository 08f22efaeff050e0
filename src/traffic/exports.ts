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

/** The same value for all clients, but for those of some namespaces. */
export interface Variants<T> {
  /** What clients of all other namespaces see. */
  rest: T;
  byNamespace: ReadonlyMap<string, T>;
}

/**
 * Makes what each namespace's clients see. `make` is called for a client of no namespace in particular, and for each
 * namespace that it mentions as one that may see something else.
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
  for (let client = waiting.pop(); client !== undefined; client = waiting.pop()) {
    const value = make(client, mention);
    if (!same(value, rest)) byNamespace.set(client, value);
  }
  return { rest, byNamespace };
}

/** What clients of a namespace see. */
export function seenBy<T>(all: Variants<T>, client: string): T {
  return all.byNamespace.get(client) ?? all.rest;
}
