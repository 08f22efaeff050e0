import {
  apiVersionOf,
  customResourceDefinitions,
  type KubeObject,
  type OwnerReference,
  pathOf,
  type Resource,
} from "../../api/index.ts";
import { KubeClient, reflect, type Transport } from "../../kube/index.ts";
import { sleep, type Timer } from "../../world/index.ts";
import { type ControllerContext, messageOf } from "./context.ts";
import { discover } from "./discovery.ts";

/** As much of an object as says who owns it and whether it is going. */
export interface GraphNode {
  uid: string;
  resource: Resource<KubeObject>;
  namespace: string | undefined;
  name: string;
  resourceVersion: string;
  owners: OwnerReference[];
  finalizers: string[];
  deleting: boolean;
}

export type GraphListener = (before: GraphNode | undefined, after: GraphNode | undefined) => void;

/** Resources are looked for again this long after the definitions of custom ones changed, in milliseconds. */
const settleTime = 200;

/**
 * Who owns whom over all resources of the cluster, custom ones included. Uses the caches that controllers share
 * where there are any, and watches the metadata alone of everything else. Events are left out: nobody
 * owns them.
 */
export class ObjectGraph {
  readonly #context: ControllerContext;
  readonly #metadata: KubeClient;
  readonly #nodes = new Map<string, GraphNode>();
  readonly #dependents = new Map<string, Set<GraphNode>>();
  readonly #listeners: GraphListener[] = [];
  readonly #watched = new Map<string, { stop(): void; synced: Promise<void> }>();
  readonly #kinds = new Map<string, Resource<KubeObject>>();
  #timer: Timer | undefined;

