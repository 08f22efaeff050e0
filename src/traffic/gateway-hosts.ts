/** Which hosts of a listener that several Gateways share are whose: so that a policy for one leaves the others alone. */
import { gatewayDomains } from "./gateway-routes.ts";
import { type Server, sharedHosts } from "./gateways.ts";
import type { OperationMatch } from "./model.ts";
import { covers } from "./names.ts";
import type { HostRules } from "./virtual-services.ts";

/** The Gateway that a server is of, as a key among all of both APIs. */
export function serversGateway({ kind, namespace, name }: Server): string {
  return `${kind}/${namespace}/${name}`;
}

/**
 * The authorities that reach routes of one Gateway, where others listen on the same port. Envoy takes the most specific
 * host, so the others' hosts below ours are not ours; in doubt a host counts as ours: what is held to too much is closed.
 */
export function hostsOnSharedPort(
  gateway: string,
  servers: readonly Server[],
  rules: (gateway: string) => readonly HostRules[],
): OperationMatch {
  const ours = new Set<string>();
  const theirs = new Set<string>();
  for (const server of servers) {
    const hosts = serversGateway(server) === gateway ? ours : theirs;
    for (const { namespace, hosts: called } of rules(server.gateway))
      for (const host of called.flatMap((each) => sharedHosts(server, namespace, each))) hosts.add(host);
  }
  const below = [...theirs].filter(
    (host) =>
      !ours.has(host) &&
      [...ours].some((own) => covers(own, host)) &&
      ![...ours].some((own) => covers(host, own)),
  );
  const port = servers[0]!.port;
  const domains = (hosts: Iterable<string>) =>
    [...hosts].sort().flatMap((host) => gatewayDomains(host, port));
  return {
    // Without routes there is nothing to reach: a host that nobody has.
    hosts: ours.size > 0 ? domains(ours) : ["routes.invalid"],
    ...(below.length > 0 && { notHosts: domains(below) }),
  };
}
