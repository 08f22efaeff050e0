/**
 * What a certificate authority consists of, as Istio's Secret `cacerts` has it, and whether it can be one.
 * Source: Istio docs "Plug in CA Certificates", `security/pkg/pki/util/keycertbundle.go`.
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { certificatesIn } from "./pem.ts";

export interface Ca {
  /** The certificate that signs; PEM. */
  certificate: string;
  key: string;
  /** What stands between it and its root, itself first, the root left out; empty when it is the root. */
  chain: string;
  /** What is to be trusted. Its own root is among them; others may be, while people rotate by hand. */
  roots: string;
}

const names = {
  certificate: "ca-cert.pem",
  key: "ca-key.pem",
  chain: "cert-chain.pem",
  roots: "root-cert.pem",
} as const;

/** The entries of a Secret, not in base64. */
export type Entries = Readonly<Record<string, string>>;

export function entriesOf(ca: Ca, prefix = ""): Record<string, string> {
  const entries = Object.entries(names) as [keyof Ca, string][];
  return Object.fromEntries(entries.map(([field, name]) => [`${prefix}${name}`, ca[field]]));
}

/**
 * Reads an authority from a Secret's entries. Throws, in words for people, when it cannot sign: an entry that is
 * missing, a key of another certificate, a certificate that may not sign, one that is over (`now`, ms), a chain
 * that leads to none of the roots.
 */
export function readCa(entries: Entries, now: number, prefix = ""): Ca {
  const text = (field: keyof Ca) => entries[`${prefix}${names[field]}`] ?? "";
  for (const field of ["certificate", "key", "roots"] as const) {
    if (text(field).trim() === "") throw new Error(`${prefix}${names[field]} is missing`);
  }
  const [own, ...above] = parsed(text("certificate"), `${prefix}${names.certificate}`);
  const roots = parsed(text("roots"), `${prefix}${names.roots}`);
  const key = attempt(() => createPrivateKey(text("key")), `${prefix}${names.key} holds no private key`);
  if (!own) throw new Error(`${prefix}${names.certificate} holds no certificate`);
  if (!own.checkPrivateKey(key)) {
    throw new Error(`${prefix}${names.key} is not the key of ${prefix}${names.certificate}`);
  }
  if (!own.ca) throw new Error(`${prefix}${names.certificate} may not sign certificates (no CA:TRUE)`);
  const chain = [own, ...above, ...parsed(text("chain"), `${prefix}${names.chain}`)];
  const path = pathToRoot(own, chain, roots);
  if (!path) {
    throw new Error(`${prefix}${names.certificate} does not lead to a root in ${prefix}${names.roots}`);
  }
  for (const each of path) {
    if (each.validToDate.getTime() <= now) {
      throw new Error(`the certificate of '${nameOf(each)}' ended at ${each.validToDate.toISOString()}`);
    }
  }
  const anchor = path.at(-1)!;
  const pem = (certificate: X509Certificate) => certificate.toString();
  return {
    certificate: pem(own),
    key: text("key"),
    chain: path
      .filter((each) => each !== anchor)
      .map(pem)
      .join(""),
    roots: roots.map(pem).join(""),
  };
}

/** Why a Secret with these entries is no authority at this time (ms); undefined when it is. */
export function authorityProblem(entries: Entries, now: number): string | undefined {
  try {
    readCa(entries, now);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** From the signer up to a root that is given; undefined when there is no way. */
function pathToRoot(
  from: X509Certificate,
  chain: readonly X509Certificate[],
  roots: readonly X509Certificate[],
): X509Certificate[] | undefined {
  const path = [from];
  for (;;) {
    const last = path.at(-1)!;
    const same = roots.find(({ fingerprint256 }) => fingerprint256 === last.fingerprint256);
    if (same) return [...path.slice(0, -1), same];
    const issued = (by: X509Certificate) => last.checkIssued(by) && last.verify(by.publicKey);
    const root = roots.find(issued);
    if (root) return [...path, root];
    const next = chain.find((each) => !path.includes(each) && issued(each));
    if (!next) return undefined;
    path.push(next);
  }
}

/** The root that signs for this authority, among those that it trusts. */
export function anchorOf(ca: Ca): string {
  const roots = certificatesIn(ca.roots).map((pem) => new X509Certificate(pem));
  const last = new X509Certificate(certificatesIn(ca.chain).at(-1) ?? ca.certificate);
  const anchor = roots.find(
    (root) =>
      root.fingerprint256 === last.fingerprint256 || (last.checkIssued(root) && last.verify(root.publicKey)),
  );
  if (!anchor) throw new Error("the authority's root is not among its roots");
  return anchor.toString();
}

/** When the first certificate of the way to the root ends, ms since the epoch. */
export function endOf(ca: Ca): number {
  const path = [ca.certificate, ...certificatesIn(ca.chain), anchorOf(ca)];
  return Math.min(...path.map((pem) => new X509Certificate(pem).validToDate.getTime()));
}

function nameOf(certificate: X509Certificate): string {
  return certificate.subject.replace(/\n/g, ", ");
}

function parsed(text: string, entry: string): X509Certificate[] {
  return certificatesIn(text).map((pem) =>
    attempt(() => new X509Certificate(pem), `${entry} holds a certificate that cannot be read`),
  );
}

function attempt<T>(run: () => T, says: string): T {
  try {
    return run();
  } catch (error) {
    throw new Error(says, { cause: error });
  }
}
