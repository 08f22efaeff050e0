/**
 * A workload's own identity, kept fresh by what runs beside it: the key is made here and never leaves, discovery
 * signs it for the pod's ServiceAccount, and it is renewed long before it ends. What we have stays good while
 * discovery cannot be reached. Every sidecar runs this, so it loads no more than it needs.
 */
import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Timer, World } from "../world/index.ts";
import { makeRequest } from "./csr.ts";
import { type Post, post as realPost } from "./post.ts";
import { workloadOf } from "./spiffe.ts";

export interface WorkloadCertificate {
  /** `spiffe://…`. */
  id: string;
  /** The certificate and what stands between it and its root; PEM. */
  certificatePem: string;
  /** PKCS #8. */
  keyPem: string;
  /** Roots to trust, by trust domain; PEM. */
  bundles: Readonly<Record<string, string>>;
  /** Milliseconds since the epoch. */
  notAfter: number;
}

export interface WorkloadIdentityOptions {
  world: World;
  /** Where discovery serves certificates: `https://istiod-<mesh>.<namespace>.svc:15017/certificates`. */
  url: string;
  /** The projected token with the audience `istio-ca`; read anew for every request, for the kubelet renews it. */
  tokenFile: string;
  /** `root-cert.pem` of the mounted ConfigMap `istio-ca-root-cert`; beside it may lie `trust-bundles.json`. */
  rootFile: string;
  /** Who we are to be: discovery's answer must say the same. */
  identity: { trustDomain: string; namespace: string; serviceAccount: string };
  /** Seconds that a certificate is to be valid; discovery's default unless told. */
  lifetimeSeconds?: number;
  post?: Post;
  read?: (file: string) => Promise<string>;
  log?: (line: string) => void;
}

export interface WorkloadIdentity {
  /** Resolves with the first certificate; it never rejects, for we go on trying. */
  readonly ready: Promise<WorkloadCertificate>;
  /** The last good one; undefined before the first. */
  readonly current: WorkloadCertificate | undefined;
  /** Called with every new certificate and whenever the bundles change. Returns what ends that. */
  onChange(listener: (certificate: WorkloadCertificate) => void): () => void;
  stop(): void;
}

/** Name of the file, beside the root certificate, that has the roots of every trust domain: `{"<domain>": PEM}`. */
export const bundlesFile = "trust-bundles.json";

/** Waits after failures, ms: doubled from the first to the last. */
const backoff = { first: 100, last: 30_000 };
/** How often the mounted files are looked at, ms: the kubelet swaps them, and watching links is not dependable. */
const look = 5_000;
/** The share of its life after which a certificate is renewed, spread so that a mesh does not come all at once. */
const renewal = { least: 0.5, spread: 1 / 6 };

