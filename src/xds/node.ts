/** How a proxy introduces itself: the xDS node as Istio's agent writes it (istio `pkg/model/proxy.go`, NodeMetadata). */
import type { Node } from "#protocols/envoy/config/core/v3/base.ts";
import type { Proxy as MeshProxy } from "../traffic/index.ts";

/** A proxy's node, and what is only for people to see. */
export interface Introduction {
  proxy: MeshProxy;
  /** Its pod. */
  pod: string;
  /** `embedded`, or `envoy`. */
  implementation: string;
  /** Of the proxy program; of Istio's API that its agent speaks where the program does not say. */
  version: string;
}

/** What a node says of itself. Throws, in words for its log, when it does not say who it is. */
export function introductionOf(node: Node | undefined): Introduction {
  const id = node?.id ?? "";
  const [type, address, podAndNamespace = "", domain] = id.split("~");
  const dot = podAndNamespace.lastIndexOf(".");
  if (!node || !address || dot < 0 || !domain || (type !== "sidecar" && type !== "router")) {
    throw new Error(`the node's id '${id}' is not 'sidecar|router~address~pod.namespace~domain'`);
  }
  const metadata = node.metadata ?? {};
  const text = (name: string, otherwise = ""): string => {
    const value: unknown = metadata[name];
    return typeof value === "string" ? value : otherwise;
  };
  const namespace = podAndNamespace.slice(dot + 1);
  const said = text("NAMESPACE", namespace);
  if (said !== namespace) {
    throw new Error(`the node's id says namespace '${namespace}', its metadata '${said}'`);
  }
  const version = node.userAgentVersionType;
  const { majorNumber, minorNumber, patch } =
    (version?.$case === "userAgentBuildVersion" && version.value.version) || {};
  return {
    pod: podAndNamespace.slice(0, dot),
    implementation: text("PROXY_IMPLEMENTATION", node.userAgentName || "unknown"),
    version:
      majorNumber !== undefined
        ? `${majorNumber}.${minorNumber}.${patch}`
        : version?.$case === "userAgentVersion" && version.value
          ? version.value
          : text("ISTIO_VERSION"),
    proxy: {
      id,
      type: type === "sidecar" ? "sidecar" : "gateway",
      namespace,
      labels: texts(metadata.LABELS),
      addresses: addressesOf(text("INSTANCE_IPS"), address),
      serviceAccount: text("SERVICE_ACCOUNT"),
      cluster: text("CLUSTER_ID"),
      locality: { region: node.locality?.region ?? "", zone: node.locality?.zone ?? "" },
    },
  };
}

function addressesOf(list: string, address: string): string[] {
  const all = list.split(",").filter((each) => each !== "");
  return all.length > 0 ? all : [address];
}

function texts(value: unknown): Record<string, string> {
  if (typeof value !== "object" || value === null) return {};
  return Object.fromEntries(
    Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === "string"),
  );
}
