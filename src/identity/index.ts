/**
 * Trust domains, the certificate authority, and workload certificates: both ends. What only the authority needs is
 * loaded when it is opened: every sidecar comes in by this door.
 */
import type { Authority, AuthorityOptions } from "./authority.ts";

export * from "./authenticate.ts";
export type {
  Authority,
  AuthorityOptions,
  ServerIdentity,
  ServerTls,
  SignedCertificate,
} from "./authority.ts";
export * from "./bundles.ts";
export { authorityProblem } from "./ca.ts";
export * from "./certificates.ts";
export { type KeyAndRequest, makeRequest } from "./csr.ts";
export type { Post } from "./post.ts";
export { RequestRefused } from "./refused.ts";
export * from "./sds.ts";
export * from "./spiffe.ts";
export * from "./workload.ts";

/** Opens the mesh's authority; makes it when there is none yet. Throws CA_INVALID when what is there cannot sign. */
export async function openAuthority(options: AuthorityOptions): Promise<Authority> {
  return (await import("./authority.ts")).openAuthority(options);
}
