/** What some kinds do beyond what all kinds do, by bucket. */

import type { ServiceAddresses } from "./admission/addresses.ts";
import { jobStrategy } from "./admission/jobs.ts";
import { namespaceStrategy } from "./admission/namespaces.ts";
import { podStrategy } from "./admission/pods.ts";
import { serviceStrategy } from "./admission/services.ts";
import type { Rbac } from "./auth/rbac.ts";
import { rbacStrategies } from "./auth/strategies.ts";
import type { Core, UserInfo } from "./core.ts";
import { definitionStrategy } from "./extensions/definitions.ts";
import { type ApiObject, asRecord, sameJson } from "./object.ts";
import type { FieldError } from "./schema/index.ts";

/** Facts about the write that a strategy may need. */
export interface WriteFacts {
  readonly user: UserInfo;
  readonly dryRun: boolean;
  readonly warnings: string[];
}

/** Every hook is optional. Objects are in the stored version; `object` is fresh and may be changed in place. */
export interface Strategy {
  /** Waits for what the creation needs, within reason. */
  ready?(core: Core, object: ApiObject, namespace: string | undefined): Promise<void>;
  /**
   * What comes before admission webhooks (Kubernetes' own mutating plugins): completes or refuses a new object. Called
   * once more after webhooks that changed something. The object is in the request's version.
   */
  admit?(core: Core, object: ApiObject, facts: WriteFacts): void;
  /** Sets what clients may not, refuses (by throwing). Runs before defaults and validation. */
  prepareCreate?(core: Core, object: ApiObject, facts: WriteFacts): void;
  prepareUpdate?(core: Core, object: ApiObject, current: ApiObject, facts: WriteFacts): void;
  /** After defaults, before validation: what depends on defaulted fields (addresses of Services). */
  allocate?(core: Core, object: ApiObject, current: ApiObject | undefined, facts: WriteFacts): void;
  /** Rules beyond the kind's schema. */
  validate?(core: Core, object: ApiObject, current: ApiObject | undefined): FieldError[];
  /** Refuses a deletion by throwing. */
  checkDelete?(core: Core, object: ApiObject): void;
  /** Called at once with every change, and with every object when the store is loaded. */
  stored?(core: Core, before: ApiObject | undefined, after: ApiObject | undefined): void;
  /** For an object that is being deleted: whether it has to stay although it has no finalizers. */
  holds?(object: ApiObject): boolean;
  /** Seconds that a deletion waits for someone to confirm it; undefined: none. */
  graceful?(object: ApiObject, requested: number | undefined): number | undefined;
  /** Changes the object when its deletion has begun (phase Terminating). */
  deleting?(object: ApiObject, core: Core): void;
  /** Whether a new object may bring its status. */
  createsWithStatus?: boolean;
}

export type Strategies = Map<string, Strategy>;

const templateGeneration = "deprecated.daemonset.template.generation";

/** The generation of a DaemonSet's template is an annotation, and the server's own. */
const daemonSetStrategy: Strategy = {
  prepareUpdate(_, object, current) {
    const before = Number(current.metadata.annotations?.[templateGeneration] ?? 1);
    const isSame = sameJson(asRecord(object.spec)?.template, asRecord(current.spec)?.template);
    object.metadata.annotations = {
      ...object.metadata.annotations,
      [templateGeneration]: String(isSame ? before : before + 1),
    };
  },
};

/** Kinds that are kept for those who read them, but that nothing here acts on: whoever makes one is told. */
const storedOnly = (what: string): Strategy => ({
  prepareCreate(_, __, { warnings }) {
    warnings.push(`${what} by this API server`);
  },
});

/** The strategies of built-in kinds. */
export function builtinStrategies(addresses: ServiceAddresses, rbac: Rbac): Strategies {
  return new Map<string, Strategy>([
    ["/namespaces", namespaceStrategy],
    ["/pods", podStrategy],
    ["/services", serviceStrategy(addresses)],
    ["batch/jobs", jobStrategy],
    ["apps/daemonsets", daemonSetStrategy],
    ["/nodes", { createsWithStatus: true }],
    ["apiextensions.k8s.io/customresourcedefinitions", definitionStrategy],
    ["/resourcequotas", storedOnly("a ResourceQuota is stored but not enforced")],
    ["/limitranges", storedOnly("a LimitRange is stored but not applied")],
    ...rbacStrategies(rbac),
  ]);
}
