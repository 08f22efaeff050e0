/** A whole cluster's API in this process: the lab's API server under simulated time, behind a faulty network. */
import { createApiServer } from "../../lab/apiserver/index.ts";
import { SimulatedWorld } from "../../world/index.ts";
import { KubeClient } from "../client.ts";
import { Faults } from "./faults.ts";

export async function testCluster(seed = 1) {
  const world = new SimulatedWorld(seed);
  const server = await createApiServer({
    world,
    cluster: "c1",
    storage: { kind: "memory" },
    serviceRange: "10.11.0.0/16",
    advertise: { address: "172.18.0.1", port: 6443 },
  });
  const user = { name: "weft", groups: ["system:masters"] };
  const faults = new Faults(world);
  const client = new KubeClient({ transport: faults.wrap(server.as(user)), world, cluster: "c1" });
  /** Somebody else, with a good network. */
  const person = new KubeClient({ transport: server.as(user), world, cluster: "c1" });
  return { world, server, faults, client, person };
}
