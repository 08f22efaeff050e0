/** `weft node stop` and `weft node start`: a node of the lab whose machine loses power. */
import type { Command } from "commander";
import { order, requireNode, runningLab, untilRunning } from "./faults.ts";

export function define(command: Command): void {
  command
    .command("stop")
    .description("end a node and its pods at once, as if its machine lost power")
    .argument("<name>", "the node, as in 'kubectl get nodes'")
    .action(async (name: string) => {
      requireNode(await runningLab(), name);
      await order({ do: "stop", node: name });
      console.log(`node ${name} is stopped`);
    });
  command
    .command("start")
    .description("start a node that was stopped")
    .argument("<name>", "the node, as in 'kubectl get nodes'")
    .action(async (name: string) => {
      const { clusters } = requireNode(await runningLab(), name);
      await order({ do: "start", node: name });
      const cluster = clusters.find(({ nodes }) => nodes.includes(name))!;
      if (cluster.state === "stopped") {
        console.log(
          `node ${name} starts with its cluster, which is stopped: weft cluster start ${cluster.name}`,
        );
        return;
      }
      await untilRunning([name]);
      console.log(`node ${name} runs`);
    });
}
