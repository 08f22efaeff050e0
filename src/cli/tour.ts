/**
 * `weft tour` (what `npm start` runs): seed 001 in the lab, and `weft tour coolapp` seed 002; `--once` takes the
 * clusters down at the end.
 */
import { type Command, InvalidArgumentError } from "commander";
import { LabState, labStatus } from "../lab/index.ts";
import { coolapp } from "./tour-coolapp.ts";
import type { TourOptions } from "./tour-shown.ts";
import { tour } from "./tour-steps.ts";
import { down, specOf, up } from "./up.ts";

/** Where this machine reaches a port of a Service of type LoadBalancer, as `weft status` shows it. */
async function serviceUrl(namespace: string, name: string, port: number): Promise<string | undefined> {
  const status = await labStatus(new LabState());
  return status?.balancers.find(
    (each) => each.namespace === namespace && each.name === name && each.port === port,
  )?.url;
}

/** What each tour does, and what it says to whom the clusters are left. */
const tours = {
  "mcs-demo": async (options: TourOptions) => {
    await tour(options);
    return next;
  },
  coolapp: async (options: TourOptions) =>
    nextOfMesh(
      await coolapp({
        ...options,
        gatewayUrl: () => serviceUrl("istio-system", "istio-ingressgateway", 80),
      }),
    ),
};
type Tour = keyof typeof tours;

function tourName(text: string): Tour {
  if (Object.hasOwn(tours, text)) return text as Tour;
  throw new InvalidArgumentError(`there are: ${Object.keys(tours).join(", ")}`);
}

export function define(command: Command): void {
  command
    .argument(
      "[name]",
      "mcs-demo: one service in two clusters; coolapp: a mesh",
      tourName,
      "mcs-demo" as const,
    )
    .option("--once", "take the clusters down when the tour is over")
    .option(
      "--kubeconfig <file>",
      "the kubeconfig that gets the contexts (default: the one that kubectl uses)",
    )
    .action(async (name: Tour, options: { once?: boolean; kubeconfig?: string }) => {
      const stop = new AbortController();
      for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
        // Each time: npm hands on what the terminal has sent already, and people press Ctrl-C again. A second one
        // must not end this process while it takes the lab down.
        process.on(signal, () => stop.abort(new Error(`stopped by ${signal}; nothing is left behind`)));
      }
      let ours = false;
      let over = false;
      let said = "";
      try {
        said = await tours[name]({
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
      } catch (error) {
        // What was being waited for says only that it was aborted.
        throw stop.signal.aborted ? stop.signal.reason : error;
      } finally {
        // A tour that was stopped or failed leaves nothing behind; one that is over leaves the clusters.
        if (ours && (options.once || !over)) await down();
      }
      if (!options.once) process.stdout.write(said);
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

const nextOfMesh = (url: string) => `
# The cluster and its mesh stay for you. Try:
  curl ${url}
  kubectl --context weft-c1 -n coolapp get pods,virtualservices,destinationrules
  npx weft proxies --context weft-c1
  npx weft analyze --context weft-c1 -n coolapp
  kubectl --context weft-c1 -n coolapp apply -f samples/coolapp/policies/deny-by-default.yml
  kubectl --context weft-c1 -n coolapp apply -f samples/coolapp/policies/rate-limit.yml
  npx weft status
  npx weft down        # ends it, and takes the context out of the kubeconfig
`;
