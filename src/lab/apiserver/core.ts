/** What every part of the API server shares, and what travels with one request. */
import type { World } from "../../world/index.ts";
import type { Rbac } from "./auth/rbac.ts";
import type { Tokens } from "./auth/tokens.ts";
import type { Discovery } from "./discovery/discovery.ts";
import type { Registry, ResourceType } from "./registry.ts";
import type { ResourceRoute } from "./route.ts";
import type { Store } from "./store/store.ts";
import type { Strategies } from "./strategies.ts";
import type { KubeletClient } from "./subresources/kubelet.ts";

/** Who asks. In-process callers say it themselves; over TLS it comes from a certificate or a token. */
export interface UserInfo {
  name: string;
  groups: readonly string[];
  uid?: string;
  extra?: Readonly<Record<string, readonly string[]>>;
}

export interface Core {
  readonly world: World;
  readonly store: Store;
  readonly registry: Registry;
  readonly strategies: Strategies;
  readonly discovery: Discovery;
  readonly rbac: Rbac;
  /** Absent when the server was given no key for ServiceAccount tokens. */
  readonly tokens: Tokens | undefined;
  /** Absent when the server was given no certificate for kubelets. */
  readonly kubelet: KubeletClient | undefined;
  /** On the world's monotonic clock. */
  readonly started: number;
  /** `address:port` at which pods and peers reach this server. */
  readonly publicAddress: string;
  /** Goes on with the deletion of a CustomResourceDefinition, by name. */
  readonly cleanUp: (definition: string) => void;
  /** Told of errors that are nobody's fault but ours. */
  readonly onBug: (error: unknown) => void;
}

/** One request, authenticated. */
export interface Call {
  readonly method: string;
  /** Path without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array | undefined;
  readonly signal: AbortSignal | undefined;
  readonly user: UserInfo;
  /** Become `Warning` headers of the response. */
  readonly warnings: string[];
}

/** A request about objects of one type. */
export interface ResourceCall extends Call {
  readonly type: ResourceType;
  readonly route: ResourceRoute;
}

/** What a verb has to say; negotiation decides the form. */
export interface Answer {
  code: number;
  object: unknown;
}

/** A response that is about to leave. */
export interface Reply {
  status: number;
  headers: Record<string, string>;
  body: Uint8Array | AsyncIterable<Uint8Array>;
}
