/** An authority and certificates of workloads and servers, for tests. */
import { generateKeyPairSync } from "node:crypto";
import { issue, makeRoot, openSigner } from "../../identity/x509.ts";
import { realWorld } from "../../world/index.ts";

export interface Issued {
  /** PEM. */
  cert: string;
  key: string;
  ca: string;
}

export interface TestCa {
  ca: string;
  key: string;
  /** With this SPIFFE id or these names (DNS). */
  issue(names: { uri: string } | { dns: string[] }): Promise<Issued>;
}

export async function makeCa(): Promise<TestCa> {
  const world = realWorld();
  const root = await makeRoot(world, "test");
  const signer = await openSigner(root.certificate, root.key);
  return {
    ca: root.certificate,
    key: root.key,
    async issue(names) {
      const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
      const cert = await issue(world, signer, {
        publicKey: publicKey.export({ type: "spki", format: "der" }),
        names:
          "uri" in names
            ? [{ type: "url", value: names.uri }]
            : names.dns.map((value) => ({ type: "dns" as const, value })),
        usages: ["client", "server"],
        notBefore: world.now() - 60_000,
        notAfter: world.now() + 3600_000,
      });
      return {
        cert,
        key: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
        ca: root.certificate,
      };
    },
  };
}