/** Starts at once. */
export function startWorkloadIdentity(options: WorkloadIdentityOptions): WorkloadIdentity {
  const { world, log = () => {}, post = realPost } = options;
  const read = options.read ?? ((file: string) => readFile(file, "utf8"));
  const { trustDomain } = options.identity;
  const listeners = new Set<(certificate: WorkloadCertificate) => void>();
  const { promise: ready, resolve } = Promise.withResolvers<WorkloadCertificate>();
  let current: WorkloadCertificate | undefined;
  let bundles: Record<string, string> = {};
  let mounted = "";
  let root = "";
  let failures = 0;
  let stopped = false;
  let renewing: Timer | undefined;
  let looking: Timer | undefined;

  const publish = (certificate: WorkloadCertificate) => {
    current = certificate;
    resolve(certificate);
    for (const listener of listeners) listener(certificate);
  };

  /** Takes up what is mounted, when it is not what was mounted before. What cannot be read changes nothing. */
  const readBundles = async () => {
    root = await read(options.rootFile);
    const other = await read(join(dirname(options.rootFile), bundlesFile)).catch(() => "");
    if (`${root}${other}` === mounted) return;
    mounted = `${root}${other}`;
    try {
      const known = other === "" ? {} : (JSON.parse(other) as Record<string, string>);
      bundles = { ...known, [trustDomain]: known[trustDomain] ?? root };
      if (current) publish({ ...current, bundles });
    } catch (error) {
      log(`${bundlesFile} cannot be read: ${reasonOf(error)}`);
    }
  };

  const renew = async () => {
    try {
      await readBundles();
      const token = (await read(options.tokenFile)).trim();
      const { keyPem, csrPem } = makeRequest();
      const { lifetimeSeconds } = options;
      const answer = await post(options.url, {
        // While roots change, the server's may be the one that only the other bundle has.
        ca: `${root}\n${bundles[trustDomain] ?? ""}`,
        token,
        body: { csr: csrPem, ...(lifetimeSeconds && { lifetimeSeconds }) },
      });
      if (stopped) return;
      const { certificateChain, trustBundles, notAfter } = checked(answer, options.identity);
      bundles = trustBundles;
      failures = 0;
      const leaf = new X509Certificate(certificateChain);
      const [from, to] = [leaf.validFromDate.getTime(), Date.parse(notAfter)];
      const life = to - Math.max(from, Math.min(world.now(), to));
      again(life * (renewal.least + renewal.spread * world.random()));
      const { trustDomain: domain, namespace, serviceAccount } = options.identity;
      const id = `spiffe://${domain}/ns/${namespace}/sa/${serviceAccount}`;
      publish({ id, certificatePem: certificateChain, keyPem, bundles, notAfter: to });
    } catch (error) {
      if (stopped) return;
      const wait = Math.min(backoff.first * 2 ** failures++, backoff.last) * (0.75 + 0.5 * world.random());
      const until = current
        ? `; the one we have is valid until ${new Date(current.notAfter).toISOString()}`
        : "";
      log(`no certificate from ${options.url}: ${reasonOf(error)}${until}; trying again`);
      again(wait);
    }
  };
  const again = (delay: number) => {
    renewing?.cancel();
    if (!stopped) renewing = world.after(delay, () => void renew());
  };
  const lookAgain = () => {
    looking = world.after(look, () => {
      const next = () => {
        if (!stopped) lookAgain();
      };
      // A file that is not there is said by the next renewal, which needs it.
      readBundles().then(next, next);
    });
  };
  void renew();
  lookAgain();

  return {
    ready,
    get current() {
      return current;
    },
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    stop() {
      stopped = true;
      renewing?.cancel();
      looking?.cancel();
      listeners.clear();
    },
  };
}

interface Issued {
  certificateChain: string;
  trustBundles: Record<string, string>;
  notAfter: string;
}

/** What discovery answered, when it is a certificate for who we are; throws otherwise. */
function checked(
  { status, body }: { status: number; body: string },
  identity: WorkloadIdentityOptions["identity"],
): Issued {
  const answer = parsed(body);
  if (status !== 200) {
    throw new Error(`discovery answered ${status}: ${String(answer.error ?? body.slice(0, 200))}`);
  }
  const { certificateChain, trustBundles, notAfter } = answer as Partial<Issued>;
  if (!certificateChain || !trustBundles || !notAfter) throw new Error("discovery's answer is not complete");
  const whose = workloadOf(new X509Certificate(certificateChain));
  const same = (["trustDomain", "namespace", "serviceAccount"] as const).every(
    (part) => whose?.[part] === identity[part],
  );
  if (!same) {
    const got = whose ? `${whose.trustDomain}/${whose.namespace}/${whose.serviceAccount}` : "nobody";
    const { trustDomain, namespace, serviceAccount } = identity;
    throw new Error(`the certificate is for ${got}, not for ${trustDomain}/${namespace}/${serviceAccount}`);
  }
  return { certificateChain, trustBundles, notAfter };
}

function parsed(body: string): Record<string, unknown> {
  try {
    return JSON.parse(body) as Record<string, unknown>;
  } catch {
    return {};
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
