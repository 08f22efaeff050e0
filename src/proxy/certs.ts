/** Certificates for people, as Envoy's `/certs` has them (`envoy/admin/v3/certs.proto`). Keys are left out. */
import { X509Certificate } from "node:crypto";
import type { DataSource } from "#protocols/envoy/config/core/v3/base.ts";
import type { SecretHandle, SecretValue } from "./secrets.ts";
import { splitPem } from "./tls.ts";

export interface CertificateDump {
  /** The secret's name; Envoy has none. */
  name: string;
  ca_cert: CertificateDetails[];
  cert_chain: CertificateDetails[];
}

interface CertificateDetails {
  serial_number: string;
  subject_alt_names: { uri?: string; dns?: string }[];
  valid_from: string;
  expiration_time: string;
}

/** Of the secrets that are here. */
export function certificateDumps(secrets: readonly SecretHandle[]): CertificateDump[] {
  return secrets.flatMap(({ name, current }) => (current ? [{ name, ...dumpOf(current) }] : []));
}

function dumpOf(value: SecretValue): Omit<CertificateDump, "name"> {
  switch (value.kind) {
    case "certificate":
      return { ca_cert: [], cert_chain: detailsIn(value.certificatePem) };
    case "bundles":
      return { ca_cert: Object.values(value.bundles).flatMap(detailsIn), cert_chain: [] };
    case "message": {
      const { type } = value.secret;
      const own = type?.$case === "tlsCertificate" ? type.value.certificateChain : undefined;
      const trusted = type?.$case === "validationContext" ? type.value.trustedCa : undefined;
      return { ca_cert: detailsIn(inline(trusted)), cert_chain: detailsIn(inline(own)) };
    }
  }
}

function inline(source: DataSource | undefined): string {
  const specifier = source?.specifier;
  if (specifier?.$case === "inlineString") return specifier.value;
  return specifier?.$case === "inlineBytes" ? Buffer.from(specifier.value).toString() : "";
}

/** What cannot be read is left out. */
function detailsIn(pem: string): CertificateDetails[] {
  return splitPem(pem).flatMap((each) => {
    try {
      return [detailsOf(new X509Certificate(each))];
    } catch {
      return [];
    }
  });
}

function detailsOf(certificate: X509Certificate): CertificateDetails {
  const names = certificate.subjectAltName?.split(", ") ?? [];
  return {
    serial_number: certificate.serialNumber.toLowerCase(),
    subject_alt_names: names.flatMap((name): CertificateDetails["subject_alt_names"] => {
      if (name.startsWith("URI:")) return [{ uri: name.slice("URI:".length) }];
      return name.startsWith("DNS:") ? [{ dns: name.slice("DNS:".length) }] : [];
    }),
    valid_from: certificate.validFromDate.toISOString(),
    expiration_time: certificate.validToDate.toISOString(),
  };
}
