/**
 * `POST /inject` of discovery (HTTPS, port 15017): an AdmissionReview with a pod in, the patch out. A plain
 * function of the request. Source: Kubernetes `admission.k8s.io/v1`.
 */
import type { Pod } from "../api/index.ts";
import { type InjectionContext, inject } from "./inject.ts";
import { InjectionRefused } from "./settings.ts";

export interface WebhookRequest {
  method: string;
  body: Uint8Array | string;
}

export interface WebhookAnswer {
  status: number;
  headers: Record<string, string>;
  body: string;
}

export interface WebhookOptions {
  /** The mesh's settings and the cluster's abilities; undefined while they are not known: then nobody is let in. */
  context: () => Omit<InjectionContext, "namespace"> | undefined;
  log?: (line: string, error?: unknown) => void;
}

/** What a kube-apiserver takes at most for an object, and some for the review around it. */
export const largestReview = 4 * 1024 * 1024;

interface Review {
  kind?: string;
  request?: {
    uid?: string;
    kind?: { kind?: string };
    namespace?: string;
    operation?: string;
    object?: unknown;
  };
}

/** Never answers "leave it as it is" to what it does not understand: a pod would run outside of the mesh unseen. */
export function webhook(options: WebhookOptions): (request: WebhookRequest) => Promise<WebhookAnswer> {
  return async ({ method, body }) => {
    if (method !== "POST") return plain(405, "only POST");
    if (body.length > largestReview) return plain(413, "the review is too large");
    let review: Review;
    try {
      review = JSON.parse(Buffer.from(body).toString("utf8")) as Review;
    } catch {
      return plain(400, "the body is not JSON");
    }
    const { request } = review;
    if (review.kind !== "AdmissionReview" || !request?.uid) {
      return plain(400, "the body is no AdmissionReview of admission.k8s.io/v1");
    }
    return answer(request.uid, respond(request, options));
  };
}

type Response = Record<string, unknown> & { allowed: boolean };

function respond(request: NonNullable<Review["request"]>, { context, log }: WebhookOptions): Response {
  const pod = request.object as Pod | undefined;
  if (request.kind?.kind !== "Pod" || !pod?.spec?.containers) return deny(400, "it is not a pod");
  const known = context();
  if (!known) return deny(503, "the mesh's settings are not known yet; try again");
  const namespace = request.namespace ?? pod.metadata?.namespace ?? "default";
  const name = `${namespace}/${pod.metadata?.name || `${pod.metadata?.generateName ?? ""}*`}`;
  try {
    // A pod of a template may have no metadata at all.
    const result = inject({ ...pod, metadata: pod.metadata ?? { name: "" } }, { ...known, namespace });
    const warnings = result.warnings.length > 0 ? { warnings: result.warnings } : {};
    if (!("patch" in result)) return { allowed: true, ...warnings };
    log?.(`injected a sidecar into ${name}`);
    const patch = Buffer.from(JSON.stringify(result.patch)).toString("base64");
    return { allowed: true, patchType: "JSONPatch", patch, ...warnings };
  } catch (error) {
    if (error instanceof InjectionRefused) return deny(400, `no sidecar for this pod: ${error.message}`);
    log?.(`bug while injecting a sidecar into ${name}`, error);
    return deny(500, "the sidecar could not be made: discovery's log says why");
  }
}

function deny(code: number, message: string): Response {
  return { allowed: false, status: { code, message } };
}

function answer(uid: string, response: Response): WebhookAnswer {
  const review = {
    apiVersion: "admission.k8s.io/v1",
    kind: "AdmissionReview",
    response: { uid, ...response },
  };
  return { status: 200, headers: { "content-type": "application/json" }, body: JSON.stringify(review) };
}

function plain(status: number, text: string): WebhookAnswer {
  return { status, headers: { "content-type": "text/plain" }, body: `${text}\n` };
}
