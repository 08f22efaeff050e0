/** What every part of a kubelet works with. */
import type { ConfigMap, Pod, Secret, Service } from "../../api/index.ts";
import type { EventRecorder, KubeClient } from "../../kube/index.ts";
import type { World } from "../../world/index.ts";
import type { Images } from "../images/index.ts";
import type { AddressPool, Run } from "../network/index.ts";
import type { ClusterSpec, NodeSpec } from "../spec.ts";
import type { PodCapacity } from "./fields.ts";
import type { Runtime } from "./runtime.ts";

export interface NodeContext {
  world: World;
  client: KubeClient;
  cluster: ClusterSpec;
  node: NodeSpec;
  images: Images;
  runtime: Runtime;
  addresses: AddressPool;
  events: EventRecorder;
  run: Run;
  capacity: PodCapacity;
  /** Services of the cluster, for variables. */
  services(): Service[];
  configMap(namespace: string, name: string): Promise<ConfigMap | undefined>;
  secret(namespace: string, name: string): Promise<Secret | undefined>;
  /** The node's directory on disk: logs and emptyDir volumes. */
  stateDir: string;
  /** The node's directory on a tmpfs that lives as long as the lab. */
  runDir: string;
  /** Something in the kubelet itself went wrong. */
  onBug(error: unknown): void;
}

/** Where the logs of a pod are; as on a real node, below the node's directory instead of /var/log/pods. */
export function logDirectory(stateDir: string, pod: Pod): string {
  const { namespace, name, uid } = pod.metadata;
  return `${stateDir}/logs/${namespace}_${name}_${uid}`;
}
