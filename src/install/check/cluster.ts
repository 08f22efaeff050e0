/** What must be right in one cluster. */
import {
  customResourceDefinitions,
  definitions,
  deployments,
  endpointSlices,
  heartbeatLease,
  leaderLease,
  leases,
  serviceNameLabel,
  services,
  systemNamespace,
} from "../../api/index.ts";
import type { KubeClient } from "../../kube/index.ts";
import { missingVersions, newerThanOurs } from "../definitions.ts";
import { dnsForwarding } from "../dns.ts";
import { clusterName } from "../install.ts";
import { controlPlane, defaultImage, dnsService } from "../manifests.ts";
import { missingRights } from "./access.ts";
import { checkMeshes } from "./meshes.ts";
import { checkPeers } from "./peers.ts";
import { type Check, check, type Finding, failed, ok, warning } from "./result.ts";

/** The oldest Kubernetes that Weft is tried with. */
const oldestVersion = "v1.28";
/** Differences of clocks, in ms: certificates and tokens are not valid before their time. */
const skewWarning = 5_000;
const skewFailure = 60_000;

/** The server's clock as its Date header tells it, milliseconds since the epoch, with its version. */
export interface Reached {
  version: string;
  clock: number | undefined;
}

export async function reach(client: KubeClient): Promise<Reached> {
  const response = await client.request({ method: "GET", path: "/version" });
  let text = "";
  for await (const chunk of response.body) text += Buffer.from(chunk).toString("utf8");
  const { gitVersion } = JSON.parse(text) as { gitVersion?: string };
  const date = Date.parse(response.headers.date ?? "");
  return { version: gitVersion ?? "unknown", clock: Number.isNaN(date) ? undefined : date };
}

/** All checks of one cluster. When its API server cannot be reached, that one alone. */
export async function checkCluster(client: KubeClient, context: string): Promise<Check[]> {
  let reached: Reached | undefined;
  const first = await check(context, "the API server answers", async () => {
    reached = await reach(client);
    return versionFinding(reached.version);
  });
  if (!reached) return [first];
  const { clock } = reached;
  const now = client.world.now();
  const install = `weft install --context ${context}`;
  const look = (name: string, finding: () => Promise<Finding> | Finding) => check(context, name, finding);
  const rows = await Promise.all([
    look("its clock agrees with this machine's", () => skewFinding(clock, now, "this machine")),
    ...definitions().map((definition) =>
      look(`definition ${definition.metadata.name}`, async () => {
        const found = await client.get(customResourceDefinitions, definition.metadata.name);
        if (!found) return failed("it is not there", install);
        const missing = missingVersions(definition, found);
        if (missing.length > 0) return failed(`it does not serve ${missing.join(", ")}`, install);
        const newer = newerThanOurs(definition, found);
        if (newer) return warning(newer, "use a newer weft; until then it is left as it is");
        const established = found.status?.conditions?.some(
          (c) => c.type === "Established" && c.status === "True",
        );
        return established
          ? ok()
          : failed("it is not established", `kubectl describe crd ${found.metadata.name}`);
      }),
    ),
    look("the cluster has a name", async () => {
      const name = await clusterName(client);
      return name ? ok(name) : failed("it has no ClusterProperty cluster.clusterset.k8s.io", install);
    }),
    look("the control plane may do what it does", async () => {
      const missing = await missingRights(client);
      if (missing.length === 0) return ok();
      const more = missing.length > 3 ? ` and ${missing.length - 3} more` : "";
      return failed(`it may not ${missing.slice(0, 3).join(", ")}${more}`, install);
    }),
    look("the control plane runs", () => runs(client, context, install)),
    look("one control plane leads", () => leads(client, context)),
    look("clusterset.local is answered", () => answers(client, context)),
    look("the cluster's DNS forwards clusterset.local", () => forwards(client, context)),
  ]);
  // Where their kinds are missing, the definitions' checks have said so.
  const more = [checkPeers, checkMeshes].map((look) => look(client, context).catch(() => []));
  return [first, ...rows, ...(await Promise.all(more)).flat()];
}

function versionFinding(version: string): Finding {
  const minor = /^(v\d+\.\d+)/.exec(version)?.[1];
  const [have, least] = [minor, oldestVersion].map((text) => Number(text?.split(".")[1]));
  if (minor && have! < least!) {
    return warning(
      `${version}: older than ${oldestVersion}`,
      "Weft is not tried with it; upgrade the cluster",
    );
  }
  return ok(version);
}

