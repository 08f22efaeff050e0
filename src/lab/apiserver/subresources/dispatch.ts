/** Who answers requests for subresources. */
import { admitted } from "../admission/webhooks.ts";
import { asObject, decodeBody } from "../body.ts";
import type { Answer, Core, ResourceCall } from "../core.ts";
import { asRecord } from "../object.ts";
import { pluralName, shown, versionOf } from "../registry.ts";
import { badRequest, methodNotAllowed, notFound, notServed, unknownPath } from "../status.ts";
import { writeOf } from "../verbs/options.ts";
import { get } from "../verbs/read.ts";
import { patch, update } from "../verbs/write.ts";
import { existing, replacement } from "../write.ts";
import { bind, evict } from "./pods.ts";
import { scale } from "./scale.ts";
import { requestToken } from "./token.ts";

/** Parts of Kubernetes' API that exist and that this server leaves out. */
const leftOut = new Set(["ephemeralcontainers", "proxy", "resize"]);

export async function subresource(core: Core, call: ResourceCall): Promise<Answer> {
  const { type, route } = call;
  const name = route.subresource!;
  const known = type.subresources.get(name);
  if (!known) {
    if (!type.custom && leftOut.has(name)) throw notServed(`the subresource ${type.plural}/${name}`);
    if (type.custom && (name === "status" || name === "scale")) throw notFound(pluralName(type), route.name!);
    throw unknownPath();
  }
  if (!known.verbs.includes(route.verb)) throw methodNotAllowed();
  switch (name) {
    case "status":
      return route.verb === "get"
        ? get(core, call)
        : route.verb === "update"
          ? update(core, call)
          : patch(core, call);
    case "scale":
      return scale(core, call);
    case "finalize":
      return finalize(core, call);
    case "binding":
      return bind(core, call);
    case "token":
      return requestToken(core, call);
    case "exec":
    case "attach":
    case "portforward":
      throw badRequest("Upgrade request required");
    case "eviction":
      return evict(core, call);
  }
  throw notServed(`the subresource ${type.plural}/${name}`);
}

/** `namespaces/NAME/finalize`: the one way to change the finalizers of a namespace's spec. */
async function finalize(core: Core, call: ResourceCall): Promise<Answer> {
  const { type, route } = call;
  const sent = asObject(await decodeBody(call), { apiVersion: versionOf(type), kind: type.kind });
  const write = writeOf(call);
  const stored = await admitted(core, call, write, () => {
    const current = existing(core, type, undefined, route.name!);
    const next = {
      ...current,
      metadata: { ...sent.metadata, resourceVersion: sent.metadata.resourceVersion ?? "" },
      spec: { ...asRecord(current.spec), finalizers: asRecord(sent.spec)?.finalizers ?? [] },
    };
    return replacement(core, type, current, next, "finalize", write);
  });
  await core.store.committed();
  return { code: 200, object: shown(type, stored) };
}
