/**
 * What kube-controller-manager and kube-scheduler do, for one cluster of the lab: Deployments become ReplicaSets
 * become pods on nodes, Services get endpoints, namespaces are emptied, what is owned by nothing goes.
 */
import type { KubeClient } from "../../kube/index.ts";
import type { World } from "../../world/index.ts";
import { ControllerContext } from "./context.ts";
import { daemonSetController } from "./daemonset.ts";
import { deploymentController } from "./deployment.ts";
import { endpointsController } from "./endpoints.ts";
import { endpointSliceController } from "./endpointslice.ts";
import { expireEvents } from "./eventttl.ts";
import { garbageCollector } from "./garbage.ts";
import { ObjectGraph } from "./graph.ts";
import { jobController } from "./job.ts";
import { mirroringController } from "./mirroring.ts";
import { namespaceController } from "./namespace.ts";
import { nodeLifecycleController } from "./nodelifecycle.ts";
import { podGarbageCollector } from "./podgc.ts";
import { replicaSetController } from "./replicaset.ts";
import { scheduler } from "./scheduler.ts";
import { serviceAccountController } from "./serviceaccount.ts";
import { statefulSetController } from "./statefulset.ts";

export interface ControllersOptions {
  world: World;
  /** Speaks as someone who may do everything: `system:kube-controller-manager` in `system:masters`. */
  client: KubeClient;
  /** Certificates (PEM) that pods are told to trust, published as `kube-root-ca.crt`; left out when absent. */
  rootCertificates?: string;
  /** One line for each failure that nobody but a developer can mend. Silent when absent. */
  log?: (line: string) => void;
}

export interface Controllers {
  /** Resolves when all controllers have seen the whole cluster and work. */
  readonly ready: Promise<void>;
  /** Nothing waits to be reconciled now; timers may be set. For tests. */
  readonly idle: boolean;
  stop(): void;
}

/** Starts every controller of a cluster. They may be stopped or killed at any moment and started again. */
export function startControllers(options: ControllersOptions): Controllers {
  const context = new ControllerContext(options);
  const graph = new ObjectGraph(context);
  deploymentController(context);
  replicaSetController(context);
  statefulSetController(context);
  daemonSetController(context);
  jobController(context);
  scheduler(context);
  endpointsController(context);
  endpointSliceController(context);
  mirroringController(context);
  serviceAccountController(context, options.rootCertificates);
  namespaceController(context, graph);
  garbageCollector(context, graph);
  podGarbageCollector(context);
  nodeLifecycleController(context);
  void expireEvents(context);
  const ready = context.start();
  return {
    ready,
    get idle() {
      return context.idle;
    },
    stop() {
      graph.stop();
      context.stop();
    },
  };
}
