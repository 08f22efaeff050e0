import { isIP } from "node:net";
import type {
  AuthorizationPolicy,
  DestinationRule,
  Gateway,
  PeerAuthentication,
  RateLimit,
  ServiceEntry,
  Sidecar,
  TrafficPolicy,
} from "../../api/index.ts";
import { conditionKeys, fits } from "../authorization.ts";
import { cipherSuites, credentialOf, gatewayRulesOf, needsCredential } from "../gateways.ts";
import type { Finding, Origin } from "../model.ts";
import { fullHost, isHost, isPort, milliseconds } from "../names.ts";
import { isTcp, namedProtocol } from "../protocol.ts";
import { isUsable } from "../rate-limits.ts";
import { isAddress, timeOf } from "../registry.ts";
import { isSubsetName } from "../rules.ts";
import { regexProblem } from "../valid.ts";
import { selects } from "../workloads.ts";
import { finding } from "./codes.ts";
import type { Look } from "./look.ts";

type At = (field: string) => Origin;

export function originOf(kind: string, { metadata }: { metadata: { namespace?: string; name: string } }): At {
  return (field) => ({ kind, namespace: metadata.namespace ?? "", name: metadata.name, field });
}

export function destinationRuleFindings(rule: DestinationRule, look: Look): Finding[] {
  const { metadata, spec } = rule;
  const at = originOf("DestinationRule", rule);
  const namespace = metadata.namespace ?? "";
  if (!spec?.host) return [finding("WEFT0106", at("spec.host"), { reason: "there must be one" })];
  const found: Finding[] = [];
  const host = fullHost(spec.host, namespace, look.mesh.clusterDomain);
  if (!host.startsWith("*") && !look.service(host, namespace)) {
    const full = `${host}.svc.${look.mesh.clusterDomain}`;
    found.push(
      look.service(full, namespace)
        ? finding("WEFT0907", at("spec.host"), { host, full })
        : finding("WEFT0101", at("spec.host"), { what: "host", name: spec.host }),
    );
  }
  // Others of this namespace for the host that are older: they win where both say something.
  const older = look
    .rulesOf(host)
    .filter(
      (other) =>
        other.namespace === namespace &&
        other.name !== metadata.name &&
        (other.created < timeOf(metadata.creationTimestamp) ||
          (other.created === timeOf(metadata.creationTimestamp) && other.name < metadata.name)),
    );
  const names = new Set<string>();
  (spec.subsets ?? []).forEach((subset, i) => {
    const field = `spec.subsets[${i}]`;
    const name = subset.name ?? "";
    if (!isSubsetName(name))
      found.push(
        finding("WEFT0106", at(`${field}.name`), {
          reason: name ? `"${name}" cannot be a subset's name` : "there must be one",
        }),
      );
    const twice = names.has(name);
    names.add(name);
    const winner = older.find((other) => other.subsets.some((each) => each.name === name));
    if (twice || winner)
      found.push(
        finding("WEFT0908", at(`${field}.name`), {
          subset: name,
          host,
          winner: winner ? `DestinationRule ${winner.key}` : "an earlier entry of this object",
        }),
      );
    if (subset.trafficPolicy) policyFindings(subset.trafficPolicy, `${field}.trafficPolicy`, at, found);
  });
  const winner = older.find((other) => other.policy);
  if (spec.trafficPolicy && winner)
    found.push(
      finding("WEFT0909", at("spec.trafficPolicy"), { host, winner: `DestinationRule ${winner.key}` }),
    );
  if (spec.trafficPolicy) policyFindings(spec.trafficPolicy, "spec.trafficPolicy", at, found);
  return found;
}

