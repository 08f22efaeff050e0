/**
 * What Gateway API's objects are told: conditions of Gateways, their listeners, and of HTTPRoutes for each parent. Source:
 * `gateway-api` v1 types, "GatewayConditionType", "ListenerConditionType", "RouteConditionType". Times of conditions are
 * the sink's.
 */
import { type Condition, type gatewayApi, gatewayApi as kinds, type Service } from "../api/index.ts";
import { gatewayClass, listenerKey } from "./gateway-api.ts";
import { type GatewayRules, type Server, sharedHosts } from "./gateways.ts";
import type { Finding } from "./model.ts";
import { namedProtocol } from "./protocol.ts";
import { unservedIn } from "./served.ts";
import type { HostRules } from "./virtual-services.ts";

type Said = Omit<Condition, "lastTransitionTime">;

function said(type: string, holds: boolean, reason: string, message: string, generation: number): Said {
  return { type, status: holds ? "True" : "False", reason, message, observedGeneration: generation };
}

/** Fields that have no effect, as a condition of our own; none where all have one. */
function withoutEffect(kind: string, spec: unknown, generation: number): Said[] {
  const fields = unservedIn(kind, spec).filter(({ why }) => why !== undefined);
  const message = fields.map(({ field, why }) => `${field}: ${why}`).join("\n");
  return message ? [said("weft.dev/NotServedYet", true, "FieldsWithoutEffect", message, generation)] : [];
}

/** What a Gateway's status is made of. */
export interface GatewayStatusLook {
  /** Whose pods carry the listeners; undefined: there is none of that name. */
  service: Service | undefined;
  /** Undefined where no pods carry it. */
  rules: GatewayRules | undefined;
  /** Why a Secret, by the name that proxies ask for it by, is no certificate to serve with. */
  secretProblem(name: string): string | undefined;
  /** Routes bound to a listener. */
  routes(listener: string): readonly HostRules[];
}

/** Undefined for a Gateway of another class. */
export function gatewayStatus(
  { metadata, spec }: gatewayApi.Gateway,
  { service, rules, routes, secretProblem }: GatewayStatusLook,
): gatewayApi.GatewayStatus | undefined {
  if (spec.gatewayClassName !== gatewayClass) return undefined;
  const { namespace = "", name, generation = 0 } = metadata;
  const addresses = (service?.status?.loadBalancer?.ingress ?? []).flatMap(({ ip, hostname }) =>
    ip ? [{ type: "IPAddress", value: ip }] : hostname ? [{ type: "Hostname", value: hostname }] : [],
  );
  const listeners = spec.listeners.map((listener) => {
    const server = rules?.servers.find(
      ({ gateway }) => gateway === listenerKey(namespace, name, listener.name),
    );
    const protocol = namedProtocol(listener.protocol);
    const resolved = !protocol || !rules || server !== undefined || spec.tls?.frontend !== undefined;
    const secret = server?.tls?.credentialName;
    const problem = resolved
      ? secret && secretProblem(secret)
      : "there is no certificateRef that may be used: a Secret of this namespace, or one that a ReferenceGrant allows";
    const attachedRoutes = server
      ? routes(server.gateway).filter((route) => shares(server, route)).length
      : 0;
    return {
      name: listener.name,
      supportedKinds:
        protocol === "http" || protocol === "https"
          ? [{ group: kinds.httpRoutes.group, kind: "HTTPRoute" }]
          : [],
      attachedRoutes,
      conditions: [
        protocol
          ? said("Accepted", true, "Accepted", "", generation)
          : said("Accepted", false, "UnsupportedProtocol", `${listener.protocol} is not served`, generation),
        problem
          ? said("ResolvedRefs", false, "InvalidCertificateRef", problem, generation)
          : said("ResolvedRefs", true, "ResolvedRefs", "", generation),
        server && !problem
          ? said("Programmed", true, "Programmed", "", generation)
          : said("Programmed", false, "Invalid", "the listener is not served", generation),
      ] as Condition[],
    };
  });
  const programmed = rules !== undefined && rules.servers.length > 0;
  return {
    addresses,
    conditions: [
      listeners.every(({ conditions }) => conditions[0]!.status === "True")
        ? said("Accepted", true, "Accepted", "", generation)
        : said("Accepted", true, "ListenersNotValid", "not every listener is served", generation),
      programmed
        ? said("Programmed", true, "Programmed", "", generation)
        : said(
            "Programmed",
            false,
            service ? "Invalid" : "AddressNotUsable",
            service
              ? "no listener is served"
              : "there is no gateway: the Service of its address is not there",
            generation,
          ),
      ...withoutEffect("KubeGateway", spec, generation),
    ] as Condition[],
    listeners,
  };
}

