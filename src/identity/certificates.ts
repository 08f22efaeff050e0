/**
 * `POST /certificates` of discovery (HTTPS, port 15017): a workload sends a signing request with its token and gets
 * a certificate for the ServiceAccount that the token is for. A plain function of the request, to be mounted by
 * whoever has the server.
 */
import { type Identity, TokenRefused } from "./authenticate.ts";
import type { Authority } from "./authority.ts";
import { RequestRefused } from "./refused.ts";

export interface CertificateRequest {
  method: string;
  /** Lower-case names. */
  headers: Readonly<Record<string, string | string[] | undefined>>;
  body: Uint8Array | string;
}

export interface CertificateAnswer {
  status: number;
  headers: Record<string, string>;
  /** JSON: IssuedCertificate, or `{ "error": … }`. */
  body: string;
}

export interface IssuedCertificate {
  /** PEM, the workload's own first. */
  certificateChain: string;
  /** Roots by trust domain; PEM. */
  trustBundles: Record<string, string>;
  /** RFC 3339. */
  notAfter: string;
}

/** A request with an RSA key of 4096 bits has 1.6 KB; whoever reads a body need not read more than this. */
export const largestRequest = 32 * 1024;

export interface CertificatesOptions {
  authority: Pick<Authority, "sign">;
  authenticate: (token: string) => Promise<Identity>;
  /** What workloads are to trust now, by trust domain: our own roots and those of peers. */
  bundles: () => Readonly<Record<string, string>>;
  /** Why this one is no workload of the mesh (its namespace is no member); undefined when it is. */
  whyNot?: (identity: Identity) => string | undefined;
  log?: (line: string, error?: unknown) => void;
}

/** Refusals are 400 (the request), 401 (the token), 403 (no member), 405, 413; 503 when it may be tried again. */
export function certificates(
  options: CertificatesOptions,
): (request: CertificateRequest) => Promise<CertificateAnswer> {
  const { authority, authenticate, bundles, whyNot, log } = options;
  return async ({ method, headers, body }) => {
    if (method !== "POST") return refuse(405, "only POST", { allow: "POST" });
    const bytes = Buffer.from(body);
    if (bytes.length > largestRequest) {
      return refuse(413, `a request has at most ${largestRequest} bytes, this one ${bytes.length}`);
    }
    const [, token] = /^Bearer +(\S+)$/i.exec(String(headers.authorization ?? "")) ?? [];
    if (!token) return refuse(401, "a ServiceAccount's token is needed: Authorization: Bearer …");
    try {
      const identity = await authenticate(token);
      const reason = whyNot?.(identity);
      if (reason) return refuse(403, `${identity.namespace}/${identity.serviceAccount}: ${reason}`);
      const { csr, lifetimeSeconds } = asked(bytes);
      const lifetime = lifetimeSeconds === undefined ? undefined : lifetimeSeconds * 1000;
      const { certificateChain, notAfter } = await authority.sign(csr, identity, lifetime);
      const issued: IssuedCertificate = {
        certificateChain,
        trustBundles: { ...bundles() },
        notAfter: new Date(notAfter).toISOString(),
      };
      return { status: 200, headers: json, body: JSON.stringify(issued) };
    } catch (error) {
      if (error instanceof TokenRefused) return refuse(401, `the token is refused: ${error.message}`);
      if (error instanceof RequestRefused) return refuse(400, `the request is refused: ${error.message}`);
      log?.("a certificate could not be issued", error);
      return refuse(503, "the certificate could not be issued now; try again", { "retry-after": "1" });
    }
  };
}

const json = { "content-type": "application/json" };

function refuse(status: number, error: string, headers: Record<string, string> = {}): CertificateAnswer {
  return { status, headers: { ...json, ...headers }, body: JSON.stringify({ error }) };
}

function asked(bytes: Buffer): { csr: string; lifetimeSeconds?: number } {
  let body: unknown;
  try {
    body = JSON.parse(bytes.toString("utf8"));
  } catch {
    throw new RequestRefused('the body is not JSON: { "csr": "-----BEGIN CERTIFICATE REQUEST-----…" }');
  }
  const { csr, lifetimeSeconds } = (typeof body === "object" && body !== null ? body : {}) as {
    csr?: unknown;
    lifetimeSeconds?: unknown;
  };
  if (typeof csr !== "string") throw new RequestRefused("'csr' is missing");
  if (lifetimeSeconds === undefined) return { csr };
  if (typeof lifetimeSeconds !== "number" || !(lifetimeSeconds > 0)) {
    throw new RequestRefused("'lifetimeSeconds' is not a number above 0");
  }
  return { csr, lifetimeSeconds };
}