function policyFindings(policy: TrafficPolicy, field: string, at: At, found: Finding[]): void {
  for (const [i, part] of [policy, ...(policy.portLevelSettings ?? [])].entries()) {
    const own = i === 0 ? field : `${field}.portLevelSettings[${i - 1}]`;
    const locality = part.loadBalancer?.localityLbSetting;
    if (
      locality &&
      !locality.distribute?.length &&
      locality.enabled !== false &&
      !part.outlierDetection &&
      !policy.outlierDetection
    )
      found.push(finding("WEFT0906", at(`${own}.loadBalancer.localityLbSetting`)));
    locality?.distribute?.forEach(({ to }, j) => {
      const sum = Object.values(to ?? {}).reduce((total, each) => total + each, 0);
      if (sum !== 100)
        found.push(
          finding("WEFT0903", at(`${own}.loadBalancer.localityLbSetting.distribute[${j}].to`), { sum }),
        );
    });
    const durations: [string, string | undefined][] = [
      ["connectionPool.tcp.connectTimeout", part.connectionPool?.tcp?.connectTimeout],
      ["connectionPool.tcp.idleTimeout", part.connectionPool?.tcp?.idleTimeout],
      ["connectionPool.http.idleTimeout", part.connectionPool?.http?.idleTimeout],
      ["outlierDetection.interval", part.outlierDetection?.interval],
      ["outlierDetection.baseEjectionTime", part.outlierDetection?.baseEjectionTime],
    ];
    for (const [where, text] of durations)
      if (text !== undefined && !milliseconds(text))
        found.push(
          finding("WEFT0106", at(`${own}.${where}`), {
            reason: `"${text}" is no duration, as 1.5s or 200ms are`,
          }),
        );
    const hash = part.loadBalancer?.consistentHash;
    if (hash) {
      const keys = [hash.httpHeaderName, hash.httpCookie, hash.useSourceIp, hash.httpQueryParameterName];
      if (keys.filter((key) => key).length !== 1)
        found.push(
          finding("WEFT0106", at(`${own}.loadBalancer.consistentHash`), {
            reason: "it hashes one thing: a header, a cookie, a query parameter or the source's address",
          }),
        );
    }
    const tls = part.tls;
    if (tls?.mode === "MUTUAL" && !tls.credentialName && !(tls.clientCertificate && tls.privateKey))
      found.push(
        finding("WEFT0106", at(`${own}.tls`), {
          reason: "MUTUAL needs clientCertificate and privateKey, or a credentialName",
        }),
      );
  }
}

export function gatewayFindings(gateway: Gateway, look: Look): Finding[] {
  const at = originOf("Gateway", gateway);
  const found: Finding[] = [];
  const { servers = [], selector = {} } = gateway.spec ?? {};
  const behind = look.services().filter((service) => service.selector && selects(selector, service.selector));
  if (behind.length === 0)
    found.push(
      finding("WEFT0101", at("spec.selector"), {
        what: "selector",
        name: labelText(selector),
        more: ": no Service of the mesh selects pods with these labels",
      }),
    );
  servers.forEach((server, i) => {
    const field = `spec.servers[${i}]`;
    const protocol = namedProtocol(server.port?.protocol ?? "");
    const port = server.port?.number;
    if (!protocol || !isPort(port)) {
      found.push(
        finding("WEFT0106", at(`${field}.port`), {
          reason: port
            ? `the protocol "${server.port?.protocol ?? ""}" is not known`
            : "there must be a number from 1 to 65535",
        }),
      );
      return;
    }
    if (!server.hosts?.length)
      found.push(finding("WEFT0106", at(`${field}.hosts`), { reason: "there must be one" }));
    const secure = protocol === "https" || protocol === "tls";
    if (secure && !server.tls?.mode)
      found.push(
        finding("WEFT0106", at(`${field}.tls`), { reason: `${server.port?.protocol} needs a tls.mode` }),
      );
    const mode = server.tls?.mode;
    if (needsCredential(server) && !credentialOf(server))
      found.push(
        finding("WEFT0106", at(`${field}.tls.credentialName`), {
          reason: "there must be one: certificates come from Secrets",
        }),
      );
    (server.hosts ?? []).forEach((text, j) => {
      const host = text.slice(text.indexOf("/") + 1).toLowerCase();
      if (!isHost(host))
        found.push(finding("WEFT0106", at(`${field}.hosts[${j}]`), { reason: `"${text}" is no host` }));
    });
    if (server.bind && isIP(server.bind) === 0)
      found.push(finding("WEFT0106", at(`${field}.bind`), { reason: `"${server.bind}" is no address` }));
    (server.tls?.cipherSuites ?? []).forEach((cipher, j) => {
      if (!cipherSuites.has(cipher))
        found.push(
          finding("WEFT0901", at(`${field}.tls.cipherSuites[${j}]`), {
            reason: `proxies do not know "${cipher}"`,
          }),
        );
    });
    if (mode === "AUTO_PASSTHROUGH")
      found.push(
        finding("WEFT0901", at(`${field}.tls.mode`), { reason: "AUTO_PASSTHROUGH is not served yet" }),
      );
    if (behind.length > 0 && !behind.some(({ ports }) => ports.some(({ number }) => number === port)))
      found.push(finding("WEFT0104", at(`${field}.port.number`), { port }));
  });
  // Servers of other Gateways on the same pods and port: the oldest says whether it is plain HTTP.
  const own = gatewayRulesOf(gateway, look.mesh);
  for (const server of own?.servers ?? []) {
    const rivals = look
      .gateways()
      .filter((other) => selects(selector, other.selector) || selects(other.selector, selector))
      .flatMap((other) =>
        other.servers.filter(({ port, bind }) => port === server.port && bind === server.bind),
      );
    const first = [...rivals, server].sort((a, b) =>
      a.created < b.created ? -1 : a.created > b.created ? 1 : a.gateway < b.gateway ? -1 : 1,
    )[0]!;
    const plain = (word: string) => ["http", "http2", "grpc", "grpc-web"].includes(word);
    if (plain(first.protocol) !== plain(server.protocol))
      found.push(
        finding("WEFT0145", at(server.field), {
          port: server.port,
          winner: `Gateway ${first.gateway}`,
          protocol: first.protocol.toUpperCase(),
        }),
      );
  }
  return found;
}

