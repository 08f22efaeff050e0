/** What a connected proxy has, for people: `weft proxy-config` decodes the bytes. Private keys are left out. */
import { Secret } from "#protocols/envoy/extensions/transport_sockets/tls/v3/secret.ts";
import type { Encoded, Kind } from "./encode/index.ts";
import type { ConnectedProxy, ProxyStatus } from "./server.ts";

export interface DumpedResource {
  kind: Kind;
  name: string;
  /** Of what the proxy is to have. */
  version: string;
  /** Of what it has; absent: nothing yet, or it was rejected and there was none before. */
  held?: string;
  /** The client's words, when it did not take this version. */
  rejected?: string;
  /** The message as base64; its type is that of the kind. */
  message: string;
}

export interface ProxyDump {
  proxy: ProxyStatus;
  resources: DumpedResource[];
}

/** Listeners, clusters, and of the kinds that are asked for by name what the proxy has asked for. */
export function dumpOf({ status, view, session }: ConnectedProxy, only?: Kind): ProxyDump {
  const resources: DumpedResource[] = [];
  for (const kind of ["listener", "route", "cluster", "endpoints", "secret"] as const) {
    if (only && only !== kind) continue;
    const held = session.held(kind);
    const rejected = new Map(status.kinds[kind].rejected.map((each) => [each.name, each]));
    const names = new Set([...view.names(kind), ...held.keys(), ...rejected.keys()]);
    for (const name of [...names].sort()) {
      const wanted = view.find(kind, name);
      if (!wanted) continue;
      const has = held.get(name);
      const reason = rejected.get(name)?.reason;
      resources.push({
        kind,
        name,
        version: wanted.version,
        ...(has && { held: has }),
        ...(reason !== undefined && { rejected: reason }),
        message: Buffer.from(shown(wanted)).toString("base64"),
      });
    }
  }
  return { proxy: status, resources };
}

/** Envoy's own dump says the same in place of a key. */
const redacted = { specifier: { $case: "inlineString" as const, value: "[redacted]" } };

function shown({ kind, message }: Encoded): Uint8Array {
  if (kind !== "secret") return message;
  const secret = Secret.decode(message);
  if (secret.type?.$case !== "tlsCertificate") return message;
  const value = { ...secret.type.value, privateKey: redacted };
  return Secret.encode({ ...secret, type: { $case: "tlsCertificate", value } }).finish();
}
