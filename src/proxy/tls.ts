/**
 * TLS on both sides from Envoy's contexts: certificates and trust by value or by SDS, changed under way without
 * touching connections; who is trusted is judged by chain, by SPIFFE trust domain and by SAN.
 */
import { constants, X509Certificate } from "node:crypto";
import { createSecureContext, type SecureContext, type TLSSocket } from "node:tls";
import {
  type CertificateValidationContext,
  CertificateValidationContext_TrustChainVerification as Chain,
  SubjectAltNameMatcher_SanType as SanType,
  type TlsCertificate,
  type TlsParameters,
  TlsParameters_TlsProtocol as Version,
} from "#protocols/envoy/extensions/transport_sockets/tls/v3/common.ts";
import type { CommonTlsContext } from "#protocols/envoy/extensions/transport_sockets/tls/v3/tls.ts";
import { SPIFFECertValidatorConfig } from "#protocols/envoy/extensions/transport_sockets/tls/v3/tls_spiffe_validator_config.ts";
import { type PeerCertificate, type TlsFacts, Unservable } from "./contract.ts";
import type { SecretHandle, Secrets } from "./secrets.ts";
import { compileStringMatcher } from "./strings.ts";
import { dataOf, messageOf } from "./values.ts";

const spiffeValidator =
  "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";

/** Whom a context trusts. */
interface Trust {
  /** PEM; the chain must end in one of them. */
  roots: string[];
  /** By trust domain: its roots. */
  domains: Map<string, X509Certificate[]> | undefined;
  sans: ((peer: PeerCertificate) => boolean)[];
  hashes: Set<string>;
  acceptUntrusted: boolean;
  acceptExpired: boolean;
  crl: string | undefined;
}

interface Material {
  context: SecureContext;
  trust: Trust | undefined;
  local: { uris: readonly string[]; subject: string } | undefined;
}

/** A CommonTlsContext at work. Ready when all its secrets are here. */
export class TlsMaterial {
  readonly alpn: readonly string[];
  readonly #common: CommonTlsContext;
  readonly #server: boolean;
  readonly #secrets: SecretHandle[] = [];
  readonly #stops: (() => void)[] = [];
  readonly #watchers = new Set<() => void>();
  #material: Material | undefined;
  #problem: string | undefined;

  /** Throws Unservable for what is written in it and cannot be served. */
  constructor(common: CommonTlsContext | undefined, secrets: Secrets, side: "server" | "client") {
    this.#common =
      common ?? ({ tlsCertificates: [], tlsCertificateSdsSecretConfigs: [], alpnProtocols: [] } as never);
    this.#server = side === "server";
    this.alpn = this.#common.alpnProtocols;
    const names = this.#common.tlsCertificateSdsSecretConfigs.map(({ name }) => name);
    const validation = this.#common.validationContextType;
    if (validation?.$case === "validationContextSdsSecretConfig") names.push(validation.value.name);
    if (validation?.$case === "combinedValidationContext") {
      const secret = validation.value.validationContextSdsSecretConfig;
      if (secret) names.push(secret.name);
    }
    for (const name of new Set(names)) {
      const handle = secrets.get(name);
      this.#secrets.push(handle);
      this.#stops.push(handle.subscribe(() => this.#refresh()));
    }
    if (names.length === 0) {
      this.#material = this.#build();
    } else {
      this.#refresh();
    }
  }

  /** Undefined: a secret is not here, or what is here is broken (`problem`). The last good one stays. */
  get current(): Material | undefined {
    return this.#material;
  }

  /** Every secret is here, or known not to be: what is missing or broken refuses its own connections and no others. */
  get settled(): boolean {
    return this.#secrets.every(({ current, answered }) => current !== undefined || answered);
  }

  get problem(): string | undefined {
    return this.#problem;
  }

  /** Called when `current` changed. */
  subscribe(changed: () => void): () => void {
    this.#watchers.add(changed);
    return () => this.#watchers.delete(changed);
  }

