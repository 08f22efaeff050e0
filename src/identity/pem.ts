/** Texts of several PEM blocks: chains and bundles. */
import { X509Certificate } from "node:crypto";

/** The certificates of a text, each as PEM with a newline at its end; what lies between them is left out. */
export function certificatesIn(text: string): string[] {
  const blocks = text.matchAll(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g);
  return [...blocks].map(([block]) => `${block.replace(/\r/g, "")}\n`);
}

/** All certificates of the texts, each once (by what they are, not by how they are written), in order. */
export function bundle(...texts: string[]): string {
  const seen = new Map<string, string>();
  for (const pem of texts.flatMap(certificatesIn)) {
    const { fingerprint256 } = new X509Certificate(pem);
    if (!seen.has(fingerprint256)) seen.set(fingerprint256, pem);
  }
  return [...seen.values()].join("");
}

export function fingerprint(pem: string): string {
  return new X509Certificate(pem).fingerprint256;
}
