/** The credentials for peers, and what the control plane says of each. */
import { livePeerMessage, peerLabel, peerReports, secrets, systemNamespace } from "../../api/index.ts";
import type { KubeClient } from "../../kube/index.ts";
import { credentialsIn, expiryOf, type Life } from "../credentials.ts";
import { type Check, check, type Finding, failed, ok, warning } from "./result.ts";

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
        try {
          return lifeFinding(expiryOf(credentialsIn(secret)), now, rejoin(peer));
        } catch (error) {
          return failed((error as Error).message, rejoin(peer));
        }
      }),
      await check(context, `${peer} is reached`, () => {
        const message = condition?.message ?? "the control plane has not said anything of it yet";
        if (message === livePeerMessage) return ok();
        if (condition?.status === "True") return warning(message, rejoin(peer));
        const again = ["Renamed", "Refused", "SecretInvalid"].includes(condition?.reason ?? "");
        const fix = again
          ? rejoin(peer)
          : condition?.status === "False"
            ? `mend what the message names, then 'weft clusters --context ${context}' shows it`
            : "wait half a minute; then see the log: kubectl -n weft-system logs deployment/weft";
        return condition?.status === "False" ? failed(message, fix) : warning(message, fix);
      }),
    ];
  });
  return (await Promise.all(rows)).flat();
}

/**
 * The control plane renews tokens after a third of their life: past half of it something kept it from that. Certificates
 * are for a person to renew.
 */
export function lifeFinding(life: Life | undefined, now: number, fix: string): Finding {
  if (!life) return ok("it does not say when it expires");
  const until = `${new Date(life.to).toISOString().slice(0, 16).replace("T", " ")} UTC`;
  if (now >= life.to) return failed(`it expired on ${until}`, fix);
  if (now < life.from - 60_000) return failed("it is not valid yet: do the clusters' clocks agree?", fix);
  const part = (now - life.from) / (life.to - life.from);
  if (life.byItself && part > 0.5) return warning(`it expires on ${until} and has not been renewed`, fix);
  if (!life.byItself && part > 0.75)
    return warning(`it expires on ${until}; Weft renews no certificates`, fix);
  return ok(`until ${until}`);
}
