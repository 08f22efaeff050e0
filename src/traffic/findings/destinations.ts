/** What is wrong with DestinationRules and ServiceEntries. */
import { isIP } from "node:net";
import { isRange } from "../../addresses/index.ts";
import type { DestinationRule, ServiceEntry, TrafficPolicy } from "../../api/index.ts";
import type { Finding } from "../model.ts";
import { fullHost, isHost, isPort, milliseconds } from "../names.ts";
import { isTcp, namedProtocol } from "../protocol.ts";
import { timeOf } from "../registry.ts";
import { isSubsetName } from "../rules.ts";
import { selects } from "../workloads.ts";
import { finding } from "./codes.ts";
import { policyCredentialFindings } from "./credentials.ts";
import type { Look } from "./look.ts";
import { type At, labelText, originOf } from "./origin.ts";

/** Hosts that are not there, subsets and policies that another rule has already, settings that say nothing. */
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
  const workloads = spec.workloadSelector?.matchLabels ?? {};
  const isForSome = Object.keys(workloads).length > 0;
  if (isForSome && !look.pods(namespace).some((pod) => selects(workloads, pod.labels)))
    found.push(finding("WEFT0127", at("spec.workloadSelector"), { labels: labelText(workloads) }));
  // Others of this namespace for the host that are older: they win where both say something. One that is for some
  // workloads stands alone.
  const older = look
    .rulesOf(host)
    .filter(
      (other) =>
        !isForSome &&
        !other.selector &&
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
    if (subset.trafficPolicy) policyFindings(subset.trafficPolicy, `${field}.trafficPolicy`, at, look, found);
  });
  const winner = older.find((other) => other.policy);
  if (spec.trafficPolicy && winner)
    found.push(
      finding("WEFT0909", at("spec.trafficPolicy"), { host, winner: `DestinationRule ${winner.key}` }),
    );
  if (spec.trafficPolicy) policyFindings(spec.trafficPolicy, "spec.trafficPolicy", at, look, found);
  return found;
}

function policyFindings(policy: TrafficPolicy, field: string, at: At, look: Look, found: Finding[]): void {
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
    found.push(...policyCredentialFindings(tls, at, own, look));
    const reasons = [
      ...(tls?.credentialName ? ["with credentialName the list comes from the Secret (ca.crl)"] : []),
      ...(tls?.insecureSkipVerify ? ["nothing is verified (insecureSkipVerify)"] : []),
      ...(tls?.mode !== "SIMPLE" && tls?.mode !== "MUTUAL" ? ["it is for SIMPLE and MUTUAL"] : []),
    ];
    if (tls?.caCrl && reasons[0])
      found.push(finding("WEFT0901", at(`${own}.tls.caCrl`), { reason: reasons[0] }));
    if (tls?.mode === "MUTUAL" && !tls.credentialName && !(tls.clientCertificate && tls.privateKey))
      found.push(
        finding("WEFT0106", at(`${own}.tls`), {
          reason: "MUTUAL needs clientCertificate and privateKey, or a credentialName",
        }),
      );
  }
}

/** Hosts, addresses and ports that cannot be called. */
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
    if (!isRange(address))
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
