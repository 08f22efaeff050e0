/** `weft leave`. */
import type { Command } from "commander";
import { clusterName, leaveClusters, peersOf } from "../install/index.ts";
import { type KubeClient, loadKubeconfig } from "../kube/index.ts";
import { clientOf, nameFromContext } from "./contexts.ts";

export function define(command: Command): void {
  command
    .argument("<context>", "context of the cluster that leaves")
    .argument(
      "[peer...]",
      "contexts of the clusters that are to forget it (default: those of its peers that are called like them)",
    )
    .option(
      "--kubeconfig <file>",
      "the kubeconfig that has the contexts (default: the one that kubectl uses)",
    )
    .action(async (context: string, named: string[], { kubeconfig }: { kubeconfig?: string }) => {
      const client = (name: string) => clientOf(name, kubeconfig).client;
      const leaver = client(context);
      const peers = await peersOf(leaver);
      const others = named.length > 0 ? named.map(client) : await contextsOf(peers, client, kubeconfig);
      const forgot = await Promise.all(others.map((other) => clusterName(other)));
      const name = await leaveClusters(leaver, others);
      console.log(`${name} has left${forgot.length > 0 ? `; ${forgot.join(", ")} forgot it` : ""}`);
      for (const peer of peers.filter((peer) => !forgot.includes(peer))) {
        console.log(
          `${peer} still has a credential for it, which is void now; to clean up there: ` +
            `weft leave ${context} <context of ${peer}>`,
        );
      }
    });
}

/** The peers whose contexts are called like them, with the lab's prefix or without, and that answer to their name. */
async function contextsOf(
  peers: readonly string[],
  client: (context: string) => KubeClient,
  kubeconfig: string | undefined,
): Promise<KubeClient[]> {
  const contexts = loadKubeconfig(kubeconfig).contexts.map(({ name }) => name);
  const found = await Promise.all(
    peers.map(async (peer) => {
      const context = contexts.find((name) => nameFromContext(name) === peer);
      if (context === undefined) return undefined;
      const candidate = client(context);
      const name = await clusterName(candidate, AbortSignal.timeout(5_000)).catch(() => undefined);
      return name === peer ? candidate : undefined;
    }),
  );
  return found.filter((each) => each !== undefined);
}
