/**
 * From a Service and the pods it selects to endpoints: pure functions.
 * Source: staging endpointslice utils.go and reconciler.go, pkg/controller/endpoint/endpoints_controller.go.
 */
import {
  type Endpoint,
  type EndpointPort,
  type Node,
  type Pod,
  type Service,
  type ServicePort,
  zoneLabel,
} from "../../api/index.ts";
import { isFinished, isReady } from "./pods.ts";

export type AddressFamily = "IPv4" | "IPv6";

export function familyOf(address: string): AddressFamily {
  return address.includes(":") ? "IPv6" : "IPv4";
}

/** The families that a Service has endpoints in. */
export function familiesOf(service: Service): AddressFamily[] {
  const families = service.spec?.ipFamilies as AddressFamily[] | undefined;
  if (families && families.length > 0) return families;
  const address = service.spec?.clusterIP;
  return [address && address !== "None" ? familyOf(address) : "IPv4"];
}

export function addressOf(pod: Pod, family: AddressFamily): string | undefined {
  const addresses = pod.status?.podIPs?.map((one) => one.ip) ?? [pod.status?.podIP];
  return addresses.find((one): one is string => Boolean(one) && familyOf(one!) === family);
}

/** Whether the pod is an endpoint at all: it has an address and has not ended. */
export function hasEndpoint(pod: Pod): boolean {
  return !isFinished(pod) && Boolean(pod.status?.podIP);
}

/** The endpoint that a pod is, or undefined when it has no address of the family. */
export function endpointOf(
  pod: Pod,
  service: Service,
  family: AddressFamily,
  node: Node | undefined,
): Endpoint | undefined {
  const address = addressOf(pod, family);
  if (address === undefined) return undefined;
  const serving = isReady(pod);
  const terminating = pod.metadata.deletionTimestamp !== undefined;
  const ready = service.spec?.publishNotReadyAddresses === true || (serving && !terminating);
  const zone = node?.metadata.labels?.[zoneLabel];
  const named = pod.spec.hostname && pod.spec.subdomain === service.metadata.name;
  return {
    addresses: [address],
    conditions: { ready, serving, terminating },
    ...(named ? { hostname: pod.spec.hostname } : {}),
    ...(pod.spec.nodeName ? { nodeName: pod.spec.nodeName } : {}),
    targetRef: {
      kind: "Pod",
      namespace: pod.metadata.namespace,
      name: pod.metadata.name,
      uid: pod.metadata.uid,
    },
    ...(zone ? { zone } : {}),
  };
}

/**
 * The ports of a Service on one pod. A target port that is a name is looked up in the pod's containers, so pods
 * of one Service may differ; a name that the pod does not have gives no port.
 */
export function portsOf(pod: Pod, service: Service): EndpointPort[] {
  const ports: EndpointPort[] = [];
  for (const port of service.spec?.ports ?? []) {
    const number = targetPortOf(pod, port);
    if (number === undefined) continue;
    ports.push({
      name: port.name ?? "",
      port: number,
      protocol: port.protocol ?? "TCP",
      ...(port.appProtocol ? { appProtocol: port.appProtocol } : {}),
    });
  }
  return ports;
}

function targetPortOf(pod: Pod, port: ServicePort): number | undefined {
  const target = port.targetPort ?? port.port;
  if (typeof target === "number") return target;
  const sidecars = (pod.spec.initContainers ?? []).filter((one) => one.restartPolicy === "Always");
  for (const container of [...pod.spec.containers, ...sidecars]) {
    for (const open of container.ports ?? []) {
      if (open.name === target && (open.protocol ?? "TCP") === (port.protocol ?? "TCP")) {
        return open.containerPort;
      }
    }
  }
  return undefined;
}
