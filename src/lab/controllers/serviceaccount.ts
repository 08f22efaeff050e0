import { configMaps, nameOf, namespaces, serviceAccounts } from "../../api/index.ts";
import { isAlreadyExists, isNamespaceTerminating } from "../../kube/index.ts";
import type { ControllerContext } from "./context.ts";
import type { ReconcileQueue, ReconcileResult } from "./queue.ts";

/** The ConfigMap from which pods learn whom to trust (pkg/controller/certificates/rootcacertpublisher). */
const rootCaName = "kube-root-ca.crt";

/**
 * Every namespace has a ServiceAccount `default` and a ConfigMap with the certificate of the cluster's authority.
 * Source: pkg/controller/serviceaccount/serviceaccounts_controller.go, rootcacertpublisher/publisher.go.
 */
export function serviceAccountController(
  context: ControllerContext,
  rootCertificates: string | undefined,
): ReconcileQueue {
  const spaces = context.cache(namespaces);
  const accounts = context.cache(serviceAccounts);
  const maps = context.cache(configMaps);
  const queue = context.queue("serviceaccount", reconcile);

  spaces.onChange((_, after) => after && queue.add(nameOf(after)));
  accounts.onChange((before, after) => {
    if (!after && before?.metadata.name === "default") queue.add(before.metadata.namespace!);
  });
  maps.onChange((before, after) => {
    const map = (after ?? before)!;
    if (before && map.metadata.name === rootCaName) queue.add(map.metadata.namespace!);
  });
  return queue;

  async function reconcile(name: string): Promise<ReconcileResult> {
    const space = spaces.get(name);
    if (!space || space.metadata.deletionTimestamp) return undefined;
    try {
      if (!accounts.get(`${name}/default`)) {
        await context.create(serviceAccounts, { metadata: { name: "default", namespace: name } });
      }
      if (rootCertificates !== undefined) await publish(name, rootCertificates);
    } catch (error) {
      if (!isAlreadyExists(error) && !isNamespaceTerminating(error)) throw error;
    }
    return undefined;
  }

  async function publish(namespace: string, certificates: string): Promise<void> {
    const known = maps.get(`${namespace}/${rootCaName}`);
    const data = { "ca.crt": certificates };
    if (!known) {
      const annotations = {
        "kubernetes.io/description":
          "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.",
      };
      await context.create(configMaps, { metadata: { name: rootCaName, namespace, annotations }, data });
    } else if (known.data?.["ca.crt"] !== certificates) {
      await context.replace(configMaps, { ...known, data });
    }
  }
}