  dispose(): void {
    for (const stop of this.#stops) stop();
    this.#watchers.clear();
  }

  #refresh(): void {
    const missing = this.#secrets.find(({ current }) => current === undefined);
    if (missing) {
      // What is taken away serves no new connections; what never came has nothing to serve with.
      this.#problem = `the secret '${missing.name}' is not here`;
      this.#material = undefined;
    } else {
      try {
        this.#material = this.#build();
        this.#problem = undefined;
      } catch (error) {
        this.#problem = messageOf(error);
      }
    }
    for (const watcher of [...this.#watchers]) watcher();
  }

  #secret(name: string): SecretHandle["current"] {
    return this.#secrets.find((handle) => handle.name === name)?.current;
  }

  #build(): Material {
    const common = this.#common;
    const pairs = common.tlsCertificates.map(pairOf);
    for (const { name } of common.tlsCertificateSdsSecretConfigs) {
      const value = this.#secret(name);
      if (value?.kind === "certificate") {
        pairs.push({ cert: value.certificatePem, key: value.keyPem });
      } else if (value?.kind === "message" && value.secret.type?.$case === "tlsCertificate") {
        pairs.push(pairOf(value.secret.type.value));
      } else throw new Unservable(`the secret '${name}' has no certificate`);
    }
    const trust = this.#trust();
    const { minVersion, maxVersion, ciphers, ecdhCurve } = parameters(common.tlsParams);
    let context: SecureContext;
    try {
      context = createSecureContext({
        ...(pairs.length > 0
          ? { cert: pairs.map(({ cert }) => cert), key: pairs.map(({ key }) => key) }
          : {}),
        // Given, even when empty: nobody is trusted by default.
        ca: trust && trust.roots.length > 0 ? trust.roots : [],
        ...(trust?.crl ? { crl: trust.crl } : {}),
        minVersion,
        maxVersion,
        ...(ciphers ? { ciphers } : {}),
        ...(ecdhCurve ? { ecdhCurve } : {}),
        honorCipherOrder: this.#server,
        // Who comes back with a session would not be judged anew (and OpenSSL ends the handshake of one that was made
        // with a client's certificate and has no session context): such a client shakes hands in full.
        ...(this.#server ? { sessionIdContext: "weft" } : {}),
        ...(this.#server && trust ? { secureOptions: constants.SSL_OP_NO_TICKET } : {}),
      });
    } catch (error) {
      throw new Unservable(`Failed to load certificates: ${messageOf(error)}`);
    }
    let local: Material["local"];
    if (pairs[0]) {
      const { uris, subject } = describe(new X509Certificate(pairs[0].cert));
      local = { uris, subject };
    }
    return { context, trust, local };
  }

  #trust(): Trust | undefined {
    const type = this.#common.validationContextType;
    const contexts: CertificateValidationContext[] = [];
    const trust: Trust = {
      roots: [],
      domains: undefined,
      sans: [],
      hashes: new Set(),
      acceptUntrusted: false,
      acceptExpired: false,
      crl: undefined,
    };
    const bySecret = (name: string) => {
      const value = this.#secret(name);
      if (value?.kind === "bundles") {
        trust.domains = new Map();
        for (const [domain, pem] of Object.entries(value.bundles)) addDomain(trust, domain, pem);
      } else if (value?.kind === "message" && value.secret.type?.$case === "validationContext") {
        contexts.push(value.secret.type.value);
      } else throw new Unservable(`the secret '${name}' has nothing to trust`);
    };
    switch (type?.$case) {
      case undefined:
        return undefined;
      case "validationContext":
        contexts.push(type.value);
        break;
      case "validationContextSdsSecretConfig":
        bySecret(type.value.name);
        break;
      case "combinedValidationContext":
        if (type.value.defaultValidationContext) contexts.push(type.value.defaultValidationContext);
        if (type.value.validationContextSdsSecretConfig)
          bySecret(type.value.validationContextSdsSecretConfig.name);
        break;
      default:
        throw new Unservable(`${(type as { $case: string }).$case} is not served`);
    }
    for (const context of contexts) readValidation(context, trust);
    const checksNothing =
      trust.roots.length === 0 && trust.hashes.size === 0 && trust.sans.length === 0 && !trust.domains;
    return checksNothing ? undefined : trust;
  }
}

function addDomain(trust: Trust, domain: string, pem: string): void {
  trust.domains ??= new Map();
  const roots = trust.domains.get(domain) ?? [];
  trust.domains.set(domain, roots);
  for (const root of splitPem(pem)) {
    trust.roots.push(root);
    roots.push(new X509Certificate(root));
  }
}

/** The certificates in a text, each for itself. */
export const splitPem = (pem: string) =>
  pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];

