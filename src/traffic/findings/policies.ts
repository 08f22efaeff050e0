/** What is wrong with Sidecars, PeerAuthentications, AuthorizationPolicies and RateLimits. */
import { isRange } from "../../addresses/index.ts";
import type {
  AuthorizationPolicy,
  IngressListener,
  PeerAuthentication,
  RateLimit,
  Sidecar,
} from "../../api/index.ts";
import { conditionKeys, fits, targetOf, targetRefsOf } from "../authorization.ts";
import type { Finding } from "../model.ts";
import { isPort, milliseconds } from "../names.ts";
import { isUsable } from "../rate-limits.ts";
import { applicationEndpoint, ingressProtocol } from "../sidecars.ts";
import { regexProblem } from "../valid.ts";
import { selects } from "../workloads.ts";
import { finding } from "./codes.ts";
import type { Look } from "./look.ts";
import { type At, labelText, originOf } from "./origin.ts";

function selectorFindings(
  at: At,
  namespace: string,
  labels: Readonly<Record<string, string>> | undefined,
  field: string,
  look: Look,
): Finding[] {
  if (!labels || Object.keys(labels).length === 0) return [];
  // The root namespace's policies with a selector are for the whole mesh.
  if (namespace === look.mesh.namespace) return [];
  if (look.pods(namespace).some((pod) => selects(labels, pod.labels))) return [];
  return [finding("WEFT0127", at(field), { labels: labelText(labels) })];
}

/** Selectors without pods, hosts that are not `namespace/host`. */
export function sidecarFindings(sidecar: Sidecar, look: Look): Finding[] {
  const at = originOf("Sidecar", sidecar);
  const { namespace = "" } = sidecar.metadata;
  const found = selectorFindings(
    at,
    namespace,
    sidecar.spec?.workloadSelector?.labels,
    "spec.workloadSelector",
    look,
  );
  const { ingress = [], egress = [] } = sidecar.spec ?? {};
  for (const [field, listeners] of [["ingress", ingress] as const, ["egress", egress] as const])
    listeners.forEach(({ captureMode }, i) => {
      if (captureMode === "NONE")
        found.push(
          finding("WEFT0901", at(`spec.${field}[${i}].captureMode`), {
            reason: "NONE is not served: connections are captured",
          }),
        );
    });
  found.push(...ingressFindings(ingress, at));
  egress.forEach(({ port }, i) => {
    if (port?.number !== undefined && port.number !== 0 && !isPort(port.number))
      found.push(finding("WEFT0106", at(`spec.egress[${i}].port.number`), { reason: "it is no port" }));
  });
  for (const [i, { hosts }] of egress.entries())
    for (const [j, host] of (hosts ?? []).entries())
      if (!host.includes("/"))
        found.push(
          finding("WEFT0106", at(`spec.egress[${i}].hosts[${j}]`), {
            reason: `"${host}" is not namespace/host, as ./* or */catalog.example.com are`,
          }),
        );
  return found;
}

/** Ports that are none, and applications that are elsewhere. */
function ingressFindings(ingress: readonly IngressListener[], at: At): Finding[] {
  const found: Finding[] = [];
  const ports = new Set<number>();
  ingress.forEach((listener, i) => {
    const { port, defaultEndpoint } = listener;
    const field = `spec.ingress[${i}]`;
    const wrong = (where: string, reason: string) =>
      found.push(finding("WEFT0106", at(`${field}.${where}`), { reason }));
    const protocol = ingressProtocol(listener);
    const number = port?.number;
    if (!isPort(number)) wrong("port.number", "there must be a number from 1 to 65535");
    else if (ports.has(number)) wrong("port.number", `${number} is there twice, the first counts`);
    else ports.add(number);
    if (!protocol || protocol === "udp")
      wrong("port.protocol", `the protocol "${port?.protocol ?? ""}" is not known`);
    if (defaultEndpoint?.startsWith("unix:")) {
      const reason = "sockets of files are not served yet, the port is as if it were not there";
      found.push(finding("WEFT0901", at(`${field}.defaultEndpoint`), { reason }));
    } else if (defaultEndpoint && !applicationEndpoint(defaultEndpoint))
      wrong(
        "defaultEndpoint",
        `"${defaultEndpoint}" is not 127.0.0.1:PORT, [::1]:PORT, 0.0.0.0:PORT or [::]:PORT`,
      );
  });
  return found;
}

/** Selectors without pods, ports without a selector. */
export function peerAuthenticationFindings(policy: PeerAuthentication, look: Look): Finding[] {
  const at = originOf("PeerAuthentication", policy);
  const { namespace = "" } = policy.metadata;
  const labels = policy.spec?.selector?.matchLabels;
  const found = selectorFindings(at, namespace, labels, "spec.selector", look);
  const ports = Object.keys(policy.spec?.portLevelMtls ?? {});
  if (ports.length > 0 && !Object.keys(labels ?? {}).length)
    found.push(
      finding("WEFT0106", at("spec.portLevelMtls"), {
        reason: "it counts only with a selector: ports are a workload's",
      }),
    );
  return found;
}

