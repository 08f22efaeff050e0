/** `serviceaccounts/NAME/token`: TokenRequest. Source: Kubernetes `pkg/registry/core/serviceaccount/storage/token.go`. */

import { timestamp } from "../../../world/index.ts";
import { admitOther } from "../admission/webhooks.ts";
import type { Bound } from "../auth/tokens.ts";
import { asObject, decodeBody } from "../body.ts";
import type { Answer, Core, ResourceCall } from "../core.ts";
import { type ApiObject, asRecord } from "../object.ts";
import { trackUpdate } from "../patch/index.ts";
import { builtinSchema, type FieldError, invalid } from "../schema/index.ts";
import { badRequest, conflict, notFound, invalid as refuse, serviceUnavailable } from "../status.ts";
import { writeOf } from "../verbs/options.ts";
import { existing } from "../write.ts";

/** Shortest and longest life of a token, in seconds. */
const shortest = 600;
const longest = 1 << 30;
const boundKinds: Record<string, string> = { Pod: "/pods", Secret: "/secrets", Node: "/nodes" };

export async function requestToken(core: Core, call: ResourceCall): Promise<Answer> {
  const { type, route } = call;
  const sent = call.body
    ? asObject(await decodeBody(call), { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest" })
    : ({
        apiVersion: "authentication.k8s.io/v1",
        kind: "TokenRequest",
        metadata: {},
      } as unknown as ApiObject);
  sent.metadata = { ...sent.metadata, name: route.name!, namespace: route.namespace! };
  const body = await admitOther(core, call, writeOf(call), "CREATE", sent);
  if (!core.tokens) throw serviceUnavailable("this API server has no key to sign ServiceAccount tokens with");
  const account = existing(core, type, route.namespace, route.name!);
  const spec = asRecord(body.spec) ?? {};
  const audiences =
    Array.isArray(spec.audiences) && spec.audiences.length > 0
      ? spec.audiences.map(String)
      : [core.tokens.issuer];
  const seconds =
    spec.expirationSeconds === undefined || spec.expirationSeconds === null
      ? 3600
      : Number(spec.expirationSeconds);
  const errors: FieldError[] = [];
  if (!(seconds >= shortest)) {
    errors.push(
      invalid(
        "spec.expirationSeconds",
        spec.expirationSeconds,
        "may not specify a duration less than 10 minutes",
      ),
    );
  } else if (seconds > longest) {
    errors.push(
      invalid(
        "spec.expirationSeconds",
        spec.expirationSeconds,
        "may not specify a duration larger than 2^32 seconds",
      ),
    );
  }
  if (errors.length > 0) throw refuse({ group: "authentication.k8s.io", name: "TokenRequest" }, "", errors);
  const bound = boundObject(core, route.namespace!, asRecord(spec.boundObjectRef));
  const { token, expires } = await core.tokens.sign(account, audiences, seconds, bound);
  const { name, namespace, uid, creationTimestamp } = account.metadata;
  const { managedFields } = trackUpdate({
    schema: builtinSchema("authentication.k8s.io", "v1", "TokenRequest"),
    before: undefined,
    after: body,
    manager: writeOf(call).manager!,
    apiVersion: "authentication.k8s.io/v1",
    subresource: "token",
    reset: ["status"],
    time: timestamp(core.world),
  }).metadata;
  return {
    code: 201,
    object: {
      kind: "TokenRequest",
      apiVersion: "authentication.k8s.io/v1",
      metadata: { name, namespace, uid, creationTimestamp, ...(managedFields && { managedFields }) },
      spec: {
        audiences,
        expirationSeconds: seconds,
        boundObjectRef: bound ? { apiVersion: "v1", ...bound } : null,
      },
      status: { token, expirationTimestamp: new Date(expires * 1000).toISOString().replace(".000Z", "Z") },
    },
  };
}

function boundObject(
  core: Core,
  namespace: string,
  ref: Record<string, unknown> | undefined,
): Bound | undefined {
  if (!ref) return undefined;
  const kind = String(ref.kind);
  const name = String(ref.name);
  const bucket = Object.hasOwn(boundKinds, kind) ? boundKinds[kind] : undefined;
  if (!bucket || ref.apiVersion !== "v1") {
    throw badRequest(
      `cannot bind token to object of type ${String(ref.apiVersion).includes("/") ? "" : "/"}${String(ref.apiVersion)}, Kind=${kind}`,
    );
  }
  const object = core.store.bucket(bucket).objects.get(kind === "Node" ? name : `${namespace}/${name}`);
  if (!object) throw notFound({ group: "", name: bucket.slice(1) }, name);
  if (ref.uid && ref.uid !== object.metadata.uid) {
    throw conflict(
      { group: "", name: bucket.slice(1) },
      name,
      `the UID in the bound object reference (${String(ref.uid)}) does not match the UID in record. The object might have been deleted and then recreated`,
    );
  }
  return { kind: kind as Bound["kind"], name, uid: object.metadata.uid! };
}
