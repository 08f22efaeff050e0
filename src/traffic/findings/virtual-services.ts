import { isRange } from "../../addresses/index.ts";
import type { Destination, VirtualService } from "../../api/index.ts";
import { sharedHosts } from "../gateways.ts";
import type { Finding, Origin } from "../model.ts";
import { fullHost, isHost } from "../names.ts";
import { matchProblems, routeProblems } from "../valid.ts";
import { fullGateway, gatewaysOf, meshGateway } from "../virtual-services.ts";
import { finding } from "./codes.ts";
import type { Look } from "./look.ts";

/** What is wrong with a VirtualService. */
export function virtualServiceFindings({ metadata, spec }: VirtualService, look: Look): Finding[] {
  const found: Finding[] = [];
  const namespace = metadata.namespace ?? "";
  const at = (field: string): Origin => ({ kind: "VirtualService", namespace, name: metadata.name, field });
  const hosts = (spec?.hosts ?? []).map((host) => fullHost(host, namespace, look.mesh.clusterDomain));
  const gateways = spec ? gatewaysOf({ metadata, spec } as VirtualService) : [];

  // Where it applies.
  hosts.forEach((host, i) => {
    if (!isHost(host))
      found.push(finding("WEFT0106", at(`spec.hosts[${i}]`), { reason: `"${host}" is no host` }));
  });
  for (const [i, gateway] of (spec?.gateways ?? []).entries()) {
    const key = fullGateway(gateway, namespace);
    if (key === meshGateway) continue;
    const known = look.gateway(key);
    if (!known) {
      found.push(finding("WEFT0101", at(`spec.gateways[${i}]`), { what: "gateway", name: gateway }));
      continue;
    }
    hosts.forEach((host, j) => {
      if (!known.servers.some((server) => sharedHosts(server, namespace, host).length > 0))
        found.push(finding("WEFT0132", at(`spec.hosts[${j}]`), { host, gateway: key }));
    });
  }
  if (gateways.includes(meshGateway))
    hosts.forEach((host, i) => {
      const winner = look.winner(host, namespace);
      if (
        winner &&
        (winner.namespace !== namespace || winner.name !== metadata.name) &&
        winner.hosts.includes(host)
      )
        found.push(
          finding("WEFT0109", at(`spec.hosts[${i}]`), { host, winner: `${winner.kind} ${winner.key}` }),
        );
    });

  // Its routes.
  const to = (destination: Destination | undefined, field: string): void => {
    found.push(...destinationFindings(destination, field, namespace, at, look));
  };
  let allTaken: string | undefined;
  (spec?.http ?? []).forEach((route, i) => {
    const field = `spec.http[${i}]`;
    if (allTaken)
      found.push(
        finding("WEFT0130", at(field), { reason: `${allTaken} takes every request before it is looked at` }),
      );
    for (const { field: where, message } of routeProblems(route, field))
      found.push(finding("WEFT0106", at(where), { reason: message }));
    (route.match ?? []).forEach((match, j) => {
      for (const { field: where, message } of matchProblems(match, `${field}.match[${j}]`))
        found.push(finding("WEFT0106", at(where), { reason: message }));
      for (const [k, gateway] of (match.gateways ?? []).entries())
        if (!gateways.includes(fullGateway(gateway, namespace)))
          found.push(
            finding("WEFT0130", at(`${field}.match[${j}].gateways[${k}]`), {
              reason: `"${gateway}" is not among the object's gateways`,
            }),
          );
    });
    const weights = route.route ?? [];
    const sum = weights.reduce((total, { weight }) => total + (weight ?? 0), 0);
    if (weights.length > 1 && sum > 0 && sum !== 100)
      found.push(finding("WEFT0903", at(`${field}.route`), { sum }));
    for (const [j, { destination }] of weights.entries()) to(destination, `${field}.route[${j}].destination`);
    if (route.mirror) to(route.mirror, `${field}.mirror`);
    for (const [j, { destination }] of (route.mirrors ?? []).entries())
      to(destination, `${field}.mirrors[${j}].destination`);
    if (route.delegate) {
      const key = `${route.delegate.namespace || namespace}/${route.delegate.name ?? ""}`;
      const other = look.virtualService(key);
      if (!other)
        found.push(
          finding("WEFT0101", at(`${field}.delegate`), { what: "delegate VirtualService", name: key }),
        );
      else if (!other.isDelegate)
        found.push(
          finding("WEFT0106", at(`${field}.delegate`), {
            reason: `${key} has hosts of its own: it cannot be delegated to`,
          }),
        );
    }
    const everything =
      !route.match?.length ||
      route.match.some((match) => Object.keys(match).every((name) => name === "name")) ||
      route.match.some(({ name: _, ...rest }) => Object.keys(rest).length === 1 && rest.uri?.prefix === "/");
    if (everything && !allTaken && !route.delegate) allTaken = field;
  });
  for (const part of ["tls", "tcp"] as const)
    (spec?.[part] ?? []).forEach((route, i) => {
      const field = `spec.${part}[${i}]`;
      if (part === "tls" && !(spec?.tls?.[i]?.match ?? []).some(({ sniHosts }) => sniHosts?.length))
        found.push(finding("WEFT0106", at(`${field}.match`), { reason: "there must be sniHosts" }));
      if (part === "tls")
        (spec?.tls?.[i]?.match ?? []).forEach(({ sniHosts = [] }, j) => {
          for (const host of sniHosts)
            if (!isHost(host.toLowerCase()))
              found.push(
                finding("WEFT0106", at(`${field}.match[${j}].sniHosts`), { reason: `"${host}" is no host` }),
              );
        });
      (route.match ?? []).forEach(({ destinationSubnets = [], gateways: some = [] }, j) => {
        for (const subnet of destinationSubnets)
          if (!isRange(subnet))
            found.push(
              finding("WEFT0106", at(`${field}.match[${j}].destinationSubnets`), {
                reason: `"${subnet}" is no address or range`,
              }),
            );
        for (const [k, gateway] of some.entries())
          if (!gateways.includes(fullGateway(gateway, namespace)))
            found.push(
              finding("WEFT0130", at(`${field}.match[${j}].gateways[${k}]`), {
                reason: `"${gateway}" is not among the object's gateways`,
              }),
            );
      });
      const weights = route.route ?? [];
      if (weights.length === 0)
        found.push(finding("WEFT0106", at(field), { reason: "there must be a route" }));
      for (const [j, { destination }] of weights.entries())
        to(destination, `${field}.route[${j}].destination`);
      const sum = weights.reduce((total, { weight }) => total + (weight ?? 0), 0);
      if (weights.length > 1 && sum !== 100) found.push(finding("WEFT0903", at(`${field}.route`), { sum }));
    });
  return found;
}