function readValidation(context: CertificateValidationContext, trust: Trust): void {
  const custom = context.customValidatorConfig?.typedConfig;
  if (custom) {
    if (custom.typeUrl !== spiffeValidator)
      throw new Unservable(`the validator ${custom.typeUrl} is not served`);
    for (const { name, trustBundle } of SPIFFECertValidatorConfig.decode(custom.value).trustDomains) {
      addDomain(trust, name, dataOf(trustBundle)?.toString() ?? "");
    }
  }
  const ca = dataOf(context.trustedCa)?.toString();
  if (ca) {
    const roots = splitPem(ca);
    if (roots.length === 0) throw new Unservable("Failed to load trusted CA certificates");
    trust.roots.push(...roots);
  }
  for (const matcher of context.matchTypedSubjectAltNames) {
    const test = compileStringMatcher(matcher.matcher);
    const { sanType } = matcher;
    if (sanType === SanType.URI) trust.sans.push(({ uris }) => uris.some(test));
    else if (sanType === SanType.DNS)
      trust.sans.push(({ dns }) => dns.some((name) => test(name) || wildcard(name, matcher.matcher)));
    else throw new Unservable("SANs of this type are not served");
  }
  for (const matcher of context.matchSubjectAltNames) {
    const test = compileStringMatcher(matcher);
    trust.sans.push(
      ({ uris, dns }) => uris.some(test) || dns.some((name) => test(name) || wildcard(name, matcher)),
    );
  }
  for (const hash of context.verifyCertificateHash) trust.hashes.add(hash.replaceAll(":", "").toLowerCase());
  if (context.verifyCertificateSpki.length > 0) throw new Unservable("verify_certificate_spki is not served");
  if (context.trustChainVerification === Chain.ACCEPT_UNTRUSTED) trust.acceptUntrusted = true;
  if (context.allowExpiredCertificate) trust.acceptExpired = true;
  const crl = dataOf(context.crl)?.toString();
  if (crl) trust.crl = crl;
}

/** An exact DNS matcher is met by a certificate's wildcard too. */
function wildcard(name: string, matcher: Parameters<typeof compileStringMatcher>[0]): boolean {
  const pattern = matcher?.matchPattern;
  if (pattern?.$case !== "exact" || !name.startsWith("*.")) return false;
  const dot = pattern.value.indexOf(".");
  return dot > 0 && pattern.value.slice(dot).toLowerCase() === name.slice(1).toLowerCase();
}

function pairOf(certificate: TlsCertificate): { cert: string; key: string } {
  const cert = dataOf(certificate.certificateChain)?.toString();
  const key = dataOf(certificate.privateKey)?.toString();
  if (!cert || !key) throw new Unservable("Failed to load certificate chain or private key: it is missing");
  return { cert, key };
}

const versions = {
  [Version.TLS_AUTO]: undefined,
  [Version.TLSv1_0]: "TLSv1",
  [Version.TLSv1_1]: "TLSv1.1",
  [Version.TLSv1_2]: "TLSv1.2",
  [Version.TLSv1_3]: "TLSv1.3",
} as const;
const tls13 = "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256";

function parameters(params: TlsParameters | undefined) {
  const ciphers = params?.cipherSuites.flatMap((group) => group.replace(/[[\]]/g, "").split("|"));
  return {
    minVersion: versions[params?.tlsMinimumProtocolVersion ?? 0] ?? ("TLSv1.2" as const),
    maxVersion: versions[params?.tlsMaximumProtocolVersion ?? 0] ?? ("TLSv1.3" as const),
    // TLS 1.3's suites are not configured in Envoy.
    ciphers: ciphers && ciphers.length > 0 ? `${tls13}:${ciphers.join(":")}` : undefined,
    ecdhCurve: params?.ecdhCurves.length ? params.ecdhCurves.join(":") : undefined,
  };
}

