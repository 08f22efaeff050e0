/** What is wrong with each object, or not served of it. */
import { gatewayApi, type KubeObject } from "../../api/index.ts";
import { type Collection, derive, joinPartitions, type Read } from "../../collections/index.ts";
import type { TrafficInputs } from "../inputs.ts";
import type { Finding } from "../model.ts";
import { unservedIn } from "../served.ts";
import { finding } from "./codes.ts";
import { destinationRuleFindings, serviceEntryFindings } from "./destinations.ts";
import { gatewayFindings } from "./gateways.ts";
import type { Look } from "./look.ts";
import { originOf } from "./origin.ts";
import {
  authorizationPolicyFindings,
  peerAuthenticationFindings,
  rateLimitFindings,
  sidecarFindings,
} from "./policies.ts";
import { virtualServiceFindings } from "./virtual-services.ts";

export { type Code, codes, finding } from "./codes.ts";
export type { Look } from "./look.ts";

/** `look` is undefined for an object outside of the mesh: nothing is said of it. */
export function findingsOf(
  inputs: TrafficInputs,
  routeFindings: Collection<readonly Finding[]>,
  gatewayStatuses: Collection<gatewayApi.GatewayStatus>,
  look: (object: KubeObject, read: Read) => Look | undefined,
): Collection<readonly Finding[]> {
  const all = joinPartitions<readonly Finding[]>(inputs.mesh.engine, { name: "findings" });
  const add = <T extends KubeObject & { spec?: unknown }>(
    kind: string,
    objects: Collection<T>,
    make: (object: T, look: Look) => Finding[],
  ) =>
    all.add(
      kind,
      derive(
        objects,
        (object, read): readonly Finding[] | undefined => {
          const seen = look(object, read);
          if (!seen || object.metadata.deletionTimestamp) return undefined;
          const found = [...make(object, seen), ...fieldFindings(kind, object)];
          return found.length > 0 ? found : undefined;
        },
        { name: `findings.${kind}` },
      ),
    );
  add("VirtualService", inputs.virtualServices, virtualServiceFindings);
  add("DestinationRule", inputs.destinationRules, destinationRuleFindings);
  add("Gateway", inputs.gateways, gatewayFindings);
  add("ServiceEntry", inputs.serviceEntries, serviceEntryFindings);
  add("Sidecar", inputs.sidecars, sidecarFindings);
  add("PeerAuthentication", inputs.peerAuthentications, peerAuthenticationFindings);
  add("AuthorizationPolicy", inputs.authorizationPolicies, authorizationPolicyFindings);
  add("RateLimit", inputs.rateLimits, rateLimitFindings);
  all.add(
    "KubeGateway",
    derive(
      inputs.kubeGateways,
      (gateway, read, key) => {
        if (!look(gateway, read) || gateway.metadata.deletionTimestamp) return undefined;
        const found = kubeGatewayFindings(gateway, read.get(gatewayStatuses, key));
        return found.length > 0 ? found : undefined;
      },
      { name: "findings.KubeGateway" },
    ),
  );
  all.add(
    "HTTPRoute",
    derive(
      inputs.httpRoutes,
      (route, read, key) => {
        if (!look(route, read)) return undefined;
        const found = [...(read.get(routeFindings, key) ?? []), ...fieldFindings("HTTPRoute", route)];
        return found.length > 0 ? found : undefined;
      },
      { name: "findings.HTTPRoute" },
    ),
  );
  return all;
}

/** What a Gateway of the Gateway API is told in its status; one of another class is not ours to judge. */
function kubeGatewayFindings(
  gateway: gatewayApi.Gateway,
  status: gatewayApi.GatewayStatus | undefined,
): Finding[] {
  const at = originOf("KubeGateway", gateway);
  const { gatewayClassName } = gateway.spec;
  if (gatewayClassName !== gatewayApi.gatewayClass)
    return [finding("WEFT0911", at("spec.gatewayClassName"), { class: gatewayClassName })];
  const found = fieldFindings("KubeGateway", gateway);
  for (const [i, { conditions }] of (status?.listeners ?? []).entries())
    for (const { type, status: is, message } of conditions)
      if (is === "False" && type === "ResolvedRefs")
        found.push(
          finding("WEFT0106", at(`spec.listeners[${i}].tls.certificateRefs`), { reason: message ?? "" }),
        );
      else if (is === "False" && type === "Accepted")
        found.push(finding("WEFT0901", at(`spec.listeners[${i}].protocol`), { reason: message ?? "" }));
  return found;
}

/** Fields that have no effect, and (in files; an API server drops them) fields that nobody knows. */
function fieldFindings(kind: string, object: KubeObject & { spec?: unknown }): Finding[] {
  const at = originOf(kind, object);
  return unservedIn(kind, object.spec).map(({ field, why }) =>
    why === undefined
      ? finding("WEFT0902", at(field), { kind })
      : finding("WEFT0901", at(field), { reason: why }),
  );
}
