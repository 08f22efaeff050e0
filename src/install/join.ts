/**
 * `weft join` and `weft leave`. Joining gives every cluster a credential for every other one: a ServiceAccount
 * there that may read offers and nothing else (law 11), and here a Secret with a kubeconfig for it. These are
 * the only writes that touch two clusters, and they are a person's, with that person's credentials (law 1).
 */
import {
  clusterRoleBindings,
  configMaps,
  pathOf,
  peerLabel,
  roleBindings,
  roles,
  type Secret,
  secrets,
  serviceAccounts,
  systemNamespace,
  WeftError,
} from "../api/index.ts";
import type { KubeClient } from "../kube/index.ts";
import { apply } from "./apply.ts";
import { credentialsIn, expiryOf } from "./credentials.ts";
import { clusterName } from "./install.ts";
import { clusterRoleBinding, installManager, labels, peerRole, role, roleBinding } from "./manifests.ts";

/** A cluster that is to join, as a person reaches it. */
export interface Joiner {
  client: KubeClient;
  /** How its peers reach its API server, e.g. `https://172.18.0.1:6443`. */
  server: string;
  /** PEM of the CA of its API server; undefined where public CAs sign it. */
  ca: string | undefined;
}

/**
 * How long a peer's token is good for, in seconds: a week. API servers may shorten it. Peers renew their own after a
 * third of it (`clusterset/renewal.ts`), so a cluster may be out of reach for more than four days and needs no person.
 */
const tokenLifetime = 7 * 24 * 3600;

const accountOf = (peer: string) => `weft-peer-${peer}`;

export interface Joined {
  names: string[];
  /** What `reader` called one of the others (`name`) before that has another name now: forgotten. */
  forgotten: { reader: string; before: string; name: string }[];
}

/**
 * Lets every one of the clusters read the offers of every other. Joining again renews credentials, and a cluster that was
 * renamed without leaving is no peer under its former name any more.
 */
export async function joinClusters(joiners: readonly Joiner[], signal?: AbortSignal): Promise<Joined> {
  const members = await Promise.all(
    joiners.map(async (joiner) => {
      const name = await clusterName(joiner.client, signal);
      if (name === undefined) throw new WeftError("NOT_INSTALLED", { cluster: joiner.client.cluster });
      return { ...joiner, name };
    }),
  );
  const names = members.map((member) => member.name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw new WeftError("CLUSTER_TWICE", { cluster: twice });
  const pairs = members.flatMap((reader) =>
    members.filter((offerer) => offerer !== reader).map((offerer) => ({ reader, offerer })),
  );
  await Promise.all(
    pairs.map(async ({ reader, offerer }) => {
      const token = await admit(offerer.client, reader.name, signal);
      await introduce(reader.client, offerer, token, signal);
    }),
  );
  const forgotten = await Promise.all(
    pairs.map(async ({ reader, offerer }) => {
      const former = await formerNames(reader.client, offerer, signal);
      await Promise.all(former.map((name) => forgetPeer(reader.client, name, signal)));
      return former.map((before) => ({ reader: reader.name, before, name: offerer.name }));
    }),
  );
  return { names, forgotten: forgotten.flat() };
}

/**
 * The same for credentials that have expired, and for no others: of clusters that were switched off for longer than their
 * peers' tokens are good, as a lab that was kept.
 */
export async function renewExpired(joiners: readonly (Joiner & { name: string })[]): Promise<void> {
  await Promise.all(
    joiners.flatMap((reader) =>
      joiners.map(async (offerer) => {
        const ref = { namespace: systemNamespace, name: accountOf(offerer.name) };
        const secret = await reader.client.get(secrets, ref);
        if (!secret || !isExpired(secret, reader.client.world.now())) return;
        const token = await admit(offerer.client, reader.name, undefined);
        await introduce(reader.client, offerer, token, undefined);
      }),
    ),
  );
}

function isExpired(secret: Secret, now: number): boolean {
  try {
    return (expiryOf(credentialsIn(secret))?.to ?? Number.POSITIVE_INFINITY) <= now;
  } catch {
    return false; // what cannot be read is a person's to mend
  }
}

/** By which other names a cluster knows this peer: from credentials for the same API server. */
async function formerNames(
  reader: KubeClient,
  { name, server, ca }: { name: string; server: string; ca: string | undefined },
  signal: AbortSignal | undefined,
): Promise<string[]> {
  const selection = { namespace: systemNamespace, labelSelector: peerLabel, ...(signal && { signal }) };
  return (await reader.list(secrets, selection)).items.flatMap((secret) => {
    const other = secret.metadata.labels![peerLabel]!;
    if (other === name || secret.metadata.name !== accountOf(other)) return [];
    try {
      const known = credentialsIn(secret);
      return known.server === server && String(known.ca ?? "") === (ca ?? "") ? [other] : [];
    } catch {
      return []; // written by hand, and of no use: `weft check` says so
    }
  });
}

/** In the offering cluster: who the peer is, what it may do, and a token for it. */
async function admit(client: KubeClient, peer: string, signal: AbortSignal | undefined): Promise<string> {
  const account = accountOf(peer);
  const metadata = { name: account, namespace: systemNamespace, labels };
  await apply(
    client,
    { resource: serviceAccounts, object: { apiVersion: "v1", kind: "ServiceAccount", metadata } },
    signal,
  );
  const renew = role(account, [
    {
      apiGroups: [""],
      resources: ["serviceaccounts/token"],
      resourceNames: [account],
      verbs: ["create"],
    },
  ]);
  const [token] = await Promise.all([
    requestToken(client, account, signal),
    apply(client, { resource: roles, object: renew }, signal),
    apply(client, { resource: roleBindings, object: roleBinding(account, account, account) }, signal),
    apply(
      client,
      { resource: roleBindings, object: roleBinding(`${account}-lease`, peerRole, account) },
      signal,
    ),
    apply(
      client,
      { resource: clusterRoleBindings, object: clusterRoleBinding(account, peerRole, account) },
      signal,
    ),
  ]);
  return token;
}

/** TokenRequest (authentication.k8s.io/v1) for the API server's own audience. */
async function requestToken(
  client: KubeClient,
  account: string,
  signal: AbortSignal | undefined,
): Promise<string> {
  const answer = await client.json<{ status?: { token?: string } }>(
    "POST",
    pathOf(serviceAccounts, systemNamespace, account, "token"),
    {
      body: {
        apiVersion: "authentication.k8s.io/v1",
        kind: "TokenRequest",
        spec: { expirationSeconds: tokenLifetime },
      },
      ...(signal && { signal }),
    },
  );
  if (!answer.status?.token) throw new Error(`${client.cluster} answered a TokenRequest without a token`);
  return answer.status.token;
}

/** In the reading cluster: the Secret that its control plane finds the peer by. */
async function introduce(
  client: KubeClient,
  peer: { name: string; server: string; ca: string | undefined },
  token: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { name, server, ca } = peer;
  const cluster = { server, ...(ca && { "certificate-authority-data": base64(ca) }) };
  const kubeconfig = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name, cluster }],
    users: [{ name, user: { token } }],
    contexts: [{ name, context: { cluster: name, user: name } }],
    "current-context": name,
  };
  await client.apply(
    secrets,
    {
      metadata: {
        name: accountOf(name),
        namespace: systemNamespace,
        labels: { ...labels, [peerLabel]: name },
      },
      type: "Opaque",
      // JSON is YAML.
      data: { kubeconfig: base64(JSON.stringify(kubeconfig)) },
    },
    { manager: installManager, force: true, ...(signal && { signal }) },
  );
}

