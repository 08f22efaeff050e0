/** Refuses what the user may not do, and lets those who may act as others. */
import type { Call, Core, UserInfo } from "../core.ts";
import { decode, type ResourceRoute } from "../route.ts";
import { badRequest, forbidden } from "../status.ts";
import { attributesOf, denialText, pathAttributes } from "./attributes.ts";

/** Throws 403 unless the user may do what the request asks. */
export function authorize(core: Core, call: Call, route: ResourceRoute | undefined): void {
  if (!route) {
    const attributes = pathAttributes(call.method, call.path);
    if (core.rbac.allows(call.user, attributes)) return;
    throw forbidden({ group: "", name: "" }, "", denialText(call.user.name, attributes));
  }
  const attributes = attributesOf(route, call.query);
  if (core.rbac.allows(call.user, attributes)) return;
  throw forbidden(
    { group: route.group, name: route.plural },
    route.name ?? "",
    denialText(call.user.name, attributes),
  );
}

const userHeader = "impersonate-user";
const groupHeader = "impersonate-group";
const uidHeader = "impersonate-uid";
const extraPrefix = "impersonate-extra-";
const accountPrefix = "system:serviceaccount:";

/**
 * The user that the request acts as (`kubectl --as`). Throws 403 when it may not.
 * Source: apiserver `pkg/endpoints/filters/impersonation.go`.
 */
export function impersonate(core: Core, call: Call): UserInfo {
  const { headers, user } = call;
  const name = headers[userHeader];
  if (name === undefined) {
    const other = Object.keys(headers).find((header) => header.startsWith("impersonate-"));
    if (!other) return user;
    // The words are Go's, which prints the user that was asked for.
    const listed = headers[groupHeader];
    const list = listed?.split(",").map((item) => JSON.stringify(item.trim()));
    const info = `Name:"", UID:${JSON.stringify(headers[uidHeader] ?? "")}, Groups:[]string${list ? `{${list.join(", ")}}` : "(nil)"}, Extra:map[string][]string(nil)`;
    throw badRequest(`requested &user.DefaultInfo{${info}} without impersonating a user name`);
  }
  const require = (resource: string, group: string, namespace: string, who: string, subresource = "") => {
    const attributes = { verb: "impersonate", group, resource, subresource, namespace, name: who };
    if (core.rbac.allows(user, attributes)) return;
    throw forbidden({ group, name: resource }, who, denialText(user.name, attributes));
  };
  let groups = (headers[groupHeader] ?? "")
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== "");
  if (name.startsWith(accountPrefix)) {
    const [namespace, account] = name.slice(accountPrefix.length).split(":");
    require("serviceaccounts", "", namespace ?? "", account ?? "");
    if (groups.length === 0) groups = ["system:serviceaccounts", `system:serviceaccounts:${namespace}`];
  } else require("users", "", "", name);
  for (const item of headers[groupHeader] ? groups : []) require("groups", "", "", item);
  const uid = headers[uidHeader];
  if (uid) require("uids", "authentication.k8s.io", "", uid);
  const extra: Record<string, string[]> = {};
  for (const [header, value] of Object.entries(headers)) {
    if (!header.startsWith(extraPrefix)) continue;
    const key = decode(header.slice(extraPrefix.length));
    require("userextras", "authentication.k8s.io", "", value, key);
    extra[key] = [value];
  }
  if (name !== "system:anonymous" && !groups.includes("system:unauthenticated"))
    groups.push("system:authenticated");
  else if (name === "system:anonymous") groups.push("system:unauthenticated");
  return {
    name,
    groups: [...new Set(groups)],
    ...(uid && { uid }),
    ...(Object.keys(extra).length > 0 && { extra }),
  };
}
