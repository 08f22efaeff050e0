/** `weft why`: which fields of which objects are behind what a proxy does. */
import type { Command } from "commander";
import { WeftError } from "../api/index.ts";
import { loadKubeconfig } from "../kube/index.ts";
import type { Origin, Reason } from "../traffic/index.ts";
import { clientOf } from "./contexts.ts";
import { askDiscoveries } from "./discovery-pods.ts";
import { proxyPod } from "./proxy-pod.ts";
import { type OutputFormat, outputOption, print } from "./table.ts";

interface Options {
  namespace?: string;
  context?: string;
  kubeconfig?: string;
  output: OutputFormat;
}

export function define(command: Command): void {
  outputOption(command)
    .argument(
      "<pod>",
      "the proxy's pod: POD[.NAMESPACE], or deploy/NAME[.NAMESPACE], sts/…, ds/… for the first of its pods",
    )
    .argument("[host]", "only calls to this host, as clients write it: catalog, shop.example:8080, or a URL")
    .option("-n, --namespace <name>", "the pod's namespace (default: the context's)")
    .option("--context <name>", "context of the cluster that is asked (default: the current one)")
    .option("--kubeconfig <file>", "the kubeconfig that has the context (default: the one that kubectl uses)")
    .action(show);
}

async function show(pod: string, host: string | undefined, options: Options): Promise<void> {
  const cluster = clientOf(options.context, options.kubeconfig);
  const own = options.namespace ?? loadKubeconfig(options.kubeconfig).context(cluster.context).namespace;
  const proxy = await proxyPod(cluster.client, pod, own);
  const called = host?.replace(/^[a-z]+:\/\//, "").replace(/\/.*$/, "");
  const query = new URLSearchParams({ proxy, ...(called && { host: called }) });
  const answers = await askDiscoveries(cluster, `/debug/reasons?${query}`);
  const answer = answers.find(({ status }) => status === 200);
  if (!answer) throw new WeftError("PROXY_NOT_CONNECTED", { proxy });
  const found = JSON.parse(answer.body) as Reason[];
  await print(options.output, found, () => text(found, called));
}

/** Each part with what it does, and below it every object and field that made it so. */
export function text(reasons: readonly Reason[], host?: string): string {
  if (reasons.length === 0)
    return host === undefined
      ? "nothing: no object asks anything of this proxy"
      : `nothing: no object says anything of ${host} to this proxy`;
  return reasons
    .map(({ part, name, match, does, origins }) =>
      [
        `${part} ${name}${match ? ` [${match}]` : ""}: ${does}`,
        ...origins.map((origin) => `    ${originText(origin)}`),
      ].join("\n"),
    )
    .join("\n");
}

/** `VirtualService coolapp/catalog spec.http[0].route[1]`. */
function originText({ kind, namespace, name, field }: Origin): string {
  return `${kind} ${namespace}/${name}${field ? ` ${field}` : ""}`;
}