/** The peers that a cluster has credentials for. */
export async function peersOf(client: KubeClient, signal?: AbortSignal): Promise<string[]> {
  const { items } = await client.list(secrets, {
    namespace: systemNamespace,
    labelSelector: peerLabel,
    ...(signal && { signal }),
  });
  return items.map((secret) => secret.metadata.labels![peerLabel]!).sort();
}

/** Takes away what joining with `peer` wrote in this cluster: its rights here, and our credential for it. */
async function forgetPeer(client: KubeClient, peer: string, signal?: AbortSignal): Promise<void> {
  const account = accountOf(peer);
  const ref = { namespace: systemNamespace, name: account };
  const options = signal ? { signal } : {};
  await Promise.all([
    client.delete(secrets, ref, options),
    client.delete(serviceAccounts, ref, options),
    client.delete(roleBindings, ref, options),
    client.delete(roleBindings, { ...ref, name: `${account}-lease` }, options),
    client.delete(roles, ref, options),
    client.delete(clusterRoleBindings, account, options),
  ]);
}

/** `leaver` forgets all its peers, and the clusters of `others` forget it. Gives the leaver's name. */
export async function leaveClusters(
  leaver: KubeClient,
  others: readonly KubeClient[],
  signal?: AbortSignal,
): Promise<string> {
  const name = await clusterName(leaver, signal);
  if (name === undefined) throw new WeftError("NOT_INSTALLED", { cluster: leaver.cluster });
  const peers = await peersOf(leaver, signal);
  await Promise.all([
    ...peers.map((peer) => forgetPeer(leaver, peer, signal)),
    ...others.map((other) => forgetPeer(other, name, signal)),
  ]);
  return name;
}

/**
 * How peers reach a cluster's API server. A kubeconfig that names this machine (127.0.0.1: the lab, kind) is
 * of no use to them; then `kube-public/cluster-info` is asked, where kubeadm and the lab publish the address.
 */
export async function serverForPeers(
  client: KubeClient,
  known: string,
  signal?: AbortSignal,
): Promise<string> {
  if (!isLoopback(new URL(known).hostname)) return known;
  const info = await client.get(
    configMaps,
    { namespace: "kube-public", name: "cluster-info" },
    signal ? { signal } : {},
  );
  const server = /^\s*server:\s*(\S+)\s*$/m.exec(info?.data?.kubeconfig ?? "")?.[1];
  if (!server) throw new WeftError("NO_PEER_ADDRESS", { cluster: client.cluster, server: known });
  return server;
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "[::1]" || host.startsWith("127.");
}

function base64(text: string): string {
  return Buffer.from(text, "utf8").toString("base64");
}
