/** What an admission webhook is told of a request. Source: Kubernetes `pkg/apis/admission` v1, webhook/request. */
import { uuid } from "../../../world/index.ts";
import type { Core, ResourceCall, UserInfo } from "../core.ts";
import { type ApiObject, asRecord } from "../object.ts";
import { type ResourceType, shown, toStored } from "../registry.ts";

export type Operation = "CREATE" | "UPDATE" | "DELETE" | "CONNECT";

/** One request as admission sees it. Objects are in the version of `type`, or of the subresource's kind. */
export interface Attributes {
  operation: Operation;
  type: ResourceType;
  subresource: string | undefined;
  /** Of the namespace itself for requests about a namespace. */
  namespace: string | undefined;
  /** Empty for objects that get their name later. */
  name: string;
  object: ApiObject | undefined;
  old: ApiObject | undefined;
  /** `meta.k8s.io/v1` options of the request; null for a connection. */
  options: Record<string, unknown> | null;
  user: UserInfo;
  dryRun: boolean;
}

interface Kind {
  group: string;
  version: string;
  kind: string;
}

/** The kind of the request's body: that of the subresource (Scale, Binding), or of the resource. */
export function kindOf(type: ResourceType, subresource: string | undefined): Kind {
  const sub = subresource === undefined ? undefined : type.subresources.get(subresource);
  return {
    group: sub?.group ?? type.group,
    version: sub?.version ?? type.version,
    kind: sub?.kind ?? type.kind,
  };
}

const optionKinds: Record<Operation, string | undefined> = {
  CREATE: "CreateOptions",
  UPDATE: "UpdateOptions",
  DELETE: "DeleteOptions",
  CONNECT: undefined,
};

/** The attributes of a request at one of its stops. */
export function attributesOf(
  call: ResourceCall,
  stop: { operation: Operation; object?: ApiObject | undefined; old?: ApiObject | undefined },
  dryRun: boolean,
  options: Record<string, unknown> = {},
): Attributes {
  const { type, route } = call;
  const name = route.name ?? (stop.operation === "CREATE" ? (stop.object?.metadata.name ?? "") : "");
  const kind = optionKinds[stop.operation];
  const named = (parameter: string) => {
    const value = call.query.get(parameter);
    return value ? { [parameter]: value } : {};
  };
  return {
    operation: stop.operation,
    type,
    subresource: route.subresource,
    namespace: type.bucket === "/namespaces" ? name : route.namespace,
    name,
    object: stop.object,
    old: stop.old,
    options: kind
      ? {
          kind,
          apiVersion: "meta.k8s.io/v1",
          ...options,
          ...(dryRun && { dryRun: ["All"] }),
          ...(kind !== "DeleteOptions" && { ...named("fieldManager"), ...named("fieldValidation") }),
        }
      : null,
    user: call.user,
    dryRun,
  };
}

/** The same object in another version of its kind. */
export function inVersion(from: ResourceType, to: ResourceType, object: ApiObject): ApiObject {
  return from === to ? object : shown(to, toStored(from, object));
}

/** `request` of an AdmissionReview; `as` is the type that the webhook asked for (matchPolicy Equivalent). */
export function admissionRequest(
  core: Core,
  attributes: Attributes,
  as: ResourceType,
): Record<string, unknown> & { uid: string } {
  const { type, subresource, namespace, name, operation, user, object, old } = attributes;
  const isWhole = subresource === undefined || subresource === "status";
  const sent = (of: ApiObject | undefined) => (of && isWhole ? inVersion(type, as, of) : (of ?? null));
  const resource = (of: ResourceType) => ({ group: of.group, version: of.version, resource: of.plural });
  return {
    uid: uuid(core.world),
    kind: kindOf(as, subresource),
    resource: resource(as),
    ...(subresource && { subResource: subresource }),
    requestKind: kindOf(type, subresource),
    requestResource: resource(type),
    ...(subresource && { requestSubResource: subresource }),
    ...(name && { name }),
    ...(namespace && { namespace }),
    operation,
    userInfo: {
      username: user.name,
      ...(user.uid && { uid: user.uid }),
      groups: user.groups,
      ...(user.extra && Object.keys(user.extra).length > 0 && { extra: user.extra }),
    },
    object: sent(object),
    oldObject: sent(old),
    dryRun: attributes.dryRun,
    options: attributes.options,
  };
}

/** What a webhook answered, found to be an answer to what was asked. */
export interface Verdict {
  allowed: boolean;
  /** The JSON of a JSON patch. */
  patch: string | undefined;
  result: Record<string, unknown> | undefined;
  warnings: string[];
}

/** Reads a webhook's answer. Throws an Error that says what is wrong with it, as kube-apiserver does. */
export function verdictOf(answer: unknown, version: string, uid: string, mutating: boolean): Verdict {
  const review = asRecord(answer) ?? {};
  const response = asRecord(review.response);
  const { apiVersion = "", kind = "" } = review as { apiVersion?: string; kind?: string };
  const wanted = `admission.k8s.io/${version}`;
  // What is told before the answer is looked at, Go's decoder says.
  if (kind !== "" && apiVersion !== "" && (kind !== "AdmissionReview" || apiVersion !== wanted)) {
    const isOther = kind === "AdmissionReview" && /^admission\.k8s\.io\/v1(?:beta1)?$/.test(apiVersion);
    const says = isOther
      ? `converting (${apiVersion.split("/")[1]}.AdmissionReview) to (${version}.AdmissionReview): unknown conversion`
      : `no kind ${JSON.stringify(kind)} is registered for version ${JSON.stringify(apiVersion)} in scheme "pkg/runtime/scheme.go:111"`;
    throw new Error(`failed to call webhook: ${says}`);
  }
  const received = (says: string) => new Error(`received invalid webhook response: ${says}`);
  if (!response) throw received("webhook response was absent");
  const { patchType } = response;
  let patch =
    typeof response.patch === "string" && response.patch !== ""
      ? Buffer.from(response.patch, "base64").toString()
      : undefined;
  if (version === "v1") {
    if (response.uid !== uid) {
      const got = JSON.stringify(String(response.uid ?? ""));
      throw received(`expected response.uid=${JSON.stringify(uid)}, got ${got}`);
    }
    if (kind === "" || apiVersion === "") {
      const [group, is] = apiVersion.includes("/") ? apiVersion.split("/") : ["", apiVersion];
      const got = `${group}/${is}, Kind=${kind}`;
      throw received(`expected webhook response of ${wanted}, Kind=AdmissionReview, got ${got}`);
    }
    const has = patchType !== undefined && patchType !== null;
    if (!mutating && patch !== undefined) throw received("validating webhook may not return response.patch");
    if (!mutating && has) throw received("validating webhook may not return response.patchType");
    if (patch !== undefined && !has)
      throw received("webhook returned response.patch but not response.patchType");
    if (patch === undefined && has)
      throw received("webhook returned response.patchType but not response.patch");
    if (patchType === "") throw received('webhook returned invalid response.patchType of ""');
    if (has && patchType !== "JSONPatch")
      throw new Error(`unsupported patch type ${JSON.stringify(patchType)}`);
  } else if (!mutating) patch = undefined;
  return {
    allowed: response.allowed === true,
    patch,
    result: asRecord(response.status),
    warnings: Array.isArray(response.warnings) ? response.warnings.map(String) : [],
  };
}
