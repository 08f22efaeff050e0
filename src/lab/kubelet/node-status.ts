/** The node as the API shows it. Source: kubernetes `pkg/kubelet/nodestatus`. */
import { statfsSync } from "node:fs";
import { arch, cpus, release, totalmem } from "node:os";
import { hostnameLabel, type Node, nodes } from "../../api/index.ts";
import { isAlreadyExists, isConflict, type KubeClient } from "../../kube/index.ts";
import { timestamp, type World } from "../../world/index.ts";
import { kubernetesVersion, type NodeSpec } from "../spec.ts";
import type { PodCapacity } from "./fields.ts";

export const kubeletPort = 10250;
const mostPods = 110;

export function capacityOf(stateDir: string): PodCapacity {
  const { bsize, blocks } = statfsSync(stateDir);
  return { cpu: cpus().length, memory: totalmem(), "ephemeral-storage": bsize * blocks };
}

function architecture(): string {
  const name = arch();
  return name === "x64" ? "amd64" : name;
}

/** Labels that every node has, and those of its spec. */
export function nodeLabels(node: NodeSpec): Record<string, string> {
  return {
    "beta.kubernetes.io/arch": architecture(),
    "beta.kubernetes.io/os": "linux",
    "kubernetes.io/arch": architecture(),
    "kubernetes.io/os": "linux",
    [hostnameLabel]: node.name,
    ...(node.name.endsWith("-control-plane") && { "node-role.kubernetes.io/control-plane": "" }),
    ...node.labels,
  };
}

function statusOf(
  node: NodeSpec,
  capacity: PodCapacity,
  previous: Node | undefined,
  world: World,
): Node["status"] {
  const now = timestamp(world);
  const amounts = {
    cpu: String(capacity.cpu),
    memory: `${Math.floor(capacity.memory / 1024)}Ki`,
    "ephemeral-storage": `${Math.floor(capacity["ephemeral-storage"] / 1024)}Ki`,
    pods: String(mostPods),
  };
  const condition = (type: string, status: "True" | "False", reason: string, message: string) => {
    const before = previous?.status?.conditions?.find((condition) => condition.type === type);
    const lastTransitionTime = before?.status === status ? before.lastTransitionTime : now;
    return { type, status, reason, message, lastHeartbeatTime: now, lastTransitionTime };
  };
  return {
    capacity: amounts,
    allocatable: amounts,
    conditions: [
      condition(
        "MemoryPressure",
        "False",
        "KubeletHasSufficientMemory",
        "kubelet has sufficient memory available",
      ),
      condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
      condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
      condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ],
    addresses: [
      { type: "InternalIP", address: node.address },
      { type: "Hostname", address: node.name },
    ],
    daemonEndpoints: { kubeletEndpoint: { Port: kubeletPort } },
    nodeInfo: {
      machineID: "",
      systemUUID: "",
      bootID: "",
      kernelVersion: release(),
      osImage: "Weft lab",
      containerRuntimeVersion: "weft://0.1.0",
      kubeletVersion: kubernetesVersion,
      kubeProxyVersion: "",
      operatingSystem: "linux",
      architecture: architecture(),
    },
  };
}

/** Makes the Node object or brings it up to date; labels of others stay. */
export async function registerNode(
  client: KubeClient,
  node: NodeSpec,
  capacity: PodCapacity,
  world: World,
): Promise<Node> {
  for (let attempt = 0; ; attempt++) {
    try {
      const found = await client.get(nodes, node.name);
      if (!found) {
        await client.create(
          nodes,
          {
            metadata: {
              name: node.name,
              labels: nodeLabels(node),
              annotations: { "node.alpha.kubernetes.io/ttl": "0" },
            },
            spec: { podCIDR: node.podRange, podCIDRs: [node.podRange] },
            status: statusOf(node, capacity, undefined, world),
          },
          { manager: "kubelet" },
        );
      }
      let current = found ?? (await client.get(nodes, node.name))!;
      const labels = { ...current.metadata.labels, ...nodeLabels(node) };
      if (Object.entries(labels).some(([name, value]) => current.metadata.labels?.[name] !== value)) {
        current = await client.patch(nodes, node.name, { metadata: { labels } }, { manager: "kubelet" });
      }
      const status = { ...current.status, ...statusOf(node, capacity, current, world) };
      return await client.replace(
        nodes,
        { ...current, status },
        { subresource: "status", manager: "kubelet" },
      );
    } catch (error) {
      if ((!isConflict(error) && !isAlreadyExists(error)) || attempt > 5) throw error;
    }
  }
}
