/** What authorization is asked: may this user do this to that? */
import type { ResourceRoute } from "../route.ts";
import { parseFieldSelector } from "../selectors.ts";

export interface ResourceAttributes {
  verb: string;
  group: string;
  resource: string;
  subresource: string;
  namespace: string;
  name: string;
}

export interface PathAttributes {
  verb: string;
  path: string;
}

export type Attributes = ResourceAttributes | PathAttributes;

/** The attributes of a request for objects. A selection by name counts as that name. */
export function attributesOf(route: ResourceRoute, query: URLSearchParams): ResourceAttributes {
  let name = route.name ?? "";
  if (!name && (route.verb === "list" || route.verb === "watch" || route.verb === "deletecollection")) {
    const selector = query.get("fieldSelector");
    if (selector) {
      const term = parseFieldSelector(selector).find(
        ({ field, equal }) => field === "metadata.name" && equal,
      );
      name = term?.value ?? "";
    }
  }
  return {
    verb: route.verb,
    group: route.group,
    resource: route.plural,
    subresource: route.subresource ?? "",
    namespace: route.namespace ?? "",
    name,
  };
}

/** The verb that a path knows: the HTTP method in lower case. */
export function pathAttributes(method: string, path: string): PathAttributes {
  return { verb: method === "HEAD" ? "get" : method.toLowerCase(), path };
}

/** `User "bob" cannot list resource "pods" in API group "" in the namespace "default"`. */
export function denialText(user: string, attributes: Attributes): string {
  if ("path" in attributes) return `User "${user}" cannot ${attributes.verb} path "${attributes.path}"`;
  const { verb, resource, subresource, group, namespace } = attributes;
  const where = namespace === "" ? "at the cluster scope" : `in the namespace "${namespace}"`;
  const what = subresource === "" ? resource : `${resource}/${subresource}`;
  return `User "${user}" cannot ${verb} resource "${what}" in API group "${group}" ${where}`;
}
