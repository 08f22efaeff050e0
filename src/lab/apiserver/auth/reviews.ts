/** Questions about identity and rights: TokenReview, SubjectAccessReview and their kin. */
import type { PolicyRule } from "../../../api/index.ts";
import { timestamp } from "../../../world/index.ts";
import { decodeObject } from "../body.ts";
import type { Answer, Core, ResourceCall, UserInfo } from "../core.ts";
import { type ApiObject, asRecord } from "../object.ts";
import { trackUpdate } from "../patch/index.ts";
import { versionOf } from "../registry.ts";
import { asStruct, type FieldError, invalid as invalidField } from "../schema/index.ts";
import { schemaOf } from "../schemas.ts";
import { badRequest, invalid, unknownPath } from "../status.ts";
import { enforceFields, writeOf } from "../verbs/options.ts";
import type { Attributes } from "./attributes.ts";

type Fields = Record<string, unknown>;

/** Answers the creation of a review; nothing is stored. */
export async function review(core: Core, call: ResourceCall): Promise<Answer> {
  const sent = await decodeObject(call, call.type);
  enforceFields(call, sent);
  const spec = asRecord(sent.spec) ?? {};
  // Reviews are objects on their way in, so somebody owns their fields.
  const object = trackUpdate({
    schema: schemaOf(call.type),
    before: undefined,
    after: sent,
    manager: writeOf(call).manager!,
    apiVersion: versionOf(call.type),
    reset: ["status"],
    time: timestamp(core.world),
  });
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
  if (typeof spec.token !== "string" || spec.token === "") {
    throw badRequest("token is required for TokenReview in authentication");
  }
  const audiences = Array.isArray(spec.audiences) ? spec.audiences.map(String) : [];
  const verified = await core.tokens?.verify(spec.token, audiences.length > 0 ? audiences : undefined);
  if (!verified) return { user: {}, error: await tokenProblem(core, spec.token, audiences) };
  return {
    authenticated: true,
    user: shownUser(verified.user),
    audiences: verified.audiences,
  };
}

/** Why a token is not accepted: it may be one, for others. */
async function tokenProblem(core: Core, token: string, audiences: readonly string[]): Promise<string> {
  const meant = audiences.length > 0 ? await core.tokens?.verify(token) : undefined;
  if (!meant) return "invalid bearer token";
  const list = (names: readonly string[]) => `[${names.map((name) => JSON.stringify(name)).join(" ")}]`;
  return `[invalid bearer token, token audiences ${list(meant.audiences)} is invalid for the target audiences ${list(audiences)}]`;
}

/** Kubernetes forgets the kind in these refusals. */
const refuse = (...problems: FieldError[]) =>
  invalid({ group: "authorization.k8s.io", name: "" }, "", problems);

function attributesOf(spec: Fields): Attributes {
  const resource = asRecord(spec.resourceAttributes);
  const path = asRecord(spec.nonResourceAttributes);
  if (!resource && !path) {
    const says = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
    throw refuse(invalidField("spec.resourceAttributes", null, says));
  }
  if (resource && path) {
    const shown = asStruct({ Path: path.path ?? "", Verb: path.verb ?? "" });
    const says = "cannot be specified in combination with resourceAttributes";
    throw refuse(invalidField("spec.nonResourceAttributes", shown, says));
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
  const attributes = attributesOf(spec);
  const allowed = core.rbac.allows(user, attributes);
  const reason = allowed && !user.groups.includes("system:masters") ? core.rbac.reason(user, attributes) : "";
  return { allowed, ...(reason && { reason }) };
}

function subjectStatus(core: Core, call: ResourceCall, object: ApiObject, spec: Fields): object {
  if (object.kind === "LocalSubjectAccessReview") {
    const namespace = asRecord(spec.resourceAttributes)?.namespace;
    if (namespace !== call.route.namespace) {
      throw refuse(
        invalidField("spec.resourceAttributes.namespace", namespace ?? "", "must match metadata.namespace"),
      );
    }
  }
  const groups = Array.isArray(spec.groups) ? spec.groups.map(String) : [];
  if (!spec.user && groups.length === 0) {
    throw refuse(invalidField("spec.user", "", "at least one of user or group must be specified"));
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
