/** `weft leave`. */
import type { Command } from "commander";
import { leaveClusters } from "../install/index.ts";
import { clientOf } from "./contexts.ts";

export function define(command: Command): void {
  command
    .argument("<context>", "context of the cluster that leaves")
    .argument("[peer...]", "contexts of the clusters that are to forget it")
    .option(
      "--kubeconfig <file>",
      "the kubeconfig that has the contexts (default: the one that kubectl uses)",
    )
    .action(async (context: string, peers: string[], { kubeconfig }: { kubeconfig?: string }) => {
      const client = (name: string) => clientOf(name, kubeconfig).client;
      const name = await leaveClusters(client(context), peers.map(client));
      console.log(`${name} has left${peers.length > 0 ? `; ${peers.join(", ")} forgot it` : ""}`);
      if (peers.length === 0) {
        console.log(
          "its peers still have a credential for it that is void now: name their contexts to clean up there",
        );
      }
    });
}
