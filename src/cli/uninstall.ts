/** `weft uninstall`. */
import { createInterface } from "node:readline/promises";
import type { Command } from "commander";
import { uninstall } from "../install/index.ts";
import { clientOf } from "./contexts.ts";

interface Options {
  context?: string;
  kubeconfig?: string;
  crds?: boolean;
}

export function define(command: Command): void {
  command
    .option("--context <name>", "context of the cluster (default: the current one)")
    .option("--kubeconfig <file>", "the kubeconfig that has the context (default: the one that kubectl uses)")
    .option(
      "--crds",
      "take the definitions that Weft installed (MCS, meshes, offers …), with all their objects",
    )
    .option("--no-crds", "keep those that have objects, and do not ask")
    .action(async (options: Options) => {
      const { client, context } = clientOf(options.context, options.kubeconfig);
      const { removed, kept, peers } = await uninstall(client, {
        onStep: (step) => console.log(`${context}: ${step}`),
        takeDefinition: async (name, objects) => options.crds ?? (await ask(context, name, objects)),
      });
      for (const what of removed) console.log(`${context}: removed ${what}`);
      for (const { what, why } of kept) console.log(`${context}: kept ${what}: ${why}`);
      if (peers.length > 0) {
        const names = peers.join(", ");
        console.log(`${context}: these clusters have a credential for it, which is void now: ${names}`);
        console.log(`  to take it away there: kubectl -n weft-system delete secret -l weft.dev/peer=NAME`);
      }
      const nothing = removed.length === 0;
      console.log(`${context}: ${nothing ? "there was nothing of Weft" : "Weft is uninstalled"}`);
    });
}

/** No without a terminal: nobody is there to say yes. */
async function ask(context: string, name: string, objects: number): Promise<boolean> {
  if (!process.stdin.isTTY) return false;
  const lines = createInterface({ input: process.stdin, output: process.stdout });
  try {
    const question = `${context}: ${name} has ${objects} object(s) that go with it. Take it away? [y/N] `;
    return /^y(es)?$/i.test((await lines.question(question)).trim());
  } finally {
    lines.close();
  }
}
