/** Questions about identity and rights: TokenReview, SubjectAccessReview and their kin. */
import type { PolicyRule } from "../../../api/index.ts";
import { timestamp } from "../../../world/index.ts";
import { decodeObject } from "../body.ts";
import type { Answer, Core, ResourceCall, UserInfo } from "../core.ts";
import { type ApiObject, asRecord } from "../object.ts";
import { badRequest, invalid, unknownPath } from "../status.ts";
import type { Attributes } from "./attributes.ts";

type Fields = Record<string, unknown>;

/** Answers the creation of a review; nothing is stored. */
export async function review(core: Core, call: ResourceCall): Promise<Answer> {
  const object = await decodeObject(call, call.type);
  const spec = asRecord(object.spec) ?? {};
  object.metadata.creationTimestamp ??= null as unknown as string;
  object.status = await statusOf(core, call, object, spec);
  return { code: 201, object };
}

async function statusOf(core: Core, call: ResourceCall, object: ApiObject, spec: Fields): Promise<object> {
  switch (object.kind) {
    case "SelfSubjectReview":
      object.metadata.creationTimestamp = timestamp(core.world);
      return { userInfo: shownUser(call.user) };
    case "TokenReview":
      return tokenStatus(core, spec);
    case "SelfSubjectAccessReview":
      return accessStatus(core, call.user, spec);
    case "SubjectAccessReview":
    case "LocalSubjectAccessReview":
      return subjectStatus(core, call, object, spec);
    case "SelfSubjectRulesReview":
      return rulesStatus(core, call.user, spec);
  }
  throw unknownPath();
}

function shownUser(user: UserInfo): object {
  return {
    username: user.name,
    ...(user.uid && { uid: user.uid }),
    groups: user.groups,
    ...(user.extra && Object.keys(user.extra).length > 0 && { extra: user.extra }),
  };
}

async function tokenStatus(core: Core, spec: Fields): Promise<object> {
  const audiences = Array.isArray(spec.audiences) ? spec.audiences.map(String) : [];
  const verified =
    typeof spec.token === "string"
      ? await core.tokens?.verify(spec.token, audiences.length > 0 ? audiences : undefined)
      : undefined;
  if (!verified) return { user: {}, error: "[invalid bearer token, token is not valid or has expired]" };
  return {
    authenticated: true,
    user: shownUser(verified.user),
    audiences: verified.audiences,
  };
}

function attributesOf(spec: Fields): Attributes {
  const resource = asRecord(spec.resourceAttributes);
  const path = asRecord(spec.nonResourceAttributes);
  if ((resource === undefined) === (path === undefined)) {
    throw invalid({ group: "authorization.k8s.io", name: "SubjectAccessReview" }, "", [
      {
        field: "spec.resourceAttributes",
        type: "FieldValueInvalid",
        value: spec.resourceAttributes ?? null,
        detail: "exactly one of nonResourceAttributes or resourceAttributes must be specified",
      },
    ]);
  }
  const text = (fields: Fields, name: string) => (typeof fields[name] === "string" ? fields[name] : "");
  if (path) return { verb: text(path, "verb"), path: text(path, "path") };
  return {
    verb: text(resource!, "verb"),
    group: text(resource!, "group"),
    resource: text(resource!, "resource"),
    subresource: text(resource!, "subresource"),
    namespace: text(resource!, "namespace"),
    name: text(resource!, "name"),
  };
}

function accessStatus(core: Core, user: UserInfo, spec: Fields): object {
  return { allowed: core.rbac.allows(user, attributesOf(spec)) };
}

function subjectStatus(core: Core, call: ResourceCall, object: ApiObject, spec: Fields): object {
  if (object.kind === "LocalSubjectAccessReview") {
    const namespace = asRecord(spec.resourceAttributes)?.namespace;
    if (namespace !== call.route.namespace) {
      throw badRequest("spec.resourceAttributes.namespace must match metadata.namespace");
    }
  }
  const groups = Array.isArray(spec.groups) ? spec.groups.map(String) : [];
  if (typeof spec.user !== "string" && groups.length === 0) {
    throw badRequest("at least one of user or group must be specified");
  }
  return accessStatus(core, { name: String(spec.user ?? ""), groups }, spec);
}

function rulesStatus(core: Core, user: UserInfo, spec: Fields): object {
  if (typeof spec.namespace !== "string" || spec.namespace === "") {
    throw badRequest("no namespace on request");
  }
  const rules: PolicyRule[] = user.groups.includes("system:masters")
    ? [
        { apiGroups: ["*"], resources: ["*"], verbs: ["*"] },
        { nonResourceURLs: ["*"], verbs: ["*"] },
      ]
    : [...core.rbac.rulesOf(user, spec.namespace)];
  return {
    resourceRules: rules
      .filter((rule) => rule.resources?.length)
      .map(({ verbs, apiGroups, resources, resourceNames }) => ({
        verbs,
        apiGroups,
        resources,
        resourceNames,
      })),
    nonResourceRules: rules
      .filter((rule) => rule.nonResourceURLs?.length)
      .map(({ verbs, nonResourceURLs }) => ({ verbs, nonResourceURLs })),
    incomplete: false,
  };
}
