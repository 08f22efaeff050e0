/** Which container of a pod a request means, and where its kubelet is. Source: Kubernetes `pkg/registry/core/pod/strategy.go`. */
import type { Node, Pod } from "../../../api/index.ts";
import type { Core, ResourceCall } from "../core.ts";
import { badRequest, internalError } from "../status.ts";
import { existing } from "../write.ts";

export interface KubeletAddress {
  host: string;
  port: number;
}

export interface Target {
  pod: Pod;
  /** Empty where the pod itself is meant. */
  container: string;
  kubelet: KubeletAddress;
}

/** The container that `?container=` names, or the only one. Throws 400 with the names to choose from. */
function containerOf(pod: Pod, asked: string | null): string {
  const names = (containers: { name: string }[] | undefined) => (containers ?? []).map(({ name }) => name);
  const main = names(pod.spec.containers);
  const init = names(pod.spec.initContainers);
  const { name } = pod.metadata;
  if (asked) {
    const known = [...main, ...init, ...names(pod.spec.ephemeralContainers)];
    if (known.includes(asked)) return asked;
    throw badRequest(`container ${asked} is not valid for pod ${name}`);
  }
  if (main.length === 1) return main[0]!;
  const also = init.length > 0 ? ` or one of the init containers: [${init.join(" ")}]` : "";
  throw badRequest(
    `a container name must be specified for pod ${name}, choose one of: [${main.join(" ")}]${also}`,
  );
}

function kubeletOf(core: Core, pod: Pod): KubeletAddress {
  const { nodeName } = pod.spec;
  if (!nodeName) throw badRequest(`pod ${pod.metadata.name} does not have a host assigned`);
  const node = core.store.bucket("/nodes").objects.get(nodeName) as unknown as Node | undefined;
  const host = node?.status?.addresses?.find(({ type }) => type === "InternalIP")?.address;
  if (!host) throw internalError(`no address is known for node ${nodeName}`);
  return { host, port: node?.status?.daemonEndpoints?.kubeletEndpoint?.Port || 10250 };
}

/** Where a request for a pod's container goes. */
export function targetOf(core: Core, call: ResourceCall): Target {
  const pod = existing(core, call.type, call.route.namespace, call.route.name!) as unknown as Pod;
  const isOfPod = call.route.subresource === "portforward";
  const container = isOfPod ? "" : containerOf(pod, call.query.get("container"));
  return { pod, container, kubelet: kubeletOf(core, pod) };
}
