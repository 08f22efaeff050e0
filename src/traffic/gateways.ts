/**
 * Gateways as they are read: servers with their hosts (gateway-listeners.ts listens for them). Source: Istio
 * `pilot/pkg/model/gateway.go` (MergeGateways).
 */
import { isIP } from "node:net";
import type { GatewayServer, Gateway as IstioGateway, MeshSettings } from "../api/index.ts";
import type { Origin } from "./model.ts";
import { common, fullHost, isHost, isPort } from "./names.ts";
import { namedProtocol, type Protocol } from "./protocol.ts";
import { timeOf } from "./registry.ts";

/** A server of a Gateway, with hosts resolved. */
export interface Server {
  /** `namespace/name` of the Gateway. */
  gateway: string;
  kind: "Gateway" | "KubeGateway";
  namespace: string;
  created: string;
  /** Name of the Gateway. */
  name: string;
  field: string;
  port: number;
  portName: string;
  protocol: Protocol;
  bind: string;
  hosts: readonly { namespace: string; host: string }[];
  tls: GatewayServer["tls"];
}

/** A Gateway of either API: whose pods carry it, and its servers. */
export interface GatewayRules {
  key: string;
  namespace: string;
  selector: Readonly<Record<string, string>>;
  servers: readonly Server[];
}

/** Servers that no proxy could serve are left out; analysis says why. */
export function gatewayRulesOf(object: IstioGateway, mesh: MeshSettings): GatewayRules | undefined {
  const { metadata, spec } = object;
  if (metadata.deletionTimestamp || !spec) return undefined;
  const namespace = metadata.namespace ?? "";
  const key = `${namespace}/${metadata.name}`;
  return {
    key,
    namespace,
    selector: spec.selector ?? {},
    servers: (spec.servers ?? []).flatMap((server, i): Server[] => {
      const protocol = namedProtocol(server.port?.protocol ?? "");
      const port = server.port?.number;
      if (!protocol || !isPort(port) || (server.bind && isIP(server.bind) === 0)) return [];
      if (needsCredential(server) && !credentialOf(server)) return [];
      if (unservedChecks(server).length > 0) return [];
      return [
        {
          gateway: key,
          kind: "Gateway",
          namespace,
          created: timeOf(metadata.creationTimestamp),
          name: metadata.name,
          field: `spec.servers[${i}]`,
          port,
          portName: server.port?.name ?? "",
          protocol,
          bind: server.bind ?? "",
          hosts: (server.hosts ?? [])
            .map((text) => hostOf(text, namespace, mesh))
            .filter(({ host }) => isHost(host)),
          tls: server.tls,
        },
      ];
    }),
  };
}

/** It terminates TLS with a certificate of its own. */
export function needsCredential({ port, tls }: GatewayServer): boolean {
  const protocol = namedProtocol(port?.protocol ?? "");
  return (
    (protocol === "https" || protocol === "tls") &&
    (tls?.mode === "SIMPLE" || tls?.mode === "MUTUAL" || tls?.mode === "OPTIONAL_MUTUAL")
  );
}

/**
 * Checks of clients' certificates that are not served. Without them a server would let in whom its author keeps out, so
 * it is not there.
 */
function unservedChecks({ tls }: GatewayServer): string[] {
  const asks = tls?.mode === "MUTUAL" || tls?.mode === "OPTIONAL_MUTUAL" || tls?.mode === "ISTIO_MUTUAL";
  if (!asks) return [];
  return [
    ...(tls.verifyCertificateSpki?.length ? ["verifyCertificateSpki"] : []),
    ...(tls.verifyCertificateHash?.length ? ["verifyCertificateHash"] : []),
    ...(tls.caCrl ? ["caCrl"] : []),
  ];
}

/** The Secret that a server names. */
export function credentialOf({ tls }: GatewayServer): string | undefined {
  return tls?.credentialName || tls?.credentialNames?.[0] || undefined;
}

/** `namespace/host`: whose routes may use the host. */
function hostOf(text: string, own: string, mesh: MeshSettings): { namespace: string; host: string } {
  const slash = text.indexOf("/");
  const namespace = slash < 0 ? "*" : text.slice(0, slash);
  return {
    namespace: namespace === "." ? own : namespace,
    host: fullHost(text.slice(slash + 1), own, mesh.clusterDomain),
  };
}

/** Of an HTTP server's TLS only the redirect counts, as in Istio. */
export const isPlainHttp = ({ protocol }: Server): boolean =>
  protocol === "http" || protocol === "http2" || protocol === "grpc" || protocol === "grpc-web";

/** It hands the mesh's TLS on by server name, without routes. */
export const isAutoPassthrough = ({ tls, protocol }: Server): boolean =>
  tls?.mode === "AUTO_PASSTHROUGH" && (protocol === "tls" || protocol === "https");

/** It opens TLS itself. */
export const isTerminated = ({ tls }: Server): boolean =>
  tls?.mode !== undefined && tls.mode !== "PASSTHROUGH" && tls.mode !== "AUTO_PASSTHROUGH";

/** The hosts that a server and a host of a route have in common. */
export function sharedHosts(server: Pick<Server, "hosts">, namespace: string, host: string): string[] {
  return server.hosts.flatMap((each) =>
    each.namespace === "*" || each.namespace === namespace ? (common(each.host, host) ?? []) : [],
  );
}

/** Where a server is written. */
export function originOf({ namespace, name, field }: Server): Origin {
  return { kind: "Gateway", namespace, name, field };
}
