/**
 * A mesh's certificate authority. Its state is the Secret `weft-ca-secret` in the mesh's namespace, which all
 * replicas of discovery watch and any of them moves on (the next state is a function of the state and the time, and
 * a write is refused when another was faster). The Secret `cacerts`, where people plug in an authority of their
 * own as with Istio, is what the state moves towards. Module doors: `index.ts` loads this when it is asked for.
 */
import { generateKeyPairSync, X509Certificate } from "node:crypto";
import { nameOf, type Secret, secrets, WeftError } from "../api/index.ts";
import { isAlreadyExists, isConflict, isNotFound, type KubeClient, reflect } from "../kube/index.ts";
import type { Timer, World } from "../world/index.ts";
import { anchorOf, type Ca, type Entries, endOf, readCa } from "./ca.ts";
import { bundle } from "./pem.ts";
import { RequestRefused } from "./refused.ts";
import {
  advance,
  type CaState,
  firstState,
  needsSuccessor,
  nextDeadline,
  type Pace,
  readState,
  rootsOf,
  usualPace,
  writeState,
} from "./rotation.ts";
import { parseSpiffeId, spiffeId, type WorkloadId } from "./spiffe.ts";
import { issue, makeRoot, openSigner, readRequest, type Signer, skew } from "./x509.ts";

/** The Secret that holds the authority's state. */
export const stateSecret = "weft-ca-secret";
/** The Secret in which people plug in an authority of their own (Istio's name for it). */
export const plugInSecret = "cacerts";

const hour = 3600_000;
/** How long a workload's certificate is valid, ms (Istio: `SECRET_TTL`, 24 h). */
const defaultLifetime = 24 * hour;
const shortestLifetime = 60_000;
/** Timers are not set for longer than this: the clock may be put right meanwhile. */
const longestWait = hour;
const retry = 5_000;

export interface AuthorityOptions {
  client: KubeClient;
  world: World;
  /** The mesh's namespace. */
  namespace: string;
  trustDomain: string;
  pace?: Pace;
  /** Whether this replica may write the Secret; yes unless told. */
  mayWrite?: () => boolean;
  /** What goes on (`error` when it should be seen to): a rotation's steps, a plug-in that cannot be used. */
  log?: (line: string, error?: unknown) => void;
  signal?: AbortSignal;
}

export interface SignedCertificate {
  /** The workload's certificate and what stands between it and the root; PEM. */
  certificateChain: string;
  /** Milliseconds since the epoch. */
  notAfter: number;
  /** `spiffe://…`. */
  id: string;
}

/** What a TLS server needs, for `createSecureContext` or `server.setSecureContext`; PEM. */
export interface ServerTls {
  cert: string;
  key: string;
  /** Whose clients to believe: the trust domain's own roots. */
  ca: string;
}

export interface ServerIdentity {
  readonly current: ServerTls;
  /** Called when the certificate was renewed or the roots have changed. */
  onChange(listener: (tls: ServerTls) => void): void;
  stop(): void;
}

/** Opens the mesh's authority; makes it when there is none yet. Throws CA_INVALID when what is there cannot sign. */
export async function openAuthority(options: AuthorityOptions): Promise<Authority> {
  const authority = new Authority(options);
  await authority.open();
  return authority;
}

export class Authority {
  readonly trustDomain: string;
  readonly #options: AuthorityOptions;
  readonly #world: World;
  readonly #pace: Pace;
  readonly #ended = new AbortController();
  readonly #listeners = new Set<() => void>();
  /** Whose key it was when it was last signed: a key is one workload's. */
  readonly #keys = new Map<string, string>();
  #state!: CaState;
  #signer!: Signer;
  #version: string | undefined;
  #plugIn: Ca | undefined;
  #timer: Timer | undefined;
  #busy: Promise<void> = Promise.resolve();

