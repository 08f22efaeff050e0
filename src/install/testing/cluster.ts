/** API servers in this process for the installer's tests, with the lab's controllers where something must go. */
import { after } from "node:test";
import { KubeClient } from "../../kube/index.ts";
import { type ApiServer, createApiServer } from "../../lab/apiserver/index.ts";
import { startControllers } from "../../lab/controllers/index.ts";
import { makeClusterPki } from "../../lab/pki.ts";
import { defaultCluster } from "../../lab/spec.ts";
import { realWorld } from "../../world/index.ts";

export const world = realWorld();
export const pki = (await makeClusterPki(world, defaultCluster("c1", 0))).cluster;
const ends: (() => unknown)[] = [];
after(async () => {
  for (const end of ends.reverse()) await end();
});

export interface Cluster {
  server: ApiServer;
  client: KubeClient;
}

/** A cluster without nodes; `controllers` collect garbage and empty namespaces. */
export async function cluster(name: string, options: { controllers?: boolean } = {}): Promise<Cluster> {
  const server = await createApiServer({
    world,
    cluster: name,
    storage: { kind: "memory" },
    serviceRange: "10.11.0.0/16",
    advertise: { address: "172.18.0.1", port: 6443 },
    serviceAccount: pki.serviceAccount,
  });
  ends.push(() => server.close());
  const transport = server.as({ name: "admin", groups: ["system:masters"] });
  const client = new KubeClient({ transport, world, cluster: `weft-${name}` });
  if (options.controllers) {
    const controllers = startControllers({ world, client });
    ends.push(() => controllers.stop());
    await controllers.ready;
  }
  return { server, client };
}
