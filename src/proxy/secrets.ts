/**
 * Secrets: certificates with keys, and what to trust. Our own identity (`default`) and the mesh's trust (`ROOTCA`)
 * come from the agent in this process, all others by SDS over ADS.
 */
import { Secret } from "#protocols/envoy/extensions/transport_sockets/tls/v3/secret.ts";
import type { AdsClient, Apply } from "./ads.ts";
import { typeUrls } from "./ads.ts";
import { messageOf } from "./values.ts";

/** Who we are, as the agent keeps it (identity/'s WorkloadIdentity is one). */
export interface ProxyIdentity {
  /** Undefined until the first certificate is signed. */
  readonly current: IdentityMaterial | undefined;
  /** Called after `current` changed; returns how to stop. */
  onChange(call: () => void): () => void;
}

export interface IdentityMaterial {
  /** Our own first, then what stands between it and its root. */
  certificatePem: string;
  keyPem: string;
  /** Roots by trust domain, PEM: a peer's chain must end in a root of the domain that its SPIFFE id names. */
  bundles: Readonly<Record<string, string>>;
}

/** What a secret says. */
export type SecretValue =
  | { kind: "message"; secret: Secret }
  | { kind: "certificate"; certificatePem: string; keyPem: string }
  | { kind: "bundles"; bundles: Readonly<Record<string, string>> };

export interface SecretHandle {
  readonly name: string;
  readonly current: SecretValue | undefined;
  /** Discovery has said what it is, or that there is none: there is nothing to wait for. */
  readonly answered: boolean;
  subscribe(changed: () => void): () => void;
}

class Entry implements SecretHandle {
  readonly name: string;
  current: SecretValue | undefined;
  answered = false;
  readonly watchers = new Set<() => void>();
  readonly #onFirst: () => void;
  readonly #onLast: () => void;
  constructor(name: string, onFirst: () => void, onLast: () => void) {
    this.name = name;
    this.#onFirst = onFirst;
    this.#onLast = onLast;
  }
  subscribe(changed: () => void): () => void {
    if (this.watchers.size === 0) this.#onFirst();
    this.watchers.add(changed);
    return () => {
      if (this.watchers.delete(changed) && this.watchers.size === 0) this.#onLast();
    };
  }
  answer(value: SecretValue | undefined): void {
    this.answered = true;
    this.set(value);
  }
  set(value: SecretValue | undefined): void {
    this.current = value;
    for (const watcher of [...this.watchers]) watcher();
  }
}

const own = "default";
const trust = "ROOTCA";

export class Secrets {
  readonly #entries = new Map<string, Entry>();
  readonly #ads: AdsClient | undefined;
  readonly #identity: ProxyIdentity | undefined;
  readonly #stop: (() => void) | undefined;

  constructor(options: { ads?: AdsClient; identity?: ProxyIdentity; fixed?: readonly Secret[] }) {
    this.#ads = options.ads;
    this.#identity = options.identity;
    this.#ads?.serve(typeUrls.secret, this.#apply);
    this.#stop = options.identity?.onChange(() => this.#takeIdentity());
    this.#takeIdentity();
    for (const secret of options.fixed ?? []) this.#local(secret.name).set({ kind: "message", secret });
  }

  /** The same object for the same name. It is asked for while somebody subscribes. */
  get(name: string): SecretHandle {
    const known = this.#entries.get(name);
    if (known) return known;
    const entry = new Entry(
      name,
      () => this.#ads?.subscribe(typeUrls.secret, name),
      () => {
        this.#ads?.unsubscribe(typeUrls.secret, name);
        this.#entries.delete(name);
      },
    );
    this.#entries.set(name, entry);
    return entry;
  }

  /** For /certs and /config_dump: names with whether they are here. */
  list(): readonly SecretHandle[] {
    return [...this.#entries.values()];
  }

  stop(): void {
    this.#stop?.();
  }

  #local(name: string): Entry {
    let entry = this.#entries.get(name);
    if (!entry) {
      entry = new Entry(
        name,
        () => undefined,
        () => undefined,
      );
      this.#entries.set(name, entry);
    }
    return entry;
  }

  #takeIdentity(): void {
    if (!this.#identity) return;
    const material = this.#identity.current;
    this.#local(own).set(material && { kind: "certificate", ...material });
    this.#local(trust).set(material && { kind: "bundles", bundles: material.bundles });
  }

  readonly #apply: Apply = (changed, removed) => {
    const rejections: { name: string; reason: string }[] = [];
    for (const { name, bytes } of changed) {
      try {
        this.#entries.get(name)?.answer({ kind: "message", secret: Secret.decode(bytes) });
      } catch (error) {
        rejections.push({ name, reason: messageOf(error) });
      }
    }
    for (const name of removed) this.#entries.get(name)?.answer(undefined);
    return rejections;
  };
}
