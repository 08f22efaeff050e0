/**
 * Sets of field paths, as `metadata.managedFields` records them (FieldsV1; structured-merge-diff `fieldpath`).
 * A path is a list of elements: `f:<name>` a member, `k:{…}` an item of a list by its keys, `v:<value>` an item of a
 * set by itself, `i:<index>` an item by its place.
 */
import { isObject, type JsonObject } from "../schema/index.ts";

export type Path = readonly string[];

export const field = (name: string): string => `f:${name}`;

/** A set is a tree: `own` says that the path to here is in the set, the children go on from here. Never changed once built. */
export class FieldSet {
  own = false;
  readonly children = new Map<string, FieldSet>();

  static of(...paths: Path[]): FieldSet {
    const set = new FieldSet();
    for (const path of paths) set.insert(path);
    return set;
  }

  /** Only for building a set. */
  insert(path: Path): void {
    let node: FieldSet = this;
    for (const element of path) node = node.childFor(element);
    node.own = true;
  }

  /** The subtree of an element, made when it is missing. Only for building a set. */
  childFor(element: string): FieldSet {
    let child = this.children.get(element);
    if (!child) {
      child = new FieldSet();
      this.children.set(element, child);
    }
    return child;
  }

  get isEmpty(): boolean {
    return !this.own && this.children.size === 0;
  }

  has(path: Path): boolean {
    let node: FieldSet | undefined = this;
    for (const element of path) node = node?.children.get(element);
    return node?.own === true;
  }

  union(other: FieldSet): FieldSet {
    if (this.isEmpty) return other;
    if (other.isEmpty) return this;
    const out = new FieldSet();
    out.own = this.own || other.own;
    for (const [element, child] of this.children) {
      const twin = other.children.get(element);
      out.children.set(element, twin ? child.union(twin) : child);
    }
    for (const [element, child] of other.children) {
      if (!this.children.has(element)) out.children.set(element, child);
    }
    return out;
  }

  intersection(other: FieldSet): FieldSet {
    const out = new FieldSet();
    out.own = this.own && other.own;
    for (const [element, child] of this.children) {
      const twin = other.children.get(element);
      if (twin) out.#keep(element, child.intersection(twin));
    }
    return out;
  }

  /** What is in this set and not in the other. A parent in the other does not take its children along. */
  difference(other: FieldSet): FieldSet {
    if (other.isEmpty) return this;
    const out = new FieldSet();
    out.own = this.own && !other.own;
    for (const [element, child] of this.children) {
      const twin = other.children.get(element);
      out.#keep(element, twin ? child.difference(twin) : child);
    }
    return out;
  }

  /** As `difference`, but a parent in the other takes everything under it along. */
  recursiveDifference(other: FieldSet): FieldSet {
    if (other.isEmpty) return this;
    const out = new FieldSet();
    out.own = this.own && !other.own;
    for (const [element, child] of this.children) {
      const twin = other.children.get(element);
      if (twin?.own) continue;
      out.#keep(element, twin ? child.recursiveDifference(twin) : child);
    }
    return out;
  }

  equals(other: FieldSet): boolean {
    if (this === other) return true;
    if (this.own !== other.own || this.children.size !== other.children.size) return false;
    for (const [element, child] of this.children) {
      const twin = other.children.get(element);
      if (!twin || !child.equals(twin)) return false;
    }
    return true;
  }

  /** Every path in the set, parents first. */
  *paths(prefix: Path = []): Generator<Path> {
    if (this.own) yield prefix;
    for (const [element, child] of sorted(this.children)) yield* child.paths([...prefix, element]);
  }

  /** The FieldsV1 form: a leaf is `{}`, a member that has members too says so with `"."`. */
  toFields(): JsonObject {
    const out: JsonObject = {};
    if (this.own && this.children.size > 0) out["."] = {};
    for (const [element, child] of sorted(this.children)) out[element] = child.toFields();
    return out;
  }

  /** Reads FieldsV1. What is not of that form is left out. */
  static fromFields(fields: unknown): FieldSet {
    const set = new FieldSet();
    if (!isObject(fields)) return set;
    for (const [element, below] of Object.entries(fields)) {
      if (element === ".") continue;
      const child = FieldSet.fromFields(below);
      child.own = isObject(below) && ("." in below || child.children.size === 0);
      set.children.set(element, child);
    }
    return set;
  }

  #keep(element: string, child: FieldSet): void {
    if (!child.isEmpty) this.children.set(element, child);
  }
}

const kindOrder = "fkvi";

function sorted(children: Map<string, FieldSet>): [string, FieldSet][] {
  return [...children].sort(
    ([a], [b]) => kindOrder.indexOf(a[0]!) - kindOrder.indexOf(b[0]!) || (a < b ? -1 : a > b ? 1 : 0),
  );
}

/** A path as conflicts show it: `.spec.containers[name="x"].image`. */
export function pathText(path: Path): string {
  return path.map(elementText).join("");
}

function elementText(element: string): string {
  const rest = element.slice(2);
  switch (element[0]) {
    case "f":
      return `.${rest}`;
    case "k": {
      const keys = Object.entries(JSON.parse(rest) as JsonObject);
      return `[${keys.map(([name, value]) => `${name}=${JSON.stringify(value)}`).join(",")}]`;
    }
    case "v":
      return `[=${rest}]`;
    default:
      return `[${rest}]`;
  }
}
