/**
 * TLS contexts. Our own identity and the mesh's trust come from files that the agent beside the proxy keeps
 * (SDS by path); credentials of gateways come over ADS.
 */
import {
  DownstreamTlsContext as DownstreamContext,
  UpstreamTlsContext as UpstreamContext,
} from "#protocols/envoy/extensions/transport_sockets/tls/v3/tls.ts";
import type { DownstreamTls, UpstreamTls } from "../../traffic/index.ts";
import { fromAds, pack } from "./pack.ts";

/** Where the agent keeps `default.json` and `ROOTCA.json`, in the proxy's container. */
export const sdsDirectory = "/etc/istio/proxy/sds";
/** The CA certificates of the distribution, for servers outside of the mesh. */
const systemRoots = "/etc/ssl/certs/ca-certificates.crt";

const type = "envoy.extensions.transport_sockets.tls.v3";

const fromFile = (name: "default" | "ROOTCA") => ({
  name,
  sdsConfig: {
    configSourceSpecifier: {
      $case: "pathConfigSource" as const,
      value: { path: `${sdsDirectory}/${name}.json`, watchedDirectory: { path: sdsDirectory } },
    },
    resourceApiVersion: 2 as const,
  },
});

const byName = (name: string) => ({ name, sdsConfig: fromAds });

/** envoy.extensions.transport_sockets.tls.v3.TlsParameters.TlsProtocol */
const versions = { "1.2": 3, "1.3": 4 } as const;

/** The transport socket of a filter chain that terminates TLS. */
export function downstreamTls(tls: DownstreamTls) {
  const certificate = tls.certificate === "identity" ? fromFile("default") : byName(tls.certificate.secret);
  const trust = tls.trust === "mesh" ? fromFile("ROOTCA") : byName(tls.trust.secret);
  return {
    name: "envoy.transport_sockets.tls",
    configType: {
      $case: "typedConfig" as const,
      value: pack(`${type}.DownstreamTlsContext`, DownstreamContext, {
        commonTlsContext: {
          tlsCertificateSdsSecretConfigs: [certificate],
          ...(tls.client !== "none" && {
            validationContextType: tls.subjectAltNames?.length
              ? combined(tls.subjectAltNames.flatMap(exactName), trust)
              : { $case: "validationContextSdsSecretConfig", value: trust },
          }),
          alpnProtocols: [...tls.alpn],
          // Istio's floor; and what it takes from `minProtocolVersion` and friends.
          tlsParams: {
            tlsMinimumProtocolVersion: versions[tls.minimum ?? "1.2"],
            tlsMaximumProtocolVersion: versions[tls.maximum ?? "1.3"],
            cipherSuites: [...(tls.ciphers ?? [])],
          },
        },
        requireClientCertificate: tls.client === "required",
        disableStatefulSessionResumption: false,
      }),
    },
  };
}

const exactUri = (value: string) => ({
  sanType: 3 as const, // URI
  matcher: { matchPattern: { $case: "exact" as const, value } },
});
const exactDns = (value: string) => ({ ...exactUri(value), sanType: 2 as const });

const exactName = (name: string) =>
  name.includes("://") ? [exactUri(name)] : [exactDns(name), exactUri(name)];

/** The transport socket towards an upstream; undefined for plain text. */
export function upstreamTls(tls: UpstreamTls) {
  if (tls.mode === "none") return undefined;
  const context =
    tls.mode === "mesh"
      ? {
          sni: tls.sni,
          commonTlsContext: {
            tlsCertificateSdsSecretConfigs: [fromFile("default")],
            validationContextType: combined(tls.identities.map(exactUri), fromFile("ROOTCA")),
            alpnProtocols: [...tls.alpn],
            tlsParams: {
              tlsMinimumProtocolVersion: versions["1.2"],
              tlsMaximumProtocolVersion: versions["1.3"],
            },
          },
        }
      : { sni: tls.sni, commonTlsContext: outsideTls(tls) };
  return {
    name: "envoy.transport_sockets.tls",
    configType: {
      $case: "typedConfig" as const,
      value: pack(`${type}.UpstreamTlsContext`, UpstreamContext, context),
    },
  };
}

type OutsideTls = Extract<UpstreamTls, { mode: "simple" | "mutual" }>;

function outsideTls(tls: OutsideTls) {
  const names = tls.subjectAltNames.flatMap(exactName);
  const file = (filename: string) => ({ specifier: { $case: "filename" as const, value: filename } });
  return {
    ...(tls.secret && tls.mode === "mutual" && { tlsCertificateSdsSecretConfigs: [byName(tls.secret)] }),
    ...(tls.mode === "mutual" &&
      !tls.secret &&
      tls.certificate &&
      tls.key && {
        tlsCertificates: [{ certificateChain: file(tls.certificate), privateKey: file(tls.key) }],
      }),
    ...(!tls.insecure && {
      validationContextType:
        tls.secret !== undefined
          ? combined(names, byName(`${tls.secret}-cacert`))
          : {
              $case: "validationContext" as const,
              value: {
                trustedCa: file(tls.ca ?? systemRoots),
                ...(tls.crl && { crl: file(tls.crl) }),
                matchTypedSubjectAltNames: names,
              },
            },
    }),
  };
}

function combined(
  matchTypedSubjectAltNames: ReturnType<typeof exactUri | typeof exactDns>[],
  secret: ReturnType<typeof byName | typeof fromFile>,
) {
  return {
    $case: "combinedValidationContext" as const,
    value: {
      defaultValidationContext: { matchTypedSubjectAltNames },
      validationContextSdsSecretConfig: secret,
    },
  };
}

/** The name under which a credential's CA is asked for. */
export function caSecretName(secret: string): string {
  return `${secret}-cacert`;
}

/** Plain text, where some endpoints of a cluster have a sidecar and others do not. */
export const rawBuffer = {
  name: "envoy.transport_sockets.raw_buffer",
  configType: {
    $case: "typedConfig" as const,
    value: {
      typeUrl: "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",
      value: new Uint8Array() as Buffer,
    },
  },
};
