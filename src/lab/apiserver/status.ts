/**
 * Refusals as `metav1.Status`, with the codes, reasons and words of Kubernetes itself.
 * Source: apimachinery `pkg/api/errors/errors.go`.
 */
import type { Status } from "../../api/index.ts";
import { type FieldError, invalidStatus } from "./schema/index.ts";

/** A group and plural name (or kind), as messages name them: `deployments.apps`. */
export interface GroupName {
  group: string;
  name: string;
}

const qualified = (of: GroupName) => (of.group === "" ? of.name : `${of.name}.${of.group}`);

/** A refusal on its way to the client. */
export class StatusError extends Error {
  readonly status: Status & { code: number; reason: string; message: string };
  readonly headers: Record<string, string>;

  constructor(
    code: number,
    reason: string,
    message: string,
    details?: Status["details"],
    headers: Record<string, string> = {},
  ) {
    super(message);
    this.name = "StatusError";
    this.status = {
      kind: "Status",
      apiVersion: "v1",
      metadata: {},
      status: "Failure",
      message,
      ...((reason !== "" && { reason }) as { reason: string }),
      ...(details && { details }),
      code,
    };
    this.headers = headers;
  }
}

export function notFound(of: GroupName, name: string): StatusError {
  return new StatusError(404, "NotFound", `${qualified(of)} "${name}" not found`, {
    name,
    ...(of.group && { group: of.group }),
    kind: of.name,
  });
}

/** Nothing is served at this path. */
export function unknownPath(): StatusError {
  return new StatusError(404, "NotFound", "the server could not find the requested resource", {});
}

export function alreadyExists(of: GroupName, name: string): StatusError {
  return new StatusError(409, "AlreadyExists", `${qualified(of)} "${name}" already exists`, {
    name,
    ...(of.group && { group: of.group }),
    kind: of.name,
  });
}

export function conflict(of: GroupName, name: string, why: string): StatusError {
  return new StatusError(
    409,
    "Conflict",
    `Operation cannot be fulfilled on ${qualified(of)} "${name}": ${why}`,
    {
      name,
      ...(of.group && { group: of.group }),
      kind: of.name,
    },
  );
}

/** The conflict of optimistic concurrency. */
export function modified(of: GroupName, name: string): StatusError {
  return conflict(
    of,
    name,
    "the object has been modified; please apply your changes to the latest version and try again",
  );
}

export function forbidden(of: GroupName, name: string, why: string): StatusError {
  const message = of.name
    ? name
      ? `${qualified(of)} "${name}" is forbidden: ${why}`
      : `${qualified(of)} is forbidden: ${why}`
    : `forbidden: ${why}`;
  return new StatusError(403, "Forbidden", message, {
    ...(name && { name }),
    ...(of.group && { group: of.group }),
    ...(of.name && { kind: of.name }),
  });
}

export function unauthorized(): StatusError {
  return new StatusError(401, "Unauthorized", "Unauthorized");
}

export function badRequest(message: string): StatusError {
  return new StatusError(400, "BadRequest", message);
}

/** A path that is neither about objects nor one of the server's own: said in plain text, as Go's servers do. */
export class PageNotFound extends Error {
  static readonly text = "404 page not found\n";
}

/** 404 for a kind that is not served, which the message names: `kubectl create` and `autoscale` ask unseen. */
export function unknownResource(of: GroupName, version: string): StatusError {
  return new StatusError(
    404,
    "NotFound",
    `the server could not find the requested resource (${qualified(of)}/${version} is not served here)`,
    { ...(of.group && { group: of.group }), kind: of.name },
  );
}

/** What the lab leaves out on purpose: the message names it. */
export function notServed(what: string): StatusError {
  return new StatusError(501, "NotImplemented", `${what} is not served by this API server`);
}

export function methodNotAllowed(): StatusError {
  return new StatusError(
    405,
    "MethodNotAllowed",
    "the server does not allow this method on the requested resource",
    {},
  );
}

/** 415 for a body that is to become an object. */
export function unsupportedMediaType(accepted: readonly string[]): StatusError {
  return new StatusError(
    415,
    "UnsupportedMediaType",
    `the body of the request was in an unknown format - accepted media types include: ${accepted.join(", ")}`,
  );
}

/** 415 for a patch: no type of patch that is known. */
export function unknownPatchType(): StatusError {
  return new StatusError(415, "UnsupportedMediaType", "415: Unsupported Media Type", {});
}

export function notAcceptable(accepted: readonly string[]): StatusError {
  const message = `406: Not Acceptable\n\nAvailable representations: ${accepted.join(", ")}`;
  return new StatusError(406, "NotAcceptable", message, {});
}

export function expired(message: string): StatusError {
  return new StatusError(410, "Expired", message);
}

export function tooLarge(limit: number): StatusError {
  return new StatusError(413, "RequestEntityTooLarge", `Request entity too large: limit is ${limit}`);
}

/** The client has seen a revision that this server has not (yet). */
export function futureRevision(wanted: number, current: number, retry = true): StatusError {
  return new StatusError(
    504,
    "Timeout",
    `Timeout: Too large resource version: ${wanted}, current: ${current}`,
    {
      causes: [{ reason: "ResourceVersionTooLarge", message: "Too large resource version" }],
      ...(retry && { retryAfterSeconds: 1 }),
    },
    retry ? { "retry-after": "1" } : {},
  );
}

export function internalError(message: string): StatusError {
  return new StatusError(500, "InternalError", `Internal error occurred: ${message}`, {
    causes: [{ message }],
  });
}

export function serviceUnavailable(message: string): StatusError {
  return new StatusError(503, "ServiceUnavailable", message);
}

/** 422 with every cause. `of.name` is the kind's name (not the plural). */
export function invalid(of: GroupName, name: string, causes: FieldError[]): StatusError {
  const { code, reason, message, details } = invalidStatus({ group: of.group, kind: of.name }, name, causes);
  return new StatusError(code ?? 422, reason ?? "Invalid", message ?? "", details);
}
