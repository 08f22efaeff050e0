/**
 * JSON Patch (RFC 6902) and JSON Merge Patch (RFC 7386). The texts of errors are those that Kubernetes' API server
 * answers. Own code rather than a library: the texts, the negative array indices that Kubernetes' library allows,
 * and no way to reach a prototype.
 */
import { equalJson, isObject, type JsonObject, setMember } from "../schema/index.ts";
import { PatchError } from "./errors.ts";

/** One operation of a JSON patch. */
export interface JsonPatchOperation {
  op: string;
  path: string;
  from?: string;
  value?: unknown;
}

const mostOperations = 10_000;
/** What `copy` may add in all, bytes of JSON: each may double a document (kube-apiserver's JSONPatchMaxCopyBytes). */
const mostCopied = 3 * 1024 * 1024;

/**
 * Applies the operations in order to a copy. Throws PatchError: 422 at the first that does not apply, 413 for too
 * many of them.
 */
export function jsonPatch<T extends object>(object: T, ops: unknown): T {
  if (!Array.isArray(ops)) {
    throw new PatchError(400, "json: cannot unmarshal object into Go value of type jsonpatch.Patch");
  }
  if (ops.length > mostOperations) {
    throw new PatchError(
      413,
      `Request entity is too large: The allowed maximum operations in a JSON patch is ${mostOperations}, got ${ops.length}`,
    );
  }
  const root: Root = { "": structuredClone(object) };
  const spent = { copied: 0 };
  for (const op of ops as JsonPatchOperation[]) applyOperation(root, op, spent);
  return root[""] as T;
}

type Root = { "": unknown };
/** What the operations up to here have copied, bytes of JSON. */
type Spent = { copied: number };

function applyOperation(root: Root, operation: JsonPatchOperation, spent: Spent): void {
  const { op, path } = operation;
  if (typeof path !== "string") {
    throw refused(`${op} operation failed to decode path: operation missing path field: missing value`);
  }
  switch (op) {
    case "add":
      add(findFor(op, root, path), newValue(operation), `error in add for path: '${path}'`);
      break;
    case "remove":
      remove(findFor(op, root, path), `error in remove for path: '${path}'`);
      break;
    case "replace": {
      const at = findFor(op, root, path);
      // A member of an object that is not there is added, as Kubernetes' library does; an item of a list is not.
      if (Array.isArray(at.container) && get(at) === undefined) {
        throw refused(`replace operation does not apply: doc is missing key: ${path}: missing value`);
      }
      set(at, newValue(operation));
      break;
    }
    case "move":
    case "copy":
      transfer(op, root, operation, spent);
      break;
    case "test": {
      const at = find(root, path);
      if (!at || !equalJson(get(at) ?? null, operation.value ?? null)) {
        throw refused(`testing value ${path} failed: test failed`);
      }
      break;
    }
    default:
      throw refused(`Unexpected kind: ${op}`);
  }
}

function transfer(op: "move" | "copy", root: Root, { from, path }: JsonPatchOperation, spent: Spent): void {
  if (typeof from !== "string") {
    throw refused(`${op} operation failed to decode from: operation, missing from field: missing value`);
  }
  const source = find(root, from);
  if (!source)
    throw refused(`${op} operation does not apply: doc is missing from path: ${from}: missing value`);
  const found = get(source);
  if (found === undefined) {
    throw refused(
      `error in ${op} for path: '${from}': Unable to remove nonexistent key: ${source.key}: missing value`,
    );
  }
  if (op === "copy") {
    spent.copied += Buffer.byteLength(JSON.stringify(found));
    if (spent.copied > mostCopied) {
      const says = `the accumulated size increase of copy is ${spent.copied}, exceeding the limit ${mostCopied}`;
      throw refused(`Unable to complete the copy, ${says}`);
    }
  } else remove(source, `error in move for path: '${source.key}'`);
  const at = find(root, path);
  if (!at)
    throw refused(`${op} operation does not apply: doc is missing destination path: ${path}: missing value`);
  add(at, structuredClone(found), `error in ${op} for path: '${path}'`);
}

function refused(message: string): PatchError {
  return new PatchError(422, message);
}

function newValue(operation: JsonPatchOperation): unknown {
  // An operation without a value sets null, as it does in Kubernetes' library.
  return structuredClone(operation.value ?? null);
}

function findFor(op: string, root: Root, path: string): Place {
  const at = find(root, path);
  const shown = op === "replace" ? path : `"${path}"`;
  if (!at) throw refused(`${op} operation does not apply: doc is missing path: ${shown}: missing value`);
  return at;
}

/** A place in the document: the object or list that holds it, and its name or index there. */
interface Place {
  container: JsonObject | unknown[];
  key: string;
}

/** RFC 6901: `~1` is a slash, `~0` a tilde. The document itself is the member "" of `root`. */
function find(root: Root, path: string): Place | undefined {
  const keys = path.split("/").map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
  let container: unknown = root;
  for (const key of keys.slice(0, -1)) {
    container = Array.isArray(container) ? container[indexOf(container, key) ?? -1] : member(container, key);
  }
  if (Array.isArray(container)) return { container, key: keys.at(-1)! };
  return isObject(container) ? { container, key: keys.at(-1)! } : undefined;
}

function member(container: unknown, key: string): unknown {
  return isObject(container) && Object.hasOwn(container, key) ? container[key] : undefined;
}

/** Negative indices count from the end, as Kubernetes' JSON patch library allows. */
function indexOf(list: unknown[], key: string): number | undefined {
  if (!/^-?\d+$/.test(key)) return undefined;
  const index = Number(key);
  return index < 0 ? index + list.length : index;
}

function get({ container, key }: Place): unknown {
  return Array.isArray(container) ? container[indexOf(container, key) ?? -1] : member(container, key);
}

function set({ container, key }: Place, value: unknown): void {
  if (Array.isArray(container)) container[indexOf(container, key)!] = value;
  else setMember(container, key, value);
}

function add(place: Place, value: unknown, doing: string): void {
  const { container, key } = place;
  if (!Array.isArray(container)) {
    set(place, value);
    return;
  }
  if (key === "-") {
    container.push(value);
    return;
  }
  const index = indexOf(container, key);
  if (index === undefined) {
    const syntax = `strconv.Atoi: parsing "${key}": invalid syntax`;
    throw refused(`${doing}: value was not a proper array index: '${key}': ${syntax}`);
  }
  if (index < 0 || index > container.length) {
    throw refused(`${doing}: Unable to access invalid index: ${key}: invalid index referenced`);
  }
  container.splice(index, 0, value);
}

function remove({ container, key }: Place, doing: string): void {
  if (Array.isArray(container)) {
    const index = indexOf(container, key);
    if (index === undefined || index < 0 || index >= container.length) {
      throw refused(`${doing}: Unable to access invalid index: ${key}: invalid index referenced`);
    }
    container.splice(index, 1);
  } else {
    if (!Object.hasOwn(container, key)) {
      throw refused(`${doing}: Unable to remove nonexistent key: ${key}: missing value`);
    }
    delete container[key];
  }
}

/** Applies a merge patch to a copy: null removes, objects merge, everything else replaces. */
export function mergePatch<T extends object>(object: T, patch: unknown): T {
  if (!isObject(patch)) throw new PatchError(400, "Invalid JSON Patch");
  return merge(structuredClone(object), patch) as T;
}

function merge(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return structuredClone(patch);
  const out: JsonObject = isObject(target) ? target : {};
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete out[name];
    else setMember(out, name, merge(Object.hasOwn(out, name) ? out[name] : undefined, value));
  }
  return out;
}
