/** What is wrong with Gateways. */
import { isIP } from "node:net";
import type { Gateway } from "../../api/index.ts";
import { cipherSuites } from "../gateway-listeners.ts";
import { credentialOf, gatewayRulesOf, needsCredential } from "../gateways.ts";
import type { Finding } from "../model.ts";
import { isHost, isPort } from "../names.ts";
import { namedProtocol } from "../protocol.ts";
import { selects } from "../workloads.ts";
import { finding } from "./codes.ts";
import { serverCredentialFindings } from "./credentials.ts";
import type { Look } from "./look.ts";
import { labelText, originOf } from "./origin.ts";

/** Servers that nobody can reach, or that are not served. */
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
    if (needsCredential(server) && !credentialOf(server))
      found.push(
        finding("WEFT0106", at(`${field}.tls.credentialName`), {
          reason: "there must be one: certificates come from Secrets",
        }),
      );
    found.push(...serverCredentialFindings(server, at, field, look));
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
