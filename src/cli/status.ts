/** `weft status`: what the lab consists of, where it is reached, what it costs. */
import type { Command } from "commander";
import { WeftError } from "../api/index.ts";
import { LabState, type LabStatus, labStatus } from "../lab/index.ts";
import { type OutputFormat, outputOption, print, table } from "./table.ts";

export function define(command: Command): void {
  outputOption(command).action(async ({ output }: { output: OutputFormat }) => {
    const status = await labStatus(new LabState());
    if (!status) throw new WeftError("LAB_NOT_RUNNING");
    await print(output, status, () => asText(status));
  });
}

/** The tables for people. */
export function asText({ clusters, network, links, balancers, processes, memory }: LabStatus): string {
  const faults = links.map(({ between, cut, latency }) => [
    between.join(" - "),
    cut ? "cut" : "whole",
    latency > 0 ? `${latency}ms` : "",
  ]);
  return [
    table(
      ["CLUSTER", "STATE", "SERVER", "CONTEXT", "NODES"],
      clusters.map(({ name, state, server, context, nodes, stoppedNodes }) => [
        name,
        state,
        server,
        context,
        nodes.map((node) => (stoppedNodes.includes(node) ? `${node} (stopped)` : node)).join(","),
      ]),
    ),
    "",
    ...(network === "flat" ? [] : [`network: ${network}`, ""]),
    ...(faults.length > 0 ? [table(["LINK", "STATE", "LATENCY"], faults), ""] : []),
    ...(balancers.length > 0
      ? [
          table(
            ["CLUSTER", "NAMESPACE", "LOAD BALANCER", "ADDRESS", "PORT", "URL"],
            balancers.map((each) => [
              each.cluster,
              each.namespace,
              each.name,
              each.address,
              each.port,
              each.url ?? "",
            ]),
          ),
          "",
        ]
      : []),
    table(
      ["PROCESS", "STATE", "RESTARTS", "MEMORY"],
      [
        ...processes.map((each) => [each.name, each.state, each.restarts, megabytes(each.memory)]),
        ["all", together(processes), restartsOf(processes), megabytes(memory)],
      ],
    ),
  ].join("\n");
}

const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(0)} MB`;

/** `running` when every process is in the same state, or how many of them run. */
function together(processes: LabStatus["processes"]): string {
  const states = new Set(processes.map(({ state }) => state));
  const running = processes.filter(({ state }) => state === "running").length;
  return states.size === 1 ? [...states].join() : `${running} of ${processes.length} running`;
}

const restartsOf = (processes: LabStatus["processes"]) =>
  processes.reduce((sum, { restarts }) => sum + restarts, 0);
