/**
 * What a URL asks for. Source: apiserver `pkg/endpoints/request/requestinfo.go`.
 */

/** A request about objects. */
export interface ResourceRoute {
  group: string;
  version: string;
  /** Plural name, as written in the URL. */
  plural: string;
  namespace: string | undefined;
  name: string | undefined;
  subresource: string | undefined;
  /** What follows the subresource (`proxy/…`). */
  rest: string | undefined;
  /** The verb that authorization knows: get, list, watch, create, update, patch, delete, deletecollection. */
  verb: string;
}

const verbs: Record<string, string> = {
  GET: "get",
  HEAD: "get",
  POST: "create",
  PUT: "update",
  PATCH: "patch",
  DELETE: "delete",
};

/** Subresources of a namespace; any other second name is a resource inside the namespace. */
const namespaceSubresources = new Set(["status", "finalize"]);

/** Undefined for paths that are not about objects (discovery, health, …). */
export function resourceRoute(
  method: string,
  path: string,
  query: URLSearchParams,
): ResourceRoute | undefined {
  const parts = path
    .split("/")
    .filter((part) => part !== "")
    .map(decode);
  let group = "";
  let at = 0;
  if (parts[0] === "api" && parts.length >= 3) at = 1;
  else if (parts[0] === "apis" && parts.length >= 4) {
    group = parts[1]!;
    at = 2;
  } else return undefined;
  const version = parts[at++]!;
  let namespace: string | undefined;
  let [plural, name, subresource, ...rest] = parts.slice(at) as [string, ...string[]];
  if (plural === "namespaces" && name !== undefined) {
    const inner = parts.slice(at + 2);
    namespace = name;
    if (inner.length > 0 && !(namespaceSubresources.has(inner[0]!) && group === "")) {
      [plural, name, subresource, ...rest] = inner as [string, ...string[]];
    } else if (group !== "") return undefined;
  }
  let verb = Object.hasOwn(verbs, method) ? verbs[method]! : method.toLowerCase();
  if (name === undefined) {
    if (verb === "get") verb = isTrue(query.get("watch")) ? "watch" : "list";
    else if (verb === "delete") verb = "deletecollection";
  }
  return {
    group,
    version,
    plural,
    namespace,
    name,
    subresource,
    rest: rest.length > 0 ? rest.join("/") : undefined,
    verb,
  };
}

/** A query parameter's boolean: all but `0` and `false` is true, also nothing after the name. */
export function isTrue(value: string | null): boolean {
  return value !== null && value !== "0" && value.toLowerCase() !== "false";
}

/** A part of a URL without its escapes; as it stands where these are broken. */
export function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
