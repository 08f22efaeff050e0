/**
 * A workload's identity as files that Envoy reads (file-based SDS): the secret `default` (certificate and key) and
 * `ROOTCA` (whom to believe, per trust domain: Envoy's SPIFFE validator). Envoy watches the directory for renames
 * (`watchedDirectory`), so each file is written beside its place and then moved there whole.
 * Source: Envoy docs "Secret discovery service (SDS)", `transport_sockets/tls/v3/tls_spiffe_validator_config.proto`.
 */
import { mkdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { WorkloadCertificate } from "./workload.ts";

/** Names of the secrets, as xDS refers to them, and of the files. */
const sdsFiles = { default: "default.json", ROOTCA: "ROOTCA.json" } as const;

const type = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";

/** The contents of the two files: a DiscoveryResponse each, in JSON. */
export function sdsOf(of: Pick<WorkloadCertificate, "certificatePem" | "keyPem" | "bundles">): {
  default: string;
  ROOTCA: string;
} {
  const domains = Object.entries(of.bundles)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, roots]) => ({ name, trust_bundle: { inline_string: roots } }));
  const certificate = {
    tls_certificate: {
      certificate_chain: { inline_string: of.certificatePem },
      private_key: { inline_string: of.keyPem },
    },
  };
  const validation = {
    validation_context: {
      custom_validator_config: {
        name: "envoy.tls.cert_validator.spiffe",
        typed_config: { "@type": `${type}.SPIFFECertValidatorConfig`, trust_domains: domains },
      },
    },
  };
  return { default: response("default", certificate), ROOTCA: response("ROOTCA", validation) };
}

function response(name: string, secret: object): string {
  return `${JSON.stringify({ resources: [{ "@type": `${type}.Secret`, name, ...secret }] })}\n`;
}

/**
 * Writes what has changed into the directory (`/etc/istio/proxy/sds`), which is made when there is none. The bundles
 * first: a peer may show a certificate of a new root as soon as ours is out. Keys are for this user alone.
 */
export class SdsFiles {
  readonly #directory: string;
  #written: { default?: string; ROOTCA?: string } = {};

  constructor(directory: string) {
    this.#directory = directory;
  }

  async write(
    certificate: Pick<WorkloadCertificate, "certificatePem" | "keyPem" | "bundles">,
  ): Promise<void> {
    const contents = sdsOf(certificate);
    await mkdir(this.#directory, { recursive: true });
    for (const name of ["ROOTCA", "default"] as const) {
      if (this.#written[name] === contents[name]) continue;
      const file = join(this.#directory, sdsFiles[name]);
      await writeFile(`${file}.new`, contents[name], { mode: 0o600 });
      await rename(`${file}.new`, file);
      this.#written[name] = contents[name];
    }
  }
}