function shares(server: Server, route: HostRules): boolean {
  return route.hosts.some((host) => sharedHosts(server, route.namespace, host).length > 0);
}

/** What an HTTPRoute's status is made of. */
export interface RouteStatusLook {
  gateway(namespace: string, name: string): gatewayApi.Gateway | undefined;
  gatewayRules(namespace: string, name: string): GatewayRules | undefined;
  rules: HostRules | undefined;
  problems: readonly Finding[];
}

/** For the parents that are ours to answer for; undefined where there are none. */
export function routeStatus(
  { metadata, spec }: gatewayApi.HTTPRoute,
  look: RouteStatusLook,
): { parents: gatewayApi.RouteParentStatus[] } | undefined {
  const { namespace = "", generation = 0 } = metadata;
  const references = look.problems.filter(({ origin }) => !origin.field.startsWith("spec.parentRefs"));
  const [worst] = references;
  const resolved = worst
    ? said(
        "ResolvedRefs",
        false,
        reasonOf(worst),
        references.map(({ origin, message }) => `${origin.field}: ${message}`).join("\n"),
        generation,
      )
    : said("ResolvedRefs", true, "ResolvedRefs", "", generation);
  const idle = withoutEffect("HTTPRoute", spec, generation);
  const parents = (spec.parentRefs ?? []).flatMap((parentRef, i): gatewayApi.RouteParentStatus[] => {
    const of = parentRef.namespace ?? namespace;
    const missing = look.problems.some(({ origin }) => origin.field === `spec.parentRefs[${i}]`);
    let accepted: Said;
    if ((parentRef.kind ?? "Gateway") === "Gateway") {
      const gateway = look.gateway(of, parentRef.name);
      if (gateway?.spec.gatewayClassName !== gatewayClass) return [];
      const servers = (look.gatewayRules(of, parentRef.name)?.servers ?? []).filter(
        (server) =>
          (!parentRef.sectionName || server.portName === parentRef.sectionName) &&
          (!parentRef.port || server.port === parentRef.port),
      );
      const allowed = servers.filter(({ hosts }) =>
        hosts.some((each) => each.namespace === "*" || each.namespace === namespace),
      );
      accepted =
        missing || servers.length === 0
          ? said(
              "Accepted",
              false,
              "NoMatchingParent",
              "the Gateway has no such listener that is served",
              generation,
            )
          : allowed.length === 0
            ? said(
                "Accepted",
                false,
                "NotAllowedByListeners",
                `its listeners take no routes of ${namespace}`,
                generation,
              )
            : look.rules && allowed.some((server) => shares(server, look.rules!))
              ? said("Accepted", true, "Accepted", "", generation)
              : said(
                  "Accepted",
                  false,
                  "NoMatchingListenerHostname",
                  "no listener has one of its hostnames",
                  generation,
                );
    } else
      accepted = missing
        ? said("Accepted", false, "NoMatchingParent", "there is no such service", generation)
        : said("Accepted", true, "Accepted", "", generation);
    return [
      {
        parentRef,
        controllerName: kinds.gatewayController,
        conditions: [accepted, resolved, ...idle] as Condition[],
      },
    ];
  });
  return parents.length > 0 ? { parents } : undefined;
}

function reasonOf({ message, origin }: Finding): string {
  if (message.includes("ReferenceGrant")) return "RefNotPermitted";
  return origin.field.endsWith(".kind") ? "InvalidKind" : "BackendNotFound";
}
