/** Which proxy a person means: a pod, or any of a workload's. */
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
import type { KubeClient } from "../kube/index.ts";

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
