/** `weft tour` (what `npm start` runs): seed 001 in the lab; `--once` takes the clusters down at the end. */
import type { Command } from "commander";
import { tour } from "./tour-steps.ts";
import { down, specOf, up } from "./up.ts";

export function define(command: Command): void {
  command
    .option("--once", "take the clusters down when the tour is over")
    .option(
      "--kubeconfig <file>",
      "the kubeconfig that gets the contexts (default: the one that kubectl uses)",
    )
    .action(async (options: { once?: boolean; kubeconfig?: string }) => {
      const stop = new AbortController();
      for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
        process.once(signal, () => stop.abort(new Error(`stopped by ${signal}`)));
      }
      let ours = false;
      let over = false;
      try {
        await tour({
          async up(clusters, line, signal) {
            await up({ spec: specOf(clusters), line, signal, kubeconfig: options.kubeconfig });
            ours = true;
          },
          context: (cluster) => `weft-${cluster}`,
          kubeconfig: options.kubeconfig,
          signal: stop.signal,
          print: (text) => process.stdout.write(text),
        });
        over = true;
      } finally {
        // A tour that was stopped or failed leaves nothing behind; one that is over leaves the clusters.
        if (ours && (options.once || !over)) await down();
      }
      if (!options.once) process.stdout.write(next);
    });
}

const next = `
# The clusters stay for you. Try:
  kubectl --context weft-c1 get pods -A
  kubectl --context weft-c2 -n demo scale deployment serve --replicas=3
  kubectl --context weft-c1 -n demo get endpointslices,serviceimports
  kubectl --context weft-c2 -n demo delete serviceexport serve
  npx weft status
  npx weft down        # ends them, and takes the contexts out of the kubeconfig
`;
