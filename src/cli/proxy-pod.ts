/** Which proxy a person means (a pod, or any of a workload's), and what its discovery says of it. */
import type { Command } from "commander";
import {
  type DaemonSet,
  type Deployment,
  daemonSets,
  deployments,
  pods,
  type Resource,
  type StatefulSet,
  statefulSets,
  WeftError,
} from "../api/index.ts";
import { type KubeClient, loadKubeconfig } from "../kube/index.ts";
import { clientOf } from "./contexts.ts";
import { askDiscoveries } from "./discovery-pods.ts";

export interface ProxyOptions {
  namespace?: string;
  context?: string;
  kubeconfig?: string;
}

/** The argument that names a proxy, and where it is looked for. */
export function proxyArgument(command: Command): Command {
  return command
    .argument(
      "<pod>",
      "the proxy's pod: POD[.NAMESPACE], or deploy/NAME[.NAMESPACE], sts/…, ds/… for the first of its pods",
    )
    .option("-n, --namespace <name>", "the pod's namespace (default: the context's)")
    .option("--context <name>", "context of the cluster that is asked (default: the current one)")
    .option(
      "--kubeconfig <file>",
      "the kubeconfig that has the context (default: the one that kubectl uses)",
    );
}

/** What the discovery that the proxy is connected to answers, as JSON. Throws PROXY_NOT_CONNECTED. */
export async function askOfProxy<T>(
  path: string,
  pod: string,
  { namespace, context, kubeconfig }: ProxyOptions,
  more: Readonly<Record<string, string>>,
): Promise<T> {
  const cluster = clientOf(context, kubeconfig);
  const own = namespace ?? loadKubeconfig(kubeconfig).context(cluster.context).namespace;
  const proxy = await proxyPod(cluster.client, pod, own);
  const answers = await askDiscoveries(cluster, `${path}?${new URLSearchParams({ proxy, ...more })}`);
  const answer = answers.find(({ status }) => status === 200);
  if (!answer) throw new WeftError("PROXY_NOT_CONNECTED", { proxy });
  return JSON.parse(answer.body) as T;
}

type Workload = Deployment | StatefulSet | DaemonSet;

const byWord: Readonly<Record<string, Resource<Workload>>> = Object.fromEntries(
  [
    { words: ["deploy", "deployment", "deployments"], resource: deployments },
    { words: ["sts", "statefulset", "statefulsets"], resource: statefulSets },
    { words: ["ds", "daemonset", "daemonsets"], resource: daemonSets },
  ].flatMap(({ words, resource }) => words.map((word) => [word, resource as Resource<Workload>])),
);

/**
 * `POD.NAMESPACE`, as proxies are listed. `POD` alone is of the namespace; `deploy/NAME[.NAMESPACE]` (`sts`, `ds`) is the
 * first running pod of it, as with istioctl. Throws PROXY_NOT_CONNECTED where there is none.
 */
export async function proxyPod(client: KubeClient, asked: string, namespace: string): Promise<string> {
  const [, kind = "pod", text = asked] = /^([a-z]+)\/(.+)$/.exec(asked) ?? [];
  const [name = "", of = namespace] = text.split(".");
  if (kind === "pod" || kind === "pods") return `${name}.${of}`;
  const resource = byWord[kind];
  const workload = resource && (await client.get(resource, { namespace: of, name }));
  const labels = Object.entries(workload?.spec?.selector.matchLabels ?? {});
  if (labels.length > 0) {
    const labelSelector = labels.map(([label, value]) => `${label}=${value}`).join(",");
    const { items } = await client.list(pods, { namespace: of, labelSelector });
    const running = items.find(
      ({ metadata, status }) => status?.phase === "Running" && !metadata.deletionTimestamp,
    );
    if (running) return `${running.metadata.name}.${of}`;
  }
  throw new WeftError("PROXY_NOT_CONNECTED", { proxy: asked });
}
