/** `weft clusters`: the clusterset as one of its clusters sees it. */
import type { Command } from "commander";
import {
  heartbeatLease,
  leases,
  peerReports,
  type ServiceImport,
  serviceImports,
  systemNamespace,
  WeftError,
} from "../api/index.ts";
import { defaultLease, liveMessage } from "../clusterset/index.ts";
import { clusterName, peersOf } from "../install/index.ts";
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
  /** How many services that are imported here it exports. */
  exports: number;
}

export function define(command: Command): void {
  outputOption(command)
    .option("--context <name>", "context of the cluster that is asked (default: the current one)")
    .option("--kubeconfig <file>", "the kubeconfig that has the context (default: the one that kubectl uses)")
    .action(async (options: { context?: string; kubeconfig?: string; output: OutputFormat }) => {
      const { client, context } = clientOf(options.context, options.kubeconfig);
      const own = await clusterName(client);
      if (own === undefined) throw new WeftError("NOT_INSTALLED", { cluster: context });
      const [peers, reports, imports, lease] = await Promise.all([
        peersOf(client),
        client.list(peerReports, { namespace: systemNamespace }),
        client.list(serviceImports),
        client.get(leases, { namespace: systemNamespace, name: heartbeatLease }),
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
          exports: exportsOf(own, imports.items),
        },
        ...peers.map((name): Row => {
          const report = reports.items.find(({ metadata }) => metadata.name === name);
          const condition = report?.status?.conditions?.find(({ type }) => type === "Reachable");
          const { lastHeartbeatTime, leaseDurationSeconds } = report?.status ?? {};
          // A report is written when something changes: that a peer beats is no change.
          const leaseAge =
            condition?.status === "True"
              ? leaseDurationSeconds && leaseDurationSeconds / 2
              : lastHeartbeatTime && secondsSince(lastHeartbeatTime);
          return {
            name,
            reachable: condition?.status ?? "Unknown",
            ...(condition && { reason: condition.reason, since: condition.lastTransitionTime }),
            ...(condition?.message && condition.message !== liveMessage && { message: condition.message }),
            ...(leaseAge && { leaseAge }),
            exports: exportsOf(name, imports.items),
          };
        }),
      ];
      await print(options.output, rows, () =>
        [
          table(
            ["CLUSTER", "REACHABLE", "REASON", "SINCE", "LEASE AGE", "EXPORTS"],
            rows.map(({ name, reachable, reason, since, leaseAge, exports }) => [
              name,
              reachable,
              reason,
              since && age((client.world.now() - Date.parse(since)) / 1000),
              leaseAge === undefined ? undefined : `${reachable === "True" ? "<" : ""}${age(leaseAge)}`,
              exports,
            ]),
          ),
          ...rows.flatMap(({ name, message }) => (message ? [`${name}: ${message}`] : [])),
        ].join("\n"),
      );
    });
}

function exportsOf(cluster: string, imports: ServiceImport[]): number {
  return imports.filter(({ status }) => status?.clusters?.some((each) => each.cluster === cluster)).length;
}