export function serviceEntryFindings(entry: ServiceEntry): Finding[] {
  const at = originOf("ServiceEntry", entry);
  const found: Finding[] = [];
  const { spec } = entry;
  if (!spec?.hosts?.length)
    found.push(finding("WEFT0106", at("spec.hosts"), { reason: "there must be one" }));
  const resolution = spec?.resolution ?? "NONE";
  if (resolution === "DYNAMIC_DNS")
    found.push(finding("WEFT0901", at("spec.resolution"), { reason: "DYNAMIC_DNS is not served yet" }));
  spec?.hosts?.forEach((host, i) => {
    if (host.startsWith("*") && resolution.startsWith("DNS") && !spec.endpoints?.length)
      found.push(
        finding("WEFT0106", at(`spec.hosts[${i}]`), {
          reason: `"${host}" is no name that DNS could answer: it needs endpoints, or resolution NONE`,
        }),
      );
    if (!isHost(host.toLowerCase()))
      found.push(finding("WEFT0106", at(`spec.hosts[${i}]`), { reason: `"${host}" is no host` }));
    else if (!host.includes(".") && host !== "*")
      found.push(
        finding("WEFT0106", at(`spec.hosts[${i}]`), { reason: `"${host}" is a short name: write it whole` }),
      );
  });
  if (resolution === "STATIC" && !spec?.endpoints?.length && !spec?.workloadSelector)
    found.push(
      finding("WEFT0106", at("spec.endpoints"), { reason: "STATIC needs endpoints or a workloadSelector" }),
    );
  if (resolution === "STATIC")
    spec?.endpoints?.forEach(({ address = "" }, i) => {
      if (isIP(address) === 0)
        found.push(
          finding("WEFT0106", at(`spec.endpoints[${i}].address`), {
            reason: `"${address}" is no address; names need resolution DNS`,
          }),
        );
    });
  spec?.addresses?.forEach((address, i) => {
    if (!isAddress(address))
      found.push(
        finding("WEFT0106", at(`spec.addresses[${i}]`), { reason: `"${address}" is no address or range` }),
      );
  });
  if (resolution === "DNS_ROUND_ROBIN" && (spec?.endpoints?.length ?? 0) > 1)
    found.push(
      finding("WEFT0106", at("spec.endpoints"), {
        reason: "DNS_ROUND_ROBIN asks for one name: the first counts",
      }),
    );
  spec?.ports?.forEach((port, i) => {
    if (!isPort(port.number) || (port.targetPort && !isPort(port.targetPort)))
      found.push(
        finding("WEFT0106", at(`spec.ports[${i}]`), { reason: "ports are numbers from 1 to 65535" }),
      );
    const protocol = namedProtocol(port.protocol ?? "");
    if (protocol && isTcp(protocol) && !spec.addresses?.length && resolution !== "NONE")
      found.push(
        finding("WEFT0134", at(`spec.ports[${i}]`), { protocol: port.protocol!, port: port.number ?? 0 }),
      );
  });
  return found;
}

export function labelText(labels: Readonly<Record<string, string>> | undefined): string {
  return Object.entries(labels ?? {})
    .map(([name, value]) => `${name}=${value}`)
    .join(",");
}

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
  for (const [i, { hosts }] of (sidecar.spec?.egress ?? []).entries())
    for (const [j, host] of (hosts ?? []).entries())
      if (!host.includes("/"))
        found.push(
          finding("WEFT0106", at(`spec.egress[${i}].hosts[${j}]`), {
            reason: `"${host}" is not namespace/host, as ./* or */catalog.example.com are`,
          }),
        );
  return found;
}

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

export function authorizationPolicyFindings(policy: AuthorizationPolicy, look: Look): Finding[] {
  const at = originOf("AuthorizationPolicy", policy);
  const { namespace = "" } = policy.metadata;
  const { spec } = policy;
  const found = selectorFindings(at, namespace, spec?.selector?.matchLabels, "spec.selector", look);
  if (spec?.action === "CUSTOM")
    found.push(
      finding("WEFT0901", at("spec.action"), {
        reason: "CUSTOM is not served: there are no external authorizers yet; the policy denies nothing",
      }),
    );
  (spec?.rules ?? []).forEach((rule, i) => {
    (rule.from ?? []).forEach(({ source }, j) => {
      for (const list of ["ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks"] as const)
        (source?.[list] ?? []).forEach((block, k) => {
          if (!isAddress(block))
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
