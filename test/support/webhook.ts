/** An admission webhook of a test's own: HTTPS on 127.0.0.1 and the machine's own addresses, with a certificate for the names that it is called by. */
import "reflect-metadata"; // the X.509 library's dependency injection wants it first
import { once } from "node:events";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import * as x509 from "@peculiar/x509";

// biome-ignore lint/suspicious/noExplicitAny: reviews of any shape
type Loose = any;

/** What a webhook says: an AdmissionReview's response (its uid is added), or something raw. */
export type Saying =
  | Record<string, unknown>
  | { raw: string; code?: number }
  | ((request: Loose) => Record<string, unknown> | Promise<Record<string, unknown>>);

export interface TestWebhook {
  port: number;
  /** Base64 of the CA's PEM, for `caBundle`. */
  caBundle: string;
  /** Sets what is said at a path (`/deny`). */
  say(path: string, what: Saying): void;
  /** Forgets what was to be said. */
  reset(): void;
  /** AdmissionReviews that came, with the path that they came to; `take` empties it. */
  take(): { path: string; review: Loose }[];
  close(): Promise<void>;
}

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

/** A patch as it stands in a response. */
export const patchOf = (...operations: object[]) => ({
  patchType: "JSONPatch",
  patch: Buffer.from(JSON.stringify(operations)).toString("base64"),
});

export async function startWebhook(names: readonly string[] = ["localhost"]): Promise<TestWebhook> {
  const { ca, cert, key } = await certificates(names);
  const sayings = new Map<string, Saying>();
  let seen: { path: string; review: Loose }[] = [];
  const server = createServer({ cert, key }, (request, response) => {
    void (async () => {
      const chunks: Buffer[] = [];
      for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
      const path = request.url!.split("?")[0]!;
      const review = JSON.parse(Buffer.concat(chunks).toString()) as Loose;
      seen.push({ path, review });
      const saying = sayings.get(path) ?? {};
      if ("raw" in saying) {
        response.writeHead((saying.code as number) ?? 200).end(saying.raw);
        return;
      }
      const said = typeof saying === "function" ? await saying(review.request) : saying;
      const { kind = "AdmissionReview", apiVersion = review.apiVersion, ...rest } = said as Loose;
      const answer = { kind, apiVersion, response: { uid: review.request.uid, allowed: true, ...rest } };
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(answer));
    })().catch(() => response.destroy());
  });
  server.listen(0, "0.0.0.0");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    caBundle: Buffer.from(ca).toString("base64"),
    say: (path, what) => void sayings.set(path, what),
    reset: () => sayings.clear(),
    take: () => {
      const taken = seen;
      seen = [];
      return taken;
    },
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

async function certificates(names: readonly string[]) {
  const make = () => crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const [caKeys, keys] = await Promise.all([make(), make()]);
  const validity = {
    notBefore: new Date(Date.now() - 3_600_000),
    notAfter: new Date(Date.now() + 86_400_000),
    signingAlgorithm: algorithm,
  };
  const authority = await x509.X509CertificateGenerator.createSelfSigned({
    name: "CN=webhook-ca",
    keys: caKeys,
    ...validity,
    extensions: [new x509.BasicConstraintsExtension(true, undefined, true)],
  });
  const certificate = await x509.X509CertificateGenerator.create({
    subject: "CN=webhook",
    issuer: authority.subjectName,
    publicKey: keys.publicKey,
    signingKey: caKeys.privateKey,
    ...validity,
    extensions: [
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension([
        ...names.map((value) => ({ type: "dns" as const, value })),
        { type: "ip" as const, value: "127.0.0.1" },
      ]),
    ],
  });
  const key = await crypto.subtle.exportKey("pkcs8", keys.privateKey);
  return {
    ca: authority.toString("pem"),
    cert: certificate.toString("pem"),
    key: x509.PemConverter.encode(key, "PRIVATE KEY"),
  };
}
