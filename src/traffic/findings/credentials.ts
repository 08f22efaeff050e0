/** What is wrong with the Secrets that Gateways and DestinationRules name. */
import type { GatewayServer, TrafficPolicy } from "../../api/index.ts";
import { credentialOf, needsCredential } from "../gateways.ts";
import type { Finding } from "../model.ts";
import { finding } from "./codes.ts";
import type { Look } from "./look.ts";
import type { At } from "./origin.ts";

/** What a proxy wants of a Secret. */
type Part = "certificate" | "ca";

/** Of a server that terminates TLS: its certificate, and the CA that it checks clients by. */
export function serverCredentialFindings(
  server: GatewayServer,
  at: At,
  field: string,
  look: Look,
): Finding[] {
  const name = credentialOf(server);
  if (!name || !needsCredential(server)) return [];
  const { tls } = server;
  const found = partFindings(name, "certificate", at, `${field}.tls.credentialName`, look);
  if (found.length > 0 || tls?.mode === "SIMPLE") return found;
  if (tls?.caCertCredentialName)
    return partFindings(tls.caCertCredentialName, "ca", at, `${field}.tls.caCertCredentialName`, look);
  return besideFindings(name, at, `${field}.tls.credentialName`, look);
}

/** Of a policy for gateways: what they show, and the CA that they check servers by. */
export function policyCredentialFindings(
  tls: TrafficPolicy["tls"],
  at: At,
  field: string,
  look: Look,
): Finding[] {
  const name = tls?.credentialName;
  if (!name || (tls.mode !== "SIMPLE" && tls.mode !== "MUTUAL")) return [];
  const own = `${field}.tls.credentialName`;
  const found = tls.mode === "MUTUAL" ? partFindings(name, "certificate", at, own, look) : [];
  return found.length > 0 || tls.insecureSkipVerify ? found : besideFindings(name, at, own, look);
}

function partFindings(name: string, part: Part, at: At, field: string, look: Look): Finding[] {
  if (!look.credentials) return [];
  const full = `${look.mesh.namespace}/${name}`;
  const known = look.credentials.get(full);
  if (!known) return look.credentials.all ? [missing(full, at, field)] : [];
  const reason = part === "ca" ? known.caProblem : known.certificateProblem;
  if (reason !== undefined) return [finding("WEFT0161", at(field), { name: full, reason })];
  if (part === "certificate" && known.ends !== undefined && look.credentials.reached(known.ends)) {
    const ended = `its certificate ended at ${new Date(known.ends).toISOString()}`;
    return [finding("WEFT0161", at(field), { name: full, reason: ended })];
  }
  return [];
}

/** A CA is in the Secret itself, or in one beside it. */
function besideFindings(name: string, at: At, field: string, look: Look): Finding[] {
  if (!look.credentials) return [];
  const full = `${look.mesh.namespace}/${name}`;
  const [own, beside] = [look.credentials.get(full), look.credentials.get(`${full}-cacert`)];
  if (own?.caProblem === undefined && own) return [];
  if (beside) return partFindings(`${name}-cacert`, "ca", at, field, look);
  if (!look.credentials.all) return [];
  if (!own) return [missing(full, at, field)];
  const reason = `${own.caProblem}, and there is no Secret ${full}-cacert`;
  return [finding("WEFT0161", at(field), { name: full, reason })];
}

function missing(name: string, at: At, field: string): Finding {
  const more =
    ": gateways' Secrets are in the mesh's own namespace. Connections are refused until it is there";
  return finding("WEFT0101", at(field), { what: "Secret", name, more });
}
