/** What an API server says when it refuses, and how to tell the refusals apart. */
import type { Status } from "../api/index.ts";

/**
 * A refusal by an API server: its metav1.Status with the cluster it came from.
 * `message` is for people and names the cluster; `status.message` is the server's own sentence.
 */
export class ApiError extends Error {
  readonly status: Status;
  readonly cluster: string;
  /** HTTP status code. */
  readonly code: number;
  /** Machine-readable reason (apimachinery `StatusReason`), e.g. `NotFound`; empty when the server gave none. */
  readonly reason: string;
  /** What the server asks us to wait before the next try, in seconds. */
  readonly retryAfterSeconds: number | undefined;

  constructor(status: Status, cluster: string, retryAfterSeconds?: number) {
    super(`${cluster}: ${status.message || status.reason || `HTTP ${status.code}`}`);
    this.name = "ApiError";
    this.status = status;
    this.cluster = cluster;
    this.code = status.code ?? 0;
    this.reason = status.reason ?? "";
    this.retryAfterSeconds = retryAfterSeconds ?? status.details?.retryAfterSeconds ?? undefined;
  }

  get details(): Status["details"] {
    return this.status.details;
  }
}

/** The server sent something that is not what the protocol says: garbage, or a server of another kind. */
export class ProtocolError extends Error {}

/** `StatusReason` by HTTP code, for answers that carry no Status (proxies, garbage). */
const reasonByCode: Record<number, string> = {
  400: "BadRequest",
  401: "Unauthorized",
  403: "Forbidden",
  404: "NotFound",
  405: "MethodNotAllowed",
  406: "NotAcceptable",
  409: "Conflict",
  410: "Expired",
  413: "RequestEntityTooLarge",
  415: "UnsupportedMediaType",
  422: "Invalid",
  429: "TooManyRequests",
  500: "InternalError",
  503: "ServiceUnavailable",
  504: "Timeout",
};

/** Makes an ApiError from a response that is no success, whatever its body is. */
export function apiError(
  cluster: string,
  code: number,
  body: string,
  headers: Record<string, string> = {},
): ApiError {
  let status: Status | undefined;
  try {
    const parsed: unknown = JSON.parse(body);
    if (typeof parsed === "object" && parsed !== null && (parsed as Status).kind === "Status") {
      status = parsed as Status;
    }
  } catch {
    // Not a Status: the code and the first words of the body must do.
  }
  status ??= {
    kind: "Status",
    apiVersion: "v1",
    metadata: {},
    status: "Failure",
    message: body.trim().slice(0, 200) || `the server answered with HTTP ${code}`,
    reason: reasonByCode[code] ?? "Unknown",
  };
  return new ApiError({ ...status, code: status.code ?? code }, cluster, retryAfter(headers));
}

/** The Retry-After header in seconds; API servers send it as a number only. */
function retryAfter(headers: Record<string, string>): number | undefined {
  const seconds = Number(headers["retry-after"] ?? Number.NaN);
  return Number.isFinite(seconds) && seconds >= 0 ? seconds : undefined;
}

function refusedWith(error: unknown, code: number, ...reasons: string[]): error is ApiError {
  return (
    error instanceof ApiError &&
    error.code === code &&
    (reasons.length === 0 || reasons.includes(error.reason))
  );
}

export const isNotFound = (error: unknown): error is ApiError => refusedWith(error, 404);
export const isForbidden = (error: unknown): error is ApiError => refusedWith(error, 403);
const isInvalid = (error: unknown): error is ApiError => refusedWith(error, 422);
/** The object exists already (create). */
export const isAlreadyExists = (error: unknown): error is ApiError =>
  refusedWith(error, 409, "AlreadyExists");
/** A precondition (uid, resourceVersion) did not hold, or another field manager owns a field. */
export const isConflict = (error: unknown): error is ApiError => refusedWith(error, 409, "Conflict");
/** The resourceVersion or continue token is too old: list again. */
export const isGone = (error: unknown): error is ApiError => refusedWith(error, 410);
/**
 * The object is not the one, or not in the state, that the request was meant for. kube-apiserver says Conflict,
 * except for an apply with the uid of an earlier object of the name: there it finds `metadata.uid` immutable.
 */
export const isOutdated = (error: unknown): error is ApiError =>
  (isConflict(error) && !isFieldConflict(error)) ||
  (isInvalid(error) && (error.details?.causes ?? []).some(({ field }) => field === "metadata.uid"));
/** Server-side apply without force met fields that other managers own; `details.causes` names them. */
export const isFieldConflict = (error: unknown): error is ApiError =>
  isConflict(error) && (error.details?.causes ?? []).some((cause) => cause.reason === "FieldManagerConflict");
/** The namespace of a new object is going away (a 403 whose cause says so). */
export const isNamespaceTerminating = (error: unknown): error is ApiError =>
  isForbidden(error) &&
  (error.details?.causes ?? []).some((cause) => cause.reason === "NamespaceTerminating");