/** What is in a certificate. */
export function describe(certificate: X509Certificate): PeerCertificate {
  const uris: string[] = [];
  const dns: string[] = [];
  // Values with special characters are in JSON quotes (Node since 16.13.2).
  for (const [, kind, text] of (certificate.subjectAltName ?? "").matchAll(
    /(URI|DNS):("(?:[^"\\]|\\.)*"|[^,]*)/g,
  )) {
    const value = text!.startsWith('"') ? (JSON.parse(text!) as string) : text!;
    (kind === "URI" ? uris : dns).push(value);
  }
  // RFC 2253 begins with the most specific name.
  const name = (text: string | undefined) => (text ?? "").split("\n").reverse().join(",");
  return {
    uris,
    dns,
    subject: name(certificate.subject),
    issuer: name(certificate.issuer),
    serial: certificate.serialNumber.toLowerCase(),
    der: certificate.raw,
    fingerprint: certificate.fingerprint256.replaceAll(":", "").toLowerCase(),
  };
}

/**
 * Judges the other side after the handshake. Answers its certificate (undefined: it showed none), or what is wrong.
 * `socket` was made with `rejectUnauthorized: false`.
 */
export function judgePeer(
  socket: TLSSocket,
  trust: Trust | undefined,
  required: boolean,
): { peer: PeerCertificate | undefined } | { problem: string } {
  const certificate = socket.getPeerX509Certificate();
  if (!certificate) return required ? { problem: "PEER_DID_NOT_RETURN_A_CERTIFICATE" } : { peer: undefined };
  const peer = describe(certificate);
  if (!trust) return { peer };
  const code = trust.roots.length > 0 && !trust.acceptUntrusted ? verifyError(socket) : undefined;
  if (code !== undefined) {
    if (!(trust.acceptExpired && code === "CERT_HAS_EXPIRED")) {
      return { problem: `CERTIFICATE_VERIFY_FAILED:verify cert failed: ${code}` };
    }
  }
  if (trust.domains) {
    const domain = /^spiffe:\/\/([^/]+)/.exec(
      peer.uris.find((uri) => uri.startsWith("spiffe://")) ?? "",
    )?.[1];
    const roots = domain === undefined ? undefined : trust.domains.get(domain);
    if (!roots) {
      return { problem: `CERTIFICATE_VERIFY_FAILED:verify cert failed: no trust domain '${domain ?? ""}'` };
    }
    if (trust.domains.size > 1 && !endsIn(certificate, roots)) {
      return {
        problem: `CERTIFICATE_VERIFY_FAILED:verify cert failed: not signed for trust domain '${domain}'`,
      };
    }
  }
  if (trust.sans.length > 0 && !trust.sans.some((test) => test(peer))) {
    return { problem: "CERTIFICATE_VERIFY_FAILED:verify cert failed: verify SAN list" };
  }
  if (trust.hashes.size > 0 && !trust.hashes.has(peer.fingerprint)) {
    return { problem: "CERTIFICATE_VERIFY_FAILED:verify cert failed: verify hash" };
  }
  return { peer };
}

/**
 * OpenSSL's judgement of the peer's chain; undefined: it is good. `socket.authorized` says it for clients only: on the
 * other side it is tls.Server that sets it.
 */
function verifyError(socket: TLSSocket): string | undefined {
  type Handle = { verifyError(): (Error & { code?: string }) | null | undefined };
  const error = (socket as TLSSocket & { _handle?: Handle })._handle?.verifyError();
  return error ? (error.code ?? error.message) : undefined;
}

/**
 * Whether the peer's chain leads to one of these roots, signature by signature. OpenSSL has judged it against the roots
 * of all domains; which issuer Node names goes by names and key ids alone, and these anybody may choose.
 */
function endsIn(leaf: X509Certificate, roots: readonly X509Certificate[]): boolean {
  const signed = (at: X509Certificate, by: X509Certificate) => at.checkIssued(by) && at.verify(by.publicKey);
  // Taken from the socket once: asked again, a client's socket has none any more (Node 24).
  let below = leaf;
  for (let depth = 0; depth < 16; depth++) {
    if (roots.some((root) => signed(below, root))) return true;
    const above: X509Certificate | undefined = below.issuerCertificate;
    if (!above?.ca || above.fingerprint256 === below.fingerprint256 || !signed(below, above)) return false;
    below = above;
  }
  return false;
}

/** What logs, headers and rules say of a secured connection. */
export function factsOf(
  socket: TLSSocket,
  peer: PeerCertificate | undefined,
  local: TlsFacts["local"],
  serverName: string | undefined,
): TlsFacts {
  return {
    version: socket.getProtocol() ?? "",
    cipher: socket.getCipher()?.name ?? "",
    alpn: socket.alpnProtocol || undefined,
    serverName,
    peer,
    local,
  };
}
