/**
 * A peer's token is good for a while only: after a third of its life we ask the peer for a new one (which is all
 * that our ServiceAccount there may create, law 11) and write it into our own Secret. From there it is taken up
 * like any changed Secret: the new connection stands before the old one goes.
 */
import { pathOf, type Secret, secrets, serviceAccounts, splitName } from "../api/index.ts";
import { claimsOf, type KubeClient, yaml } from "../kube/index.ts";
import type { Timer } from "../world/index.ts";
import type { PeerSpec } from "./secret.ts";

/** What a ServiceAccount's token (a JWT) says of itself; times are seconds since the epoch. */
export interface TokenLife {
  namespace: string;
  account: string;
  issuedAt: number;
  expiresAt: number;
}

/** Undefined for tokens that are no ServiceAccount's, or that do not expire: nothing to renew. */
export function lifeOf(token: string): TokenLife | undefined {
  const { sub, iat: issuedAt, exp: expiresAt } = claimsOf(token) ?? {};
  const [, , namespace, account] = /^(system:serviceaccount):([^:]+):([^:]+)$/.exec(String(sub)) ?? [];
  if (!namespace || !account || typeof issuedAt !== "number" || typeof expiresAt !== "number") {
    return undefined;
  }
  return { namespace, account, issuedAt, expiresAt };
}

/** Milliseconds until a failed renewal is tried again, and the longest that a timer is set for. */
const retry = 60_000;
const longest = 24 * 3600_000;

export interface RenewalOptions {
  spec: PeerSpec;
  token: string;
  /** Of our own cluster, where the Secret is. */
  own: KubeClient;
  /** Of the peer, with the token that is to be renewed. */
  peer: KubeClient;
  /** Whether it is for us to renew, and not for another control plane of this cluster; yes unless told. */
  mayRenew?: () => boolean;
  onError: (error: unknown) => void;
}

/** Waits for the token's time; returns what ends it, or undefined when there is nothing to renew. */
export function renewInTime(options: RenewalOptions): (() => void) | undefined {
  const life = lifeOf(options.token);
  if (!life || !options.spec.secret) return undefined;
  const { world } = options.own;
  const due = (life.issuedAt + (life.expiresAt - life.issuedAt) / 3) * 1000;
  let timer: Timer | undefined;
  let ended = false;
  const wait = (delay: number) => {
    timer = world.after(Math.min(Math.max(delay, 0), longest), () => void look());
  };
  const look = async () => {
    if (world.now() < due) return wait(due - world.now());
    if (options.mayRenew && !options.mayRenew()) return wait(retry);
    try {
      await renew(options, life);
    } catch (error) {
      if (ended) return;
      options.onError(error);
      wait(retry);
    }
  };
  wait(due - world.now());
  return () => {
    ended = true;
    timer?.cancel();
  };
}

async function renew({ spec, token, own, peer }: RenewalOptions, life: TokenLife): Promise<void> {
  const answer = await peer.json<{ status?: { token?: string } }>(
    "POST",
    pathOf(serviceAccounts, life.namespace, life.account, "token"),
    {
      body: {
        apiVersion: "authentication.k8s.io/v1",
        kind: "TokenRequest",
        spec: { expirationSeconds: life.expiresAt - life.issuedAt },
      },
    },
  );
  const renewed = answer.status?.token;
  if (!renewed) throw new Error(`${spec.cluster} answered a TokenRequest without a token`);
  const secret = await own.get(secrets, spec.secret);
  const data = secret && withToken(secret, token, renewed);
  if (!data) return; // the Secret has changed meanwhile: what it holds now has its own renewal
  const { namespace, name } = splitName(spec.secret);
  const metadata = { resourceVersion: secret.metadata.resourceVersion };
  await own.patch(
    secrets,
    { ...(namespace && { namespace }), name },
    { metadata, data },
    { manager: "weft-tokens" },
  );
}

/** The Secret's entries that hold the old token in a kubeconfig, with the new one; undefined when none does. */
function withToken(secret: Secret, old: string, renewed: string): Record<string, string> | undefined {
  const changed = Object.entries(secret.data ?? {}).flatMap(([key, data]) => {
    const kubeconfig = yaml().parse(Buffer.from(data, "base64").toString("utf8")) as {
      users?: { user?: { token?: string } }[];
    } | null;
    const users = (kubeconfig?.users ?? []).filter(({ user }) => user?.token === old);
    for (const { user } of users) if (user) user.token = renewed;
    // JSON is YAML.
    const text = JSON.stringify(kubeconfig);
    return users.length > 0 ? [[key, Buffer.from(text).toString("base64")] as const] : [];
  });
  return changed.length > 0 ? Object.fromEntries(changed) : undefined;
}
