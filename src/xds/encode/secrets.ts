/** Gateways' credentials as Envoy's secrets (SDS over ADS). */
import { Secret } from "#protocols/envoy/extensions/transport_sockets/tls/v3/secret.ts";
import { encode, encoded, once } from "./pack.ts";

/** A credential by the name under which it is asked for: a certificate with its key, or a CA. Contents are PEM. */
export type TlsSecret = { name: string } & (
  | { certificate: string; key: string }
  | { ca: string; crl?: string }
);

const inline = (text: string) => ({ specifier: { $case: "inlineString" as const, value: text } });

export const encodeSecret = once((secret: TlsSecret) =>
  encoded("secret", secret.name, encode(Secret, secretOf(secret))),
);

function secretOf(secret: TlsSecret) {
  if ("ca" in secret) {
    return {
      name: secret.name,
      type: {
        $case: "validationContext" as const,
        value: { trustedCa: inline(secret.ca), ...(secret.crl && { crl: inline(secret.crl) }) },
      },
    };
  }
  return {
    name: secret.name,
    type: {
      $case: "tlsCertificate" as const,
      value: { certificateChain: inline(secret.certificate), privateKey: inline(secret.key) },
    },
  };
}
