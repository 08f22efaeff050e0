/**
 * Whom to believe, per trust domain: our own roots, and what peers say of theirs. A peer speaks for its own trust domain
 * only, so one that lies gains nothing by it: it is never heard about ours, and where two speak of one trust domain
 * only those roots count that both name (SPIFFE Federation, section 3: bundles are per trust domain).
 */
import { X509Certificate } from "node:crypto";
import type { TrustBundle } from "../api/index.ts";
import { keyIdOf } from "./key-id.ts";
import { certificatesIn, fingerprint } from "./pem.ts";

/** What a cluster says of a trust domain. */
export type TrustClaim = TrustBundle["spec"];

export interface AcceptedBundles {
  /** Roots by trust domain; PEM. Ours is always among them. */
  bundles: Record<string, string>;
  /** What does not count, for people. */
  refused: { cluster: string; trustDomain: string; reason: string }[];
}

/** Istio's default, and what people write in policies for their own mesh, whatever it is called. */
const everybodysOwn = "cluster.local";
/** Rotations need two or three; a peer shall not fill our proxies' memory. */
const mostRoots = 16;
const longestClaim = 64 * 1024;

/**
 * `now` in ms: a root that is over is left out, and so is one that could be mistaken for another's (two with one name
 * and one key id, of which validators that have both in one store pick either). The order of claims makes no difference.
 */
export function acceptedBundles(
  own: { trustDomain: string; roots: string },
  claims: readonly TrustClaim[],
  now: number,
): AcceptedBundles {
  const bundles: Record<string, string> = { [own.trustDomain]: own.roots };
  const refused: AcceptedBundles["refused"] = [];
  const heard: Heard = new Map();
  for (const claim of [...claims].sort(order)) {
    const { cluster, trustDomain } = claim;
    const refuse = (reason: string) => refused.push({ cluster, trustDomain, reason });
    if (!/^[a-z0-9._-]{1,255}$/.test(trustDomain)) {
      refuse("it is no trust domain");
      continue;
    }
    if (trustDomain === everybodysOwn && trustDomain !== own.trustDomain) {
      refuse("in policies it means a mesh's own trust domain, so no peer can have it");
      continue;
    }
    const roots = readRoots(claim, now, refuse);
    if (roots.size === 0) continue;
    if (trustDomain === own.trustDomain) {
      // A root that is shared is no news; any other would let them make identities of ours.
      const ours = new Set(certificatesIn(own.roots).map(fingerprint));
      if ([...roots.keys()].some((root) => !ours.has(root)))
        refuse("it is our own trust domain, with other roots");
      continue;
    }
    heard.set(trustDomain, [...(heard.get(trustDomain) ?? []), { claim, roots }]);
  }
  leaveOutDoubles(own, heard, refused);
  for (const [trustDomain, all] of heard) {
    const common = [...all[0]!.roots].filter(([root]) => all.every(({ roots }) => roots.has(root)));
    for (const { claim, roots } of all) {
      if (roots.size > common.length) {
        const others = all.filter((each) => each.claim !== claim).map((each) => each.claim.cluster);
        const reason = `${others.join(", ")} names other roots for it: only what all name counts`;
        refused.push({ cluster: claim.cluster, trustDomain, reason });
      }
    }
    if (common.length > 0) bundles[trustDomain] = common.map(([, pem]) => pem).join("");
  }
  return { bundles, refused };
}

/** By trust domain; roots by fingerprint. */
type Heard = Map<string, { claim: TrustClaim; roots: Map<string, string> }[]>;

/** Ours stand. Of two peers with such roots neither is believed about them: nobody knows which is the copy. */
function leaveOutDoubles(own: { roots: string }, heard: Heard, refused: AcceptedBundles["refused"]): void {
  const seen = certificatesIn(own.roots).map((pem) => ({
    ...looksOf(pem),
    trustDomain: undefined as string | undefined,
  }));
  for (const [trustDomain, all] of heard) {
    for (const pem of new Set(all.flatMap(({ roots }) => [...roots.values()]))) {
      seen.push({ ...looksOf(pem), trustDomain });
    }
  }
  for (const [trustDomain, all] of heard) {
    for (const { claim, roots } of all) {
      for (const [print, pem] of roots) {
        const looks = looksOf(pem);
        const double = seen.find((each) => each.trustDomain !== trustDomain && alike(each, looks));
        if (!double) continue;
        roots.delete(print);
        const whose = double.trustDomain ?? "our own";
        const reason = `its root '${looks.name.replaceAll("\n", ", ")}' looks like one of ${whose}`;
        refused.push({ cluster: claim.cluster, trustDomain, reason });
      }
    }
  }
}

interface Looks {
  print: string;
  name: string;
  keyId: string | undefined;
}

function looksOf(pem: string): Looks {
  const { fingerprint256: print, subject, raw } = new X509Certificate(pem);
  // OpenSSL compares names without regard to case and the number of spaces (X509_NAME_cmp).
  const name = subject.toLowerCase().replace(/[^\S\n]+/g, " ");
  return { print, name, keyId: keyIdOf(raw) };
}

/** The same root in two trust domains is no double: whoever has its key may sign for both, and both say so. */
function alike(a: Looks, b: Looks): boolean {
  const ids = a.keyId === undefined || b.keyId === undefined || a.keyId === b.keyId;
  return a.print !== b.print && a.name === b.name && ids;
}

const order = (a: TrustClaim, b: TrustClaim) =>
  compare(a.trustDomain, b.trustDomain) ||
  compare(a.cluster, b.cluster) ||
  compare(a.certificates, b.certificates);
const compare = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);

function readRoots(claim: TrustClaim, now: number, refuse: (reason: string) => unknown): Map<string, string> {
  const roots = new Map<string, string>();
  if (claim.certificates.length > longestClaim) {
    refuse("its bundle is too long");
    return roots;
  }
  for (const pem of certificatesIn(claim.certificates)) {
    let certificate: X509Certificate;
    try {
      certificate = new X509Certificate(pem);
    } catch {
      refuse("it holds a certificate that cannot be read");
      continue;
    }
    if (!certificate.ca) refuse("it holds a certificate that may not sign");
    else if (certificate.validToDate.getTime() > now) roots.set(certificate.fingerprint256, pem);
  }
  if (roots.size > mostRoots) {
    refuse(`it has more than ${mostRoots} roots`);
    return new Map();
  }
  if (roots.size === 0) refuse("it holds no root that is valid");
  return roots;
}

/**
 * The data of the ConfigMap `istio-ca-root-cert`, which is mounted into every pod of the mesh: our own roots, by which
 * discovery is recognised, and the bundles of all trust domains.
 */
export function rootsData(
  trustDomain: string,
  bundles: Readonly<Record<string, string>>,
): Record<string, string> {
  const sorted = Object.entries(bundles).sort(([a], [b]) => compare(a, b));
  return {
    "root-cert.pem": bundles[trustDomain] ?? "",
    "trust-bundles.json": `${JSON.stringify(Object.fromEntries(sorted), undefined, 2)}\n`,
  };
}
