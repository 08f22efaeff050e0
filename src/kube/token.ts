/** Bearer tokens that say something of themselves (JWT, RFC 7519). */

/** Its claims, as they stand there: nobody has checked its signature. Undefined for tokens that are no JWT. */
export function claimsOf(token: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const claims: unknown = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString("utf8"));
    return typeof claims === "object" && claims !== null ? (claims as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
