/** Clusters as a person names them: contexts of the kubeconfig. */
import { type Credentials, KubeClient, loadKubeconfig, transportFor } from "../kube/index.ts";
import { realWorld } from "../world/index.ts";

/** The client of a context; of the current one when none is named. Throws CONTEXT_UNKNOWN. */
export function clientOf(
  context?: string,
  kubeconfig?: string,
): { client: KubeClient; context: string; credentials: Credentials } {
  const config = loadKubeconfig(kubeconfig);
  const { name } = config.context(context);
  const credentials = config.credentials(name);
  const client = new KubeClient({
    transport: transportFor(credentials),
    world: realWorld(),
    cluster: name,
    server: credentials.server,
  });
  return { client, context: name, credentials };
}

/** What a cluster is called when nobody says: its context without the lab's prefix, as a DNS label. */
export function nameFromContext(context: string): string {
  return context
    .replace(/^weft-/, "")
    .toLowerCase()
    .replace(/[^a-z0-9-]+/g, "-")
    .replace(/^-+|-+$/g, "")
    .slice(0, 63);
}