/** Selectors without pods, sources, operations and conditions that say nothing. */
export function authorizationPolicyFindings(policy: AuthorizationPolicy, look: Look): Finding[] {
  const at = originOf("AuthorizationPolicy", policy);
  const { namespace = "" } = policy.metadata;
  const { spec } = policy;
  const found = selectorFindings(at, namespace, spec?.selector?.matchLabels, "spec.selector", look);
  if (spec?.action === "CUSTOM")
    found.push(
      finding("WEFT0901", at("spec.action"), {
        reason: "there are no external authorizers yet: what CUSTOM would ask them about is refused",
      }),
    );
  (targetRefsOf(spec) ?? []).forEach((ref, i) => {
    const field = spec?.targetRefs?.length ? `spec.targetRefs[${i}]` : "spec.targetRef";
    const target = targetOf(ref);
    if (!target) {
      const what = `${ref.kind ?? ""} ${ref.name ?? ""}`.trim();
      const reason =
        ref.kind === "GatewayClass" || ref.kind === "ServiceEntry"
          ? `${what} would be for waypoints, which are not there: it holds for nobody`
          : `${what} is no Service and no Gateway of this namespace: it holds for nobody`;
      found.push(finding("WEFT0901", at(field), { reason }));
    } else if (!look.target(namespace, target))
      found.push(finding("WEFT0101", at(field), { what: ref.kind ?? "", name: target.name }));
  });
  (spec?.rules ?? []).forEach((rule, i) => {
    (rule.from ?? []).forEach(({ source }, j) => {
      for (const list of ["ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks"] as const)
        (source?.[list] ?? []).forEach((block, k) => {
          if (!isRange(block))
            found.push(
              finding("WEFT0106", at(`spec.rules[${i}].from[${j}].source.${list}[${k}]`), {
                reason: `"${block}" is no address or range`,
              }),
            );
        });
    });
    (rule.to ?? []).forEach(({ operation }, j) => {
      for (const list of ["ports", "notPorts"] as const)
        (operation?.[list] ?? []).forEach((port, k) => {
          if (!/^\d+$/.test(port) || Number(port) > 65_535)
            found.push(
              finding("WEFT0106", at(`spec.rules[${i}].to[${j}].operation.${list}[${k}]`), {
                reason: `"${port}" is no port`,
              }),
            );
        });
    });
    (rule.when ?? []).forEach(({ key = "", values = [], notValues = [] }, j) => {
      for (const value of [...values, ...notValues])
        if (!fits(key, value))
          found.push(
            finding("WEFT0106", at(`spec.rules[${i}].when[${j}]`), {
              reason: `"${value}" is no value of ${key}`,
            }),
          );
      if (/^request\.auth\./.test(key))
        found.push(
          finding("WEFT0901", at(`spec.rules[${i}].when[${j}].key`), {
            reason: `${key} comes from RequestAuthentication, which is not served: nobody has it`,
          }),
        );
      else if (!conditionKeys.test(key))
        found.push(
          finding("WEFT0106", at(`spec.rules[${i}].when[${j}].key`), { reason: `"${key}" is not known` }),
        );
    });
  });
  return found;
}

/** Selectors without pods, limits that cannot be counted. */
export function rateLimitFindings(limit: RateLimit, look: Look): Finding[] {
  const at = originOf("RateLimit", limit);
  const { namespace = "" } = limit.metadata;
  const found = selectorFindings(at, namespace, limit.spec?.selector?.matchLabels, "spec.selector", look);
  (limit.spec?.limits ?? []).forEach((each, i) => {
    const field = `spec.limits[${i}]`;
    const interval = milliseconds(each.interval);
    if (interval === undefined || interval < 50)
      found.push(
        finding("WEFT0106", at(`${field}.interval`), {
          reason: `"${each.interval}" is no duration of 50ms or more`,
        }),
      );
    else if (!isUsable(each))
      found.push(
        finding("WEFT0106", at(field), {
          reason:
            "tokens and burst are whole numbers from 1 on, methods are words in capitals, headers have names that headers can have",
        }),
      );
    for (const [name, { regex }] of Object.entries(each.match?.headers ?? {})) {
      const problem = regex ? regexProblem(regex) : undefined;
      if (problem)
        found.push(
          finding("WEFT0106", at(`${field}.match.headers.${name}`), {
            reason: `not a regular expression of RE2: ${problem}`,
          }),
        );
    }
    const problem = each.match?.path?.regex ? regexProblem(each.match.path.regex) : undefined;
    if (problem)
      found.push(
        finding("WEFT0106", at(`${field}.match.path`), {
          reason: `not a regular expression of RE2: ${problem}`,
        }),
      );
  });
  (limit.spec?.targetRefs ?? []).forEach(({ kind, name = "" }, i) => {
    if (kind === "Gateway" && !look.gateway(`${namespace}/${name}`))
      found.push(finding("WEFT0101", at(`spec.targetRefs[${i}]`), { what: "gateway", name }));
  });
  return found;
}
