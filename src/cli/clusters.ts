/** `weft clusters`: the clusterset as one of its clusters sees it. */
import type { Command } from "commander";
import {
  heartbeatLease,
  leases,
  livePeerMessage,
  peerReports,
  pods,
  type ServiceImport,
  serviceImports,
  systemNamespace,
  versionAnnotation,
  WeftError,
} from "../api/index.ts";
import { defaultLease } from "../clusterset/index.ts";
import { clusterName, controlPlane, healthPort, peersOf } from "../install/index.ts";
import { type Credentials, getFromPod, type KubeClient } from "../kube/index.ts";
import { clientOf } from "./contexts.ts";
import { age, type OutputFormat, outputOption, print, table } from "./table.ts";

interface Row {
  name: string;
  /** True, False or Unknown, as the condition Reachable; `self` for the cluster that is asked. */
  reachable: string;
  reason?: string;
  /** What is wrong, of a peer that is not live or whose Secret cannot be used. */
  message?: string;
  /** When that began, RFC 3339. */
  since?: string;
  /** Age of its heartbeat in seconds; of a peer that is live, what it is at most. */
  leaseAge?: number;
  /** How far behind the view of it is, in milliseconds; unknown where the control plane cannot be asked. */
  lag?: number;
  /** The Weft that runs there, as far as it was heard. */
  version?: string;
  /** How many services that are imported here it exports. */
  exports: number;
}

export function define(command: Command): void {
  outputOption(command)
    .option("--context <name>", "context of the cluster that is asked (default: the current one)")
    .option("--kubeconfig <file>", "the kubeconfig that has the context (default: the one that kubectl uses)")
    .action(async (options: { context?: string; kubeconfig?: string; output: OutputFormat }) => {
      const { client, context, credentials } = clientOf(options.context, options.kubeconfig);
      const own = await clusterName(client);
      if (own === undefined) throw new WeftError("NOT_INSTALLED", { cluster: context });
      const [peers, reports, imports, lease, lags] = await Promise.all([
        peersOf(client),
        client.list(peerReports, { namespace: systemNamespace }),
        client.list(serviceImports),
        client.get(leases, { namespace: systemNamespace, name: heartbeatLease }),
        lagsOf(client, credentials),
      ]);
      const renewed = lease?.spec?.renewTime;
      const secondsSince = (time: string) => Math.max(0, (client.world.now() - Date.parse(time)) / 1000);
      const beats =
        renewed !== undefined && secondsSince(renewed) < (lease?.spec?.leaseDurationSeconds ?? defaultLease);
      const rows: Row[] = [
        {
          name: own,
          reachable: "self",
          reason: beats ? "Live" : "NoHeartbeat",
          ...(lease?.spec?.acquireTime && { since: lease.spec.acquireTime }),
          ...(renewed && { leaseAge: secondsSince(renewed) }),
          lag: 0,
          ...versionOf(lease?.metadata.annotations?.[versionAnnotation]),
          exports: exportsOf(own, imports.items),
        },
        ...peers.map((name): Row => {
          const report = reports.items.find(({ metadata }) => metadata.name === name);
          const condition = report?.status?.conditions?.find(({ type }) => type === "Reachable");
          const { lastHeartbeatTime, leaseDurationSeconds, version } = report?.status ?? {};
          // A report is written when something changes: that a peer beats is no change.
          const leaseAge =
            condition?.status === "True"
              ? leaseDurationSeconds && leaseDurationSeconds / 2
              : lastHeartbeatTime && secondsSince(lastHeartbeatTime);
          return {
            name,
            reachable: condition?.status ?? "Unknown",
            ...(condition && { reason: condition.reason, since: condition.lastTransitionTime }),
            ...(condition?.message &&
              condition.message !== livePeerMessage && { message: condition.message }),
            ...(leaseAge && { leaseAge }),
            ...(condition?.status === "True" && lags[name] !== undefined && { lag: lags[name] }),
            ...versionOf(version),
            exports: exportsOf(name, imports.items),
          };
        }),
      ];
      await print(options.output, rows, () =>
        [
          table(
            ["CLUSTER", "REACHABLE", "REASON", "SINCE", "LEASE AGE", "LAG", "VERSION", "EXPORTS"],
            rows.map(({ name, reachable, reason, since, leaseAge, lag, version, exports }) => [
              name,
              reachable,
              reason,
              since && age((client.world.now() - Date.parse(since)) / 1000),
              leaseAge === undefined ? undefined : `${reachable === "True" ? "<" : ""}${age(leaseAge)}`,
              lag === undefined ? undefined : `${Math.round(lag)}ms`,
              version,
              exports,
            ]),
          ),
          ...rows.flatMap(({ name, message }) => (message ? [`${name}: ${message}`] : [])),
          ...skews(rows),
        ].join("\n"),
      );
    });
}

const versionOf = (version: string | undefined) => (version === undefined ? {} : { version });

/** What the control plane that is asked knows of delays; nothing where it runs elsewhere or may not be asked. */
async function lagsOf(client: KubeClient, credentials: Credentials): Promise<Record<string, number>> {
  try {
    const { items } = await client.list(pods, {
      namespace: systemNamespace,
      labelSelector: `app=${controlPlane}`,
    });
    const pod = items.find(({ status }) => status?.phase === "Running");
    if (!pod) return {};
    const { name, namespace = systemNamespace } = pod.metadata;
    const { body } = await getFromPod(
      credentials,
      { namespace, name, port: healthPort },
      "/debug/state",
      3_000,
    );
    return (JSON.parse(body) as { lags?: Record<string, number> }).lags ?? {};
  } catch {
    return {};
  }
}

/** A line for each peer that runs another version than the cluster that is asked. */
function skews([self, ...peers]: Row[]): string[] {
  return peers.flatMap(({ name, version }) =>
    version === undefined || version === self?.version
      ? []
      : [`${name}: It runs Weft ${version}, ${self?.name} ${self?.version ?? "one that does not say"}.`],
  );
}

function exportsOf(cluster: string, imports: ServiceImport[]): number {
  return imports.filter(({ status }) => status?.clusters?.some((each) => each.cluster === cluster)).length;
}
