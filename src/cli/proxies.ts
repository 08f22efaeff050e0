/** `weft proxies`: the proxies that are connected, and whether each has what it is to have. */
import type { Command } from "commander";
import type { KindStatus, ProxyStatus } from "../xds/index.ts";
import { clientOf } from "./contexts.ts";
import { askDiscoveries } from "./discovery-pods.ts";
import { type OutputFormat, outputOption, print, table } from "./table.ts";

interface Options {
  namespace?: string;
  context?: string;
  kubeconfig?: string;
  output: OutputFormat;
}

type Row = ProxyStatus & { discovery: string };

export function define(command: Command): void {
  outputOption(command)
    .option("-n, --namespace <name>", "only proxies of this namespace")
    .option("--context <name>", "context of the cluster that is asked (default: the current one)")
    .option("--kubeconfig <file>", "the kubeconfig that has the context (default: the one that kubectl uses)")
    .action(async (options: Options) => {
      const answers = await askDiscoveries(clientOf(options.context, options.kubeconfig), "/debug/proxies");
      const rows = answers
        .filter(({ status }) => status === 200)
        .flatMap(({ discovery, body }) =>
          (JSON.parse(body) as ProxyStatus[]).map((proxy) => ({ ...proxy, discovery })),
        )
        .filter(({ namespace }) => options.namespace === undefined || namespace === options.namespace)
        .sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
      await print(options.output, rows, () => text(rows));
    });
}

function nameOf({ pod, namespace }: ProxyStatus): string {
  return `${pod}.${namespace}`;
}

/** The words of istioctl. */
const words: Record<KindStatus["state"], string> = {
  synced: "SYNCED",
  stale: "STALE",
  rejected: "REJECTED",
  "not asked": "NOT ASKED",
};

/** The table, and below it what was rejected and why. */
export function text(rows: readonly Row[]): string {
  if (rows.length === 0) return "no proxy is connected";
  const cell = ({ kinds }: ProxyStatus, kind: keyof ProxyStatus["kinds"]) => words[kinds[kind].state];
  const lines = rows.map((row) => [
    nameOf(row),
    row.cluster,
    cell(row, "cluster"),
    cell(row, "listener"),
    cell(row, "endpoints"),
    cell(row, "route"),
    row.lag === 0 ? "0s" : lagText(row.lag),
    row.discovery.split(".")[0],
    row.version,
    row.implementation,
  ]);
  const rejected = rows.flatMap((row) =>
    Object.entries(row.kinds).flatMap(([kind, { rejected }]) =>
      rejected.map(({ name, reason }) => `${nameOf(row)} rejected ${kind} ${name}: ${reason.trim()}`),
    ),
  );
  const titles = ["NAME", "CLUSTER", "CDS", "LDS", "EDS", "RDS", "LAG", "DISCOVERY", "VERSION", "PROXY"];
  return [table(titles, lines), ...rejected].join("\n");
}

function lagText(milliseconds: number): string {
  return milliseconds < 1000 ? `${Math.ceil(milliseconds)}ms` : `${(milliseconds / 1000).toFixed(1)}s`;
}