  constructor(context: ControllerContext) {
    this.#context = context;
    const { client } = context;
    const { transport, world, cluster, server } = client;
    this.#metadata = new KubeClient({ transport: metadataOnly(transport), world, cluster, server });
    context.cache(customResourceDefinitions).onChange(() => this.#rediscover(settleTime));
  }

  get(uid: string): GraphNode | undefined {
    return this.#nodes.get(uid);
  }

  dependentsOf(uid: string): GraphNode[] {
    return [...(this.#dependents.get(uid) ?? [])];
  }

  /** The resource of an owner reference, or undefined when the server does not know the kind. */
  resourceOf(reference: Pick<OwnerReference, "apiVersion" | "kind">): Resource<KubeObject> | undefined {
    return this.#kinds.get(kindOf(reference));
  }

  onChange(listener: GraphListener): void {
    this.#listeners.push(listener);
  }

  /** Resolves when everything that the server offers has been listed once. */
  async start(): Promise<void> {
    const { signal, world, log } = this.#context;
    for (let found = false; !found && !signal.aborted; ) {
      try {
        await this.#watchAll();
        found = true;
      } catch (error) {
        log(`garbage collector: discovery: ${messageOf(error)}`);
        await sleep(world, 10 * settleTime, signal).catch(() => {});
      }
    }
    await Promise.all([...this.#watched.values()].map((one) => one.synced));
  }

  stop(): void {
    this.#timer?.cancel();
    for (const { stop } of this.#watched.values()) stop();
    this.#watched.clear();
  }

  #rediscover(delay: number): void {
    if (this.#context.signal.aborted) return;
    this.#timer?.cancel();
    this.#timer = this.#context.world.after(delay, () => {
      this.#watchAll().catch((error) => {
        if (this.#context.signal.aborted) return;
        this.#context.log(`garbage collector: discovery: ${messageOf(error)}`);
        this.#rediscover(10 * settleTime);
      });
    });
  }

  async #watchAll(): Promise<void> {
    const served = await discover(this.#context.client);
    const offered = new Set<string>();
    const news = new Set<string>();
    for (const { resource, verbs, versions } of served) {
      // An owner may be named in any version that is served.
      for (const version of versions) {
        const kind = kindOf({ apiVersion: apiVersionOf({ ...resource, version }), kind: resource.kind });
        if (!this.#kinds.has(kind)) news.add(kind);
        this.#kinds.set(kind, resource);
      }
      const useful = ["list", "watch", "delete"].every((verb) => verbs.includes(verb));
      if (!useful || (resource.group === "" && resource.plural === "events")) continue;
      offered.add(pathOf(resource));
      if (!this.#watched.has(pathOf(resource))) this.#watch(resource);
    }
    for (const [path, { stop }] of this.#watched) {
      if (offered.has(path)) continue;
      stop();
      this.#watched.delete(path);
      for (const node of [...this.#nodes.values()]) {
        if (pathOf(node.resource) === path) this.#set(node, undefined);
      }
    }
    // What names an owner of a kind that was not known is looked at again.
    for (const node of [...this.#nodes.values()])
      if (node.owners.some((owner) => news.has(kindOf(owner)))) this.#set(node, node);
  }

  #watch(resource: Resource<KubeObject>): void {
    const shared = this.#context.sharedCache(resource);
    if (shared) {
      shared.onChange((before, after) =>
        this.#set(before && nodeOf(resource, before), after && nodeOf(resource, after)),
      );
      for (const object of shared.list()) this.#set(undefined, nodeOf(resource, object));
      this.#watched.set(pathOf(resource), { stop: () => {}, synced: shared.synced });
      return;
    }
    const uids = new Map<string, string>();
    const { promise: synced, resolve } = Promise.withResolvers<void>();
    const put = (object: KubeObject) => {
      const node = nodeOf(resource, object);
      const key = `${node.namespace ?? ""}/${node.name}`;
      const before = this.#nodes.get(uids.get(key) ?? node.uid);
      uids.set(key, node.uid);
      if (before && before.uid !== node.uid) this.#set(before, undefined);
      this.#set(before?.uid === node.uid ? before : undefined, node);
    };
    const drop = (key: string) => {
      const node = this.#nodes.get(uids.get(key) ?? "");
      uids.delete(key);
      if (node) this.#set(node, undefined);
    };
    const keyOf = (object: KubeObject) => `${object.metadata.namespace ?? ""}/${object.metadata.name}`;
    const reflection = reflect(
      this.#metadata,
      resource,
      {
        replace: (objects) => {
          const present = new Set(objects.map(keyOf));
          for (const key of [...uids.keys()]) if (!present.has(key)) drop(key);
          for (const object of objects) put(object);
        },
        put,
        remove: (_key, last) => drop(keyOf(last)),
        synced: resolve,
      },
      { signal: this.#context.signal, keepManagedFieldsOf: null },
    );
    this.#watched.set(pathOf(resource), { stop: () => reflection.stop(), synced });
  }

  #set(before: GraphNode | undefined, after: GraphNode | undefined): void {
    const known = before && this.#nodes.get(before.uid);
    if (known) {
      this.#nodes.delete(known.uid);
      for (const owner of known.owners) {
        const siblings = this.#dependents.get(owner.uid);
        siblings?.delete(known);
        if (siblings?.size === 0) this.#dependents.delete(owner.uid);
      }
    }
    if (after) {
      this.#nodes.set(after.uid, after);
      for (const owner of after.owners) {
        const siblings = this.#dependents.get(owner.uid);
        if (siblings) siblings.add(after);
        else this.#dependents.set(owner.uid, new Set([after]));
      }
    }
    for (const listener of this.#listeners) listener(known, after);
  }
}

function kindOf({ apiVersion, kind }: Pick<OwnerReference, "apiVersion" | "kind">): string {
  return `${apiVersion} ${kind}`;
}

function nodeOf(resource: Resource<KubeObject>, object: KubeObject): GraphNode {
  const { metadata } = object;
  return {
    uid: metadata.uid ?? "",
    resource,
    namespace: metadata.namespace,
    name: metadata.name,
    resourceVersion: metadata.resourceVersion ?? "",
    owners: metadata.ownerReferences ?? [],
    finalizers: metadata.finalizers ?? [],
    deleting: metadata.deletionTimestamp !== undefined,
  };
}

/** The same server, asked for PartialObjectMetadata instead of whole objects. */
function metadataOnly(transport: Transport): Transport {
  return (request) => {
    const kind = /[?&]watch=1/.test(request.path) ? "PartialObjectMetadata" : "PartialObjectMetadataList";
    const accept = `application/json;as=${kind};g=meta.k8s.io;v=v1,application/json`;
    return transport({ ...request, headers: { ...request.headers, accept } });
  };
}
