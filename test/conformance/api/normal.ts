/**
 * Answers of two API servers made comparable: what a server makes up itself (uids, revisions, times, addresses,
 * random names, continue tokens) is replaced by names that say which of them are the same within one scenario.
 */

/** JSON of any shape. */
// biome-ignore lint/suspicious/noExplicitAny: tests look into answers of any shape
export type Loose = any;

const uuid = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g;
const time = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z/g;
const clusterIp = /\b10\.96\.\d{1,3}\.\d{1,3}\b(?!\/)/g;
/** `generateName: made-` is what scenarios use. */
const generated = /\bmade-[bcdfghjklmnpqrstvwxz2456789]{5}\b/g;

/** One per scenario and server. */
export class Normalizer {
  readonly #names = new Map<string, string>();
  readonly #counts = new Map<string, number>();
  readonly #masks: [pattern: RegExp, by: string][] = [];
  readonly #namespace: string;

  constructor(namespace: string) {
    this.#namespace = namespace;
  }

  /** Every match in any text becomes `by`. */
  mask(pattern: RegExp, by: string): void {
    this.#masks.push([pattern, by]);
  }

  #name(kind: string, value: string): string {
    const known = this.#names.get(`${kind} ${value}`);
    if (known) return known;
    const count = (this.#counts.get(kind) ?? 0) + 1;
    this.#counts.set(kind, count);
    const name = `${kind}-${count}`;
    this.#names.set(`${kind} ${value}`, name);
    return name;
  }

  text(value: string): string {
    // Times and uids go first: a mask for a revision would find its number in them.
    let text = value
      .replaceAll(this.#namespace, "NS")
      .replace(uuid, (found) => (found.startsWith("00000000-") ? found : this.#name("uid", found)))
      .replace(time, "TIME");
    for (const [pattern, by] of this.#masks) text = text.replace(pattern, by);
    return text.replace(clusterIp, "10.96.x.y").replace(generated, "made-*****");
  }

  value(value: Loose, path: readonly string[] = []): Loose {
    if (typeof value === "string") return this.text(value);
    if (Array.isArray(value)) return value.map((item) => this.value(item, [...path, "[]"]));
    if (typeof value !== "object" || value === null) return value;
    const isList = Array.isArray(value.items) || Array.isArray(value.rows);
    const entries = Object.entries(value as Record<string, Loose>).map(([key, item]): [string, Loose] => {
      const at = [...path, key];
      if (key === "resourceVersion" && typeof item === "string") {
        // A list's revision is the store's, which others move as well.
        if (path.at(-1) === "metadata" && /^\d+$/.test(item as string))
          return [key, path.length > 1 || !this.#list ? this.#name("rv", item as string) : "RV"];
      }
      // The words of the API's documentation are not carried here.
      if (key === "description" && path.includes("columnDefinitions")) return [key, ""];
      if (key === "continue" && item) return [key, "TOKEN"];
      if (key === "nodePort" || key === "healthCheckNodePort") return [key, Number(item) > 0 ? "PORT" : item];
      // Conflicts are collected from a map there: in any order of managers.
      if (key === "causes" && item[0]?.reason === "FieldManagerConflict") {
        return [
          key,
          this.value(
            item.toSorted((a: Loose, b: Loose) =>
              `${a.field} ${a.message}` < `${b.field} ${b.message}` ? -1 : 1,
            ),
            at,
          ),
        ];
      }
      // Their order follows the clock.
      if (key === "managedFields" && Array.isArray(item)) {
        const named = ({ manager, operation, apiVersion, subresource = "" }: Loose) =>
          `${operation} ${manager} ${apiVersion} ${subresource}`;
        return [
          key,
          this.value(
            item.toSorted((a, b) => (named(a) < named(b) ? -1 : 1)),
            at,
          ),
        ];
      }
      return [this.text(key), this.value(item, at)];
    });
    // Items of lists of built-in kinds carry kind and version here, as those of custom resources do everywhere.
    const items: Loose[] = isList
      ? ((entries.find(([key]) => key === "items")?.[1] as Loose[] | undefined) ?? [])
      : [];
    for (const item of items) {
      delete item?.kind;
      delete item?.apiVersion;
    }
    return Object.fromEntries(entries);
  }

  #list = false;

  /** A whole answer. */
  answer(body: Loose): Loose {
    this.#list = Array.isArray(body?.items) || Array.isArray(body?.rows);
    return this.value(body);
  }
}

/** What differs between two values, a line per place. */
export function differences(expected: Loose, actual: Loose, path = ""): string[] {
  if (Object.is(expected, actual)) return [];
  const both = [expected, actual];
  if (
    both.some((value) => typeof value !== "object" || value === null) ||
    Array.isArray(expected) !== Array.isArray(actual)
  ) {
    return [`${path || "."}: expected ${show(expected)}, got ${show(actual)}`];
  }
  const keys = new Set([...Object.keys(expected), ...Object.keys(actual)]);
  return [...keys].flatMap((key) => differences(expected[key], actual[key], `${path}.${key}`));
}

function show(value: Loose): string {
  return value === undefined ? "nothing" : JSON.stringify(value);
}
