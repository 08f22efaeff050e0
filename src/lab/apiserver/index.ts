/**
 * An embedded Kubernetes API server: one per cluster of the lab, the same code under the simulation.
 * In-process callers name themselves (`as`); everybody else comes over TLS (`listen`).
 */
import type { KubeRequest, KubeResponse, Transport } from "../../kube/index.ts";
import type { World } from "../../world/index.ts";
import { ServiceAddresses } from "./admission/addresses.ts";
import { closeWebhooks } from "./admission/webhook-call.ts";
import { authenticate } from "./auth/authenticate.ts";
import { Rbac } from "./auth/rbac.ts";
import { Tokens } from "./auth/tokens.ts";
import { bootstrap } from "./bootstrap.ts";
import { builtinTypes } from "./builtins.ts";
import type { Call, Core, Reply, UserInfo } from "./core.ts";
import { Discovery } from "./discovery/discovery.ts";
import { expireEvents } from "./expiry.ts";
import { cleanUp } from "./extensions/cleanup.ts";
import { handle, handleUpgrade } from "./handler.ts";
import type { Listener, ListenOptions } from "./listen.ts";
import { Registry } from "./registry.ts";
import { Store } from "./store/store.ts";
import { builtinStrategies } from "./strategies.ts";
import type { KubeletClient } from "./subresources/kubelet.ts";

export type { UserInfo } from "./core.ts";
export type { ListenOptions, TlsOptions } from "./listen.ts";
export type { KubeletClient } from "./subresources/kubelet.ts";

export interface ApiServerOptions {
  world: World;
  /** Name of the cluster. */
  cluster: string;
  storage: { kind: "memory" } | { kind: "sqlite"; file: string; sync?: boolean };
  /** ClusterIPs, e.g. `10.11.0.0/16`; the first address is that of the Service `default/kubernetes`. */
  serviceRange: string;
  /** Where pods and peers reach this server: what stands behind the Service `default/kubernetes`. */
  advertise: { address: string; port: number };
  /** First and last port of NodePorts; 30000 to 32767 when absent. */
  nodePorts?: readonly [number, number];
  /** Signs and checks ServiceAccount tokens; without it there are none. PKCS #8 and SPKI, PEM. */
  serviceAccount?: { privateKey: string; publicKey: string };
  /** `iss` of ServiceAccount tokens; `https://kubernetes.default.svc.cluster.local` when absent. */
  issuer?: string;
  /** With what kubelets are called for logs, exec and attach; without it these are refused. PEM. */
  kubeletClient?: KubeletClient;
  /** Told of errors that are nobody's fault but ours; prints them when absent. */
  onBug?: (error: unknown) => void;
}

export interface ApiServer {
  /** An in-process caller with an identity; `system:authenticated` is added to its groups. */
  as(user: UserInfo): Transport;
  /** Serves HTTPS on a TCP address or a UNIX socket; may be called several times. Resolves with the TCP port. */
  listen(options: ListenOptions): Promise<{ port: number | undefined }>;
  close(): Promise<void>;
}

export async function createApiServer(options: ApiServerOptions): Promise<ApiServer> {
  const store = await openStore(options.storage);
  const registry = new Registry();
  registry.add(...builtinTypes());
  const addresses = new ServiceAddresses(options.serviceRange, options.nodePorts ?? [30000, 32767]);
  const rbac = new Rbac(store);
  const core: Core = {
    world: options.world,
    store,
    registry,
    strategies: builtinStrategies(addresses, rbac),
    rbac,
    kubelet: options.kubeletClient,
    get tokens() {
      return tokens;
    },
    discovery: new Discovery(registry),
    started: options.world.monotonic(),
    publicAddress: `${options.advertise.address}:${options.advertise.port}`,
    cleanUp: (definition) => queueMicrotask(() => cleanUp(core, definition)),
    onBug: options.onBug ?? ((error) => console.error("apiserver:", error)),
  };
  const tokens =
    options.serviceAccount &&
    new Tokens(core, {
      ...options.serviceAccount,
      issuer: options.issuer ?? "https://kubernetes.default.svc.cluster.local",
    });
  // What is allocated or indexed from objects is made again from what was saved.
  for (const type of registry.stored()) {
    const stored = core.strategies.get(type.bucket)?.stored;
    if (stored)
      for (const object of store.bucket(type.bucket).objects.values()) stored(core, undefined, object);
  }
  bootstrap(core, { ...options, serviceAddress: addresses.first });
  await store.committed();

  const stopExpiry = expireEvents(core);
  const listeners: Listener[] = [];
  return {
    as: (user) => transportFor(core, user),
    async listen(listenOptions) {
      const { listen } = await import("./listen.ts");
      const checkToken = async (token: string) => (await tokens?.verify(token))?.user;
      const listener = await listen(
        core,
        listenOptions,
        (socket, headers) => authenticate(socket, headers, checkToken),
        (call, socket, head) => void handleUpgrade(core, call, socket, head),
      );
      listeners.push(listener);
      return { port: listener.port };
    },
    async close() {
      stopExpiry();
      closeWebhooks(core);
      await Promise.all(listeners.map((listener) => listener.close()));
      store.close();
    },
  };
}

async function openStore(storage: ApiServerOptions["storage"]): Promise<Store> {
  if (storage.kind === "memory") return new Store();
  const { openSqlite } = await import("./store/sqlite.ts");
  const { log, saved } = openSqlite(storage.file, undefined, storage.sync);
  return new Store(log, saved);
}

function transportFor(core: Core, user: UserInfo): Transport {
  const groups = user.groups.includes("system:authenticated")
    ? user.groups
    : [...user.groups, "system:authenticated"];
  const identity: UserInfo = { ...user, groups };
  return async (request) => toResponse(await handle(core, callOf(request, identity)));
}

function callOf(request: KubeRequest, user: UserInfo): Call {
  const question = request.path.indexOf("?");
  const body = typeof request.body === "string" ? Buffer.from(request.body) : request.body;
  return {
    method: request.method,
    path: question < 0 ? request.path : request.path.slice(0, question),
    query: new URLSearchParams(question < 0 ? "" : request.path.slice(question + 1)),
    headers: request.headers ?? {},
    body,
    signal: request.signal,
    user,
    warnings: [],
  };
}

function toResponse(reply: Reply): KubeResponse {
  const { status, headers, body } = reply;
  return { status, headers, body: body instanceof Uint8Array ? once(body) : body };
}

async function* once(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes;
}
