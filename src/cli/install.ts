/** `weft install`. */
import type { Command } from "commander";
import { stringify } from "yaml";
import { clusterName, installOn, manifests } from "../install/index.ts";
import { clientOf, nameFromContext } from "./contexts.ts";
import { leaseOption } from "./lease.ts";

interface Options {
  context?: string;
  kubeconfig?: string;
  name?: string;
  image?: string;
  dryRun?: boolean;
  leaseDuration?: number;
}

export function define(command: Command): void {
  command
    .option("--context <name>", "context of the cluster (default: the current one)")
    .option("--kubeconfig <file>", "the kubeconfig that has the context (default: the one that kubectl uses)")
    .option(
      "--name <name>",
      "the cluster's name in the clusterset (default: it has one, or its context's name)",
    )
    .option("--image <image>", "the control plane's image")
    .addOption(leaseOption())
    .option("--dry-run", "print the manifests and change nothing")
    .action(async (options: Options) => {
      const { image, leaseDuration } = options;
      const settings = { ...(image && { image }), ...(leaseDuration && { leaseDuration }) };
      const { client, context } = clientOf(options.context, options.kubeconfig);
      if (options.dryRun) {
        const name = options.name ?? nameFromContext(context);
        const documents = manifests({ name, ...settings }).map(({ object }) => stringify(object));
        console.log(`${documents.join("---\n")}`.trimEnd());
        return;
      }
      const name = options.name ?? (await clusterName(client)) ?? nameFromContext(context);
      await installOn(
        client,
        { name, ...settings },
        { onStep: (step) => console.log(`${context}: ${step}`) },
      );
      console.log(`${context}: Weft is installed; the cluster is called '${name}'`);
    });
}