/** Whether a destination is there: its host, its subset, its port. */
function destinationFindings(
  destination: Destination | undefined,
  field: string,
  namespace: string,
  at: (field: string) => Origin,
  look: Look,
): Finding[] {
  if (!destination?.host) return [];
  const host = fullHost(destination.host, namespace, look.mesh.clusterDomain);
  const service = look.service(host, namespace);
  if (!service) {
    const full = `${host}.svc.${look.mesh.clusterDomain}`;
    if (host.includes(".") && look.service(full, namespace))
      return [finding("WEFT0907", at(`${field}.host`), { host, full })];
    return [finding("WEFT0101", at(`${field}.host`), { what: "host", name: destination.host, more: "" })];
  }
  const found: Finding[] = [];
  if (destination.subset) {
    const subsets = look.rule(host, service, namespace)?.subsets ?? [];
    // Some workloads may have rules of their own.
    const ofSome = look
      .rulesOf(host)
      .filter((rule) => rule.selector && rule.namespace === namespace)
      .flatMap((rule) => rule.subsets);
    const known = [...subsets.map(({ value }) => value), ...ofSome];
    if (!known.some(({ name }) => name === destination.subset))
      found.push(
        finding("WEFT0101", at(`${field}.subset`), {
          what: "subset",
          name: destination.subset,
          more: `: no DestinationRule for the host "${host}" defines it, so requests get 503`,
        }),
      );
  }
  const port = destination.port?.number;
  if (port && !service.ports.some(({ number }) => number === port))
    found.push(
      finding("WEFT0101", at(`${field}.port.number`), {
        what: "port",
        name: `${host}:${port}`,
        more:
          service.ports.length > 0 ? `: it has ${service.ports.map(({ number }) => number).join(", ")}` : "",
      }),
    );
  if (!port && service.ports.length > 1) found.push(finding("WEFT0905", at(`${field}.port`), { host }));
  return found;
}
