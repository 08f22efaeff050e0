/** What is wrong with each object, or not served of it. */
import type { KubeObject } from "../../api/index.ts";
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
  add("KubeGateway", inputs.kubeGateways, () => []);
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

/** Fields that have no effect, and (in files; an API server drops them) fields that nobody knows. */
export function fieldFindings(kind: string, object: KubeObject & { spec?: unknown }): Finding[] {
  const at = originOf(kind, object);
  return unservedIn(kind, object.spec).map(({ field, why }) =>
    why === undefined
      ? finding("WEFT0902", at(field), { kind })
      : finding("WEFT0901", at(field), { reason: why }),
  );
}
