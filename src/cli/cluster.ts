/** `weft cluster stop` and `weft cluster start`: a cluster of the lab whose machines lose power. */
import type { Command } from "commander";
import { order, requireCluster, runningLab, untilRunning } from "./faults.ts";

export function define(command: Command): void {
  command
    .command("stop")
    .description("end a cluster's API server, nodes and pods at once, as if its machines lost power")
    .argument("<name>", "the cluster, as in 'weft status'")
    .action(async (name: string) => {
      requireCluster(await runningLab(), name);
      await order({ do: "stop", cluster: name });
      console.log(`cluster ${name} is stopped`);
    });
  command
    .command("start")
    .description("start a cluster that was stopped; its objects are as they were")
    .argument("<name>", "the cluster, as in 'weft status'")
    .action(async (name: string) => {
      const status = await runningLab();
      requireCluster(status, name);
      await order({ do: "start", cluster: name });
      // Nodes that were stopped by themselves stay so.
      const nodes = status.processes.filter(({ role, cluster }) => role === "node" && cluster === name);
      const stopped = status.clusters.find((cluster) => cluster.name === name)!.stoppedNodes;
      const coming = nodes.map((node) => node.name).filter((node) => !stopped.includes(node));
      await untilRunning([name, ...coming]);
      console.log(`cluster ${name} runs`);
    });
}