  constructor(options: AuthorityOptions) {
    this.#options = options;
    this.#world = options.world;
    this.#pace = options.pace ?? usualPace;
    this.trustDomain = options.trustDomain;
    options.signal?.addEventListener("abort", () => this.stop(), { once: true });
  }

  /** The roots to trust, by trust domain: our own; PEM. Peers' come from their offers (`acceptedBundles`). */
  get bundles(): Readonly<Record<string, string>> {
    return { [this.trustDomain]: this.roots };
  }

  /** Our own trust domain's roots; PEM. */
  get roots(): string {
    return rootsOf(this.#state);
  }

  /** For people: who signs, and where a rotation stands. */
  get status(): { signer: string; signerEnds: number; next: string | undefined; retiring: number } {
    const { active, next, trusted } = this.#state;
    return {
      signer: fingerprintOf(active),
      signerEnds: endOf(active),
      next: next && fingerprintOf(next),
      retiring: trusted.filter(({ until }) => until !== undefined).length,
    };
  }

  /** Called when the roots or the signer have changed. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Signs the key of a request for a workload, whatever names the request has. Throws RequestRefused, in words for
   * the sender. `lifetime` ms, at most the default's, and never longer than the authority's own certificate.
   */
  async sign(
    csrPem: string,
    workload: Omit<WorkloadId, "trustDomain">,
    lifetime = defaultLifetime,
  ): Promise<SignedCertificate> {
    const publicKey = await readRequest(csrPem);
    const id = spiffeId({ trustDomain: this.trustDomain, ...workload });
    this.#claim(publicKey.toString("base64"), id);
    const names = [{ type: "url" as const, value: id }];
    return { ...(await this.#issue(publicKey, names, ["server", "client"], lifetime)), id };
  }

  /**
   * A certificate for our own servers (xDS, webhook), kept fresh: renewed at half its life, and when another root
   * signs. `names` are DNS names.
   */
  async serverIdentity(names: readonly string[]): Promise<ServerIdentity> {
    const listeners = new Set<(tls: ServerTls) => void>();
    let timer: Timer | undefined;
    let stopped = false;
    let signer: Signer | undefined;
    let current: ServerTls;
    const renew = async () => {
      timer?.cancel();
      signer = this.#signer;
      const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
      const { certificateChain, notAfter } = await this.#issue(
        publicKey.export({ type: "spki", format: "der" }),
        names.map((value) => ({ type: "dns" as const, value })),
        ["server"],
        defaultLifetime,
      );
      const key = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
      current = { cert: certificateChain, key, ca: this.roots };
      schedule((notAfter - this.#world.now()) / 2);
      for (const listener of listeners) listener(current);
    };
    const schedule = (delay: number) => {
      if (stopped) return;
      timer = this.#world.after(Math.min(delay, 12 * hour), () => void again());
    };
    const again = () =>
      renew().catch((error: unknown) => {
        this.#log("discovery's own certificate could not be renewed", error);
        schedule(retry);
      });
    await renew();
    const forget = this.onChange(() => {
      if (signer !== this.#signer) return void again();
      current = { ...current, ca: this.roots };
      for (const listener of listeners) listener(current);
    });
    const stop = () => {
      stopped = true;
      timer?.cancel();
      forget();
    };
    this.#ended.signal.addEventListener("abort", stop, { once: true });
    return {
      get current() {
        return current;
      },
      onChange: (listener) => void listeners.add(listener),
      stop,
    };
  }

  stop(): void {
    this.#ended.abort();
    this.#timer?.cancel();
    this.#listeners.clear();
  }

  /** Resolves when what was heard up to now has had its effect. For tests. */
  get idle(): Promise<void> {
    return this.#busy;
  }

  // ------------------------------------------------------------------------------------------ its state

  async open(): Promise<void> {
    const { client, namespace } = this.#options;
    const plugged = await client.get(secrets, { namespace, name: plugInSecret });
    let secret = await client.get(secrets, { namespace, name: stateSecret });
    try {
      this.#plugIn = plugged && this.#read(plugged, (entries) => readCa(entries, this.#world.now()));
    } catch (error) {
      // With a bad plug-in the authority that is there goes on; without one, none is made behind people's backs.
      if (!secret) throw error;
      this.#log("the plugged-in authority is not used", error);
    }
    secret ??= await this.#create(firstState(this.#plugIn ?? (await this.#ownRoot())));
    await this.#adopt(secret);
    await this.#moveOn();
    const target = (name: string, heard: (secret: Secret | undefined) => Promise<void>) => ({
      replace: (found: Secret[]) =>
        this.#inTurn(() => heard(found.find((each) => each.metadata.name === name))),
      put: (found: Secret) => this.#inTurn(() => heard(found)),
      remove: () => this.#inTurn(() => heard(undefined)),
    });
    const watch = (name: string, heard: (secret: Secret | undefined) => Promise<void>) =>
      reflect(client, secrets, target(name, heard), {
        namespace,
        fieldSelector: `metadata.name=${name}`,
        signal: this.#ended.signal,
      });
    watch(stateSecret, (secret) => this.#heardState(secret));
    watch(plugInSecret, (secret) => this.#heardPlugIn(secret));
  }

  /** One thing after the other; what fails is said and harms nothing that stands. */
  #inTurn(run: () => Promise<void>): void {
    this.#busy = this.#busy.then(run).catch((error: unknown) => {
      if (!this.#ended.signal.aborted) this.#log("the authority's Secret could not be followed", error);
    });
  }

  async #heardState(secret: Secret | undefined): Promise<void> {
    if (this.#ended.signal.aborted) return;
    if (!secret) {
      // Deleted: it comes back as it was (law 10). A new root would cut everybody off from everybody.
      if (this.#mayWrite) await this.#adopt(await this.#create(this.#state));
      return;
    }
    if (secret.metadata.resourceVersion === this.#version) return;
    await this.#adopt(secret);
    await this.#moveOn();
  }

  async #heardPlugIn(secret: Secret | undefined): Promise<void> {
    // Taken away: who signs now goes on, for nobody said who else should.
    if (this.#ended.signal.aborted || !secret) return;
    this.#plugIn = this.#read(secret, (entries) => readCa(entries, this.#world.now()));
    await this.#moveOn();
  }

  /** Takes over what the Secret says; throws when it says nonsense, and what we had stays. */
  async #adopt(secret: Secret): Promise<void> {
    const state = this.#read(secret, readState);
    const [before, roots] = [this.#signer?.certificate.toString("pem"), this.#state && this.roots];
    const signer = await openSigner(state.active.certificate, state.active.key);
    this.#state = state;
    this.#version = secret.metadata.resourceVersion;
    this.#schedule();
    const sameSigner = signer.certificate.toString("pem") === before;
    if (!sameSigner) this.#signer = signer;
    if (sameSigner && roots === this.roots) return;
    if (before !== undefined) this.#log(`certificate authority: ${inWords(state)}`);
    for (const listener of this.#listeners) listener();
  }

  /** Writes the next state, when it is due. */
  async #moveOn(): Promise<void> {
    this.#schedule();
    if (!this.#mayWrite) return;
    const now = this.#world.now();
    let after = advance(this.#state, now, this.#plugIn, this.#pace);
    if (!this.#plugIn && needsSuccessor(after, now)) {
      after = advance(after, now, await this.#ownRoot(), this.#pace);
    }
    if (after === this.#state) return;
    const { client, namespace } = this.#options;
    try {
      const secret = await client.replace(secrets, {
        ...this.#draft(after),
        metadata: { namespace, name: stateSecret, ...(this.#version && { resourceVersion: this.#version }) },
      });
      await this.#adopt(secret);
    } catch (error) {
      // Somebody was faster: what they wrote is on its way to us.
      if (!isConflict(error) && !isNotFound(error)) {
        this.#schedule(retry);
        throw error;
      }
    }
  }

  #schedule(soon?: number): void {
    this.#timer?.cancel();
    if (this.#ended.signal.aborted) return;
    const due = nextDeadline(this.#state, this.#pace) - this.#world.now();
    const delay = soon ?? Math.min(Math.max(due, retry), longestWait);
    this.#timer = this.#world.after(delay, () => this.#inTurn(() => this.#moveOn()));
  }

  async #create(state: CaState): Promise<Secret> {
    const { client, namespace } = this.#options;
    try {
      return await client.create(secrets, this.#draft(state));
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
      // Another replica made one in the same moment: that is the mesh's.
      const made = await client.get(secrets, { namespace, name: stateSecret });
      if (made) return made;
      throw error;
    }
  }

  #draft(state: CaState) {
    const { namespace } = this.#options;
    const data = Object.fromEntries(
      Object.entries(writeState(state)).map(([name, text]) => [name, Buffer.from(text).toString("base64")]),
    );
    return { metadata: { namespace, name: stateSecret }, type: "weft.dev/ca", data };
  }

  async #ownRoot(): Promise<Ca> {
    const { certificate, key } = await makeRoot(this.#world, this.trustDomain);
    return { certificate: bundle(certificate), key, chain: "", roots: bundle(certificate) };
  }

  #read<T>(secret: Secret, read: (entries: Entries) => T): T {
    try {
      const data = Object.entries(secret.data ?? {});
      return read(Object.fromEntries(data.map(([k, v]) => [k, Buffer.from(v, "base64").toString("utf8")])));
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new WeftError("CA_INVALID", { secret: nameOf(secret), reason }, error);
    }
  }

  get #mayWrite(): boolean {
    return this.#options.mayWrite?.() ?? true;
  }

  #log(line: string, error?: unknown): void {
    this.#options.log?.(line, error);
  }

  // -------------------------------------------------------------------------------------------- signing

  async #issue(
    publicKey: Uint8Array,
    names: readonly { type: "url" | "dns"; value: string }[],
    usages: readonly ("server" | "client")[],
    lifetime: number,
  ): Promise<{ certificateChain: string; notAfter: number }> {
    const { active } = this.#state;
    const now = this.#world.now();
    const wanted = Math.min(Math.max(lifetime, shortestLifetime), defaultLifetime);
    const notAfter = Math.floor(Math.min(now + wanted, endOf(active)) / 1000) * 1000;
    if (notAfter <= now)
      throw new Error(`the authority's certificate ended at ${new Date(endOf(active)).toISOString()}`);
    const leaf = { publicKey, names, usages, notBefore: now - skew, notAfter };
    const certificate = await issue(this.#world, this.#signer, leaf);
    return { certificateChain: `${certificate.trimEnd()}\n${active.chain}`, notAfter };
  }

  /** A key that was signed for one workload is refused to another: somebody has got hold of a request. */
  #claim(key: string, id: string): void {
    const owner = this.#keys.get(key);
    if (owner !== undefined && owner !== id) {
      const who = parseSpiffeId(owner)!;
      throw new RequestRefused(
        `its key belongs to ${who.namespace}/${who.serviceAccount} already; make a new one`,
      );
    }
    this.#keys.delete(key);
    this.#keys.set(key, id);
    if (this.#keys.size > rememberedKeys) this.#keys.delete(this.#keys.keys().next().value!);
  }
}

const rememberedKeys = 10_000;

function inWords({ active, next, trusted }: CaState): string {
  const signs = `${fingerprintOf(active)} signs`;
  const comes = next ? `, ${fingerprintOf(next)} is being made known` : "";
  const goes = trusted.filter(({ until }) => until !== undefined).length;
  return `${signs}${comes}${goes > 0 ? `, ${goes} retiring` : ""}`;
}

/** The first bytes of the root's SHA-256: enough to tell roots apart. */
function fingerprintOf(ca: Ca): string {
  return new X509Certificate(anchorOf(ca)).fingerprint256.slice(0, 23);
}
