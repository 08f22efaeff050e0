/** The credentials for peers, and what the control plane says of each. */
import { X509Certificate } from "node:crypto";
import { peerLabel, peerReports, secrets, systemNamespace } from "../../api/index.ts";
import type { Credentials, KubeClient } from "../../kube/index.ts";
import { credentialsIn } from "../join.ts";
import { type Check, check, type Finding, failed, ok, warning } from "./result.ts";

const day = 24 * 3600_000;

/** One row for the credential and one for the reachability of each peer. */
export async function checkPeers(client: KubeClient, context: string): Promise<Check[]> {
  const [known, reports] = await Promise.all([
    client.list(secrets, { namespace: systemNamespace, labelSelector: peerLabel }),
    client.list(peerReports, { namespace: systemNamespace }).catch(() => ({ items: [] })),
  ]);
  const rejoin = (peer: string) => `weft join ${context} CONTEXT-OF-${peer}`;
  const rows = known.items.map(async (secret) => {
    const peer = secret.metadata.labels![peerLabel]!;
    const now = client.world.now();
    const report = reports.items.find(({ metadata }) => metadata.name === peer);
    const condition = report?.status?.conditions?.find(({ type }) => type === "Reachable");
    return [
      await check(context, `the credential for ${peer} is good`, () => {
        const credentials = credentialsIn(secret);
        return lifeFinding(expiryOf(credentials), now, rejoin(peer));
      }),
      await check(context, `${peer} is reached`, () => {
        const message = condition?.message ?? "the control plane has not said anything of it yet";
        if (condition?.status === "True") return ok(message);
        const fix =
          condition?.status === "False"
            ? `mend what the message names, then 'weft clusters --context ${context}' shows it`
            : "wait half a minute; then see the log: kubectl -n weft-system logs deployment/weft";
        return condition?.status === "False" ? failed(message, fix) : warning(message, fix);
      }),
    ];
  });
  return (await Promise.all(rows)).flat();
}

interface Life {
  from: number;
  to: number;
}

/** From when to when the credentials are good, milliseconds since the epoch; undefined when they do not say. */
export function expiryOf({ token, cert }: Credentials): Life | undefined {
  if (cert) {
    const { validFrom, validTo } = new X509Certificate(cert);
    return { from: Date.parse(validFrom), to: Date.parse(validTo) };
  }
  try {
    const text = typeof token === "string" ? token : "";
    const claims = JSON.parse(Buffer.from(text.split(".")[1] ?? "", "base64url").toString("utf8"));
    const { iat, exp } = claims as { iat?: unknown; exp?: unknown };
    if (typeof iat === "number" && typeof exp === "number") return { from: iat * 1000, to: exp * 1000 };
  } catch {
    // No JWT: it says nothing of its life.
  }
  return undefined;
}

/** The control plane renews at two thirds of the life: past three quarters something kept it from it. */
export function lifeFinding(life: Life | undefined, now: number, fix: string): Finding {
  if (!life) return ok("it does not say when it expires");
  const until = new Date(life.to).toISOString().slice(0, 10);
  if (now >= life.to) return failed(`it expired on ${until}`, fix);
  if (now < life.from - 60_000) return failed("it is not valid yet: do the clusters' clocks agree?", fix);
  const left = Math.floor((life.to - now) / day);
  if (now > life.from + (life.to - life.from) * 0.75) {
    return warning(`it expires on ${until}, in ${left} days, and has not been renewed`, fix);
  }
  return ok(`until ${until}`);
}