export function skewFinding(clock: number | undefined, other: number, whose: string): Finding {
  if (clock === undefined) return ok("its answers do not say what time it is");
  // The header has whole seconds.
  const skew = Math.max(0, Math.abs(other - clock) - 1_000);
  const message = `it is ${(skew / 1000).toFixed(0)} s ${clock > other ? "ahead of" : "behind"} ${whose}`;
  const fix = "let both keep time by NTP: tokens and certificates are valid from and until a time";
  if (skew > skewFailure) return failed(message, fix);
  return skew > skewWarning ? warning(message, fix) : ok();
}

async function runs(client: KubeClient, context: string, install: string): Promise<Finding> {
  const deployment = await client.get(deployments, { namespace: systemNamespace, name: controlPlane });
  if (!deployment) return failed("there is no Deployment weft-system/weft", install);
  const { spec, status } = deployment;
  const [wanted, available] = [spec?.replicas ?? 1, status?.availableReplicas ?? 0];
  const describe = `kubectl --context ${context} -n ${systemNamespace} describe pods`;
  if (available === 0) return failed(`none of ${wanted} pods is available`, describe);
  if (available < wanted) return warning(`${available} of ${wanted} pods are available`, describe);
  const image = spec?.template.spec?.containers[0]?.image ?? "";
  if (tagOf(image) !== tagOf(defaultImage)) {
    return warning(
      `it runs ${image}, this weft brings ${defaultImage}`,
      `${install} (or a weft of its version)`,
    );
  }
  return ok(`${available} of ${wanted} pods, ${image}`);
}

const tagOf = (image: string) => /:([^:/@]+)(?:@.*)?$/.exec(image)?.[1];

async function leads(client: KubeClient, context: string): Promise<Finding> {
  const log = `kubectl --context ${context} -n ${systemNamespace} logs deployment/${controlPlane}`;
  const fresh = async (name: string) => {
    const lease = await client.get(leases, { namespace: systemNamespace, name });
    const { renewTime, leaseDurationSeconds = 0, holderIdentity } = lease?.spec ?? {};
    if (!renewTime || !holderIdentity) return undefined;
    // Its clock, not ours, wrote the time: some seconds are for the difference.
    const age = client.world.now() - Date.parse(renewTime);
    return age < leaseDurationSeconds * 1000 + 10_000 ? holderIdentity : undefined;
  };
  const [leader, beats] = await Promise.all([fresh(leaderLease), fresh(heartbeatLease)]);
  if (!leader) return failed(`nobody holds the Lease ${leaderLease}: nothing is written`, log);
  if (!beats) return failed(`the Lease ${heartbeatLease} is not renewed: peers think that it is gone`, log);
  return ok(leader);
}

async function answers(client: KubeClient, context: string): Promise<Finding> {
  const selection = { namespace: systemNamespace, labelSelector: `${serviceNameLabel}=${dnsService}` };
  const { items } = await client.list(endpointSlices, selection);
  const ready = items
    .flatMap(({ endpoints }) => endpoints ?? [])
    .filter(({ conditions }) => conditions?.ready);
  return ready.length > 0
    ? ok(`${ready.length} ready behind Service ${dnsService}`)
    : failed(
        `nothing ready stands behind Service ${systemNamespace}/${dnsService}`,
        `kubectl --context ${context} -n ${systemNamespace} describe pods`,
      );
}

async function forwards(client: KubeClient, context: string): Promise<Finding> {
  const [service, { by, to }] = await Promise.all([
    client.get(services, { namespace: systemNamespace, name: dnsService }),
    dnsForwarding(client),
  ]);
  const address = service?.spec?.clusterIP;
  const fix = `weft install --dns-only --context ${context}${by === "Corefile" ? " --patch-coredns" : ""}`;
  if (!address)
    return failed(
      `there is no Service ${systemNamespace}/${dnsService}`,
      `weft install --context ${context}`,
    );
  if (by === undefined) {
    return warning(
      "neither ConfigMap kube-system/coredns nor kube-dns is there: what the cluster's DNS does is not known",
      `let it forward clusterset.local to ${address} (docs/install.md)`,
    );
  }
  if (!to) return failed(`${by} does not forward it`, fix);
  return to.some((server) => server === address || server.startsWith(`${address}:`))
    ? ok(`to ${address}, by ${by}`)
    : failed(`${by} forwards it to ${to.join(", ")}, not to ${address}`, fix);
}
