/** Why no answer could be had, in words for people. */

const says: Record<string, string> = {
  ECONNREFUSED: "connection refused",
  ECONNRESET: "the connection was reset",
  EPIPE: "the connection was reset",
  ENOTFOUND: "no such host",
  EAI_AGAIN: "the host name could not be looked up",
  EHOSTUNREACH: "no route to the host",
  ENETUNREACH: "no route to the network",
  ETIMEDOUT: "the connection timed out",
  ENOENT: "its socket does not exist",
  EACCES: "permission denied",
  CERT_HAS_EXPIRED: "its certificate has expired",
  SELF_SIGNED_CERT_IN_CHAIN: "its certificate is not signed by the expected CA",
  DEPTH_ZERO_SELF_SIGNED_CERT: "its certificate is not signed by the expected CA",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "its certificate is not signed by the expected CA",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "its certificate is not signed by the expected CA",
  ERR_TLS_CERT_ALTNAME_INVALID: "its certificate is for another name",
};

export function unreachableReason(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = (error as NodeJS.ErrnoException).code;
  return (code && says[code]) || error.message || code || error.name;
}
