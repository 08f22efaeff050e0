/** A random history of a fleet: what people, controllers and the network do to three clusters. */
import {
  endpointSlices,
  type KubeObject,
  type Resource,
  secrets,
  serviceExports,
  serviceImports,
  services,
  systemNamespace,
} from "../../src/api/index.ts";
import { isAlreadyExists } from "../../src/kube/index.ts";
import { SimulatedWorld } from "../../src/world/index.ts";
import { Fleet } from "../support/fleet.ts";
import { givenAddress, isOurs } from "./state.ts";

export const clusters = ["c1", "c2", "c3"] as const;
export const names = ["serve", "db", "web"] as const;

/** Dice of their own, so that a history is the same whatever the system under test draws. */
export class Dice {
  readonly #world: SimulatedWorld;

  constructor(seed: number) {
    this.#world = new SimulatedWorld(seed);
  }

  below(n: number): number {
    return Math.floor(this.#world.random() * n);
  }

  of<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }

  chance(probability: number): boolean {
    return this.#world.random() < probability;
  }
}

const shapes = [
  { ports: [{ port: 80, name: "http" }] },
  { ports: [{ port: 80, name: "http" }] },
  {
    ports: [
      { port: 80, name: "http" },
      { port: 443, name: "https" },
    ],
  },
  { ports: [{ port: 80, name: "web" }] },
  { ports: [{ port: 80 }] },
  { ports: [{ port: 8081, name: "http" }] },
  { ports: [{ port: 80, name: "http" }], clusterIP: "None" },
  { ports: [{ port: 80, name: "http" }], sessionAffinity: "ClientIP" },
];

/** One thing that happens. Returns what it was, for the record. */
async function step(fleet: Fleet, dice: Dice): Promise<string> {
  const cluster = dice.of(clusters);
  const name = dice.of(names);
  const { person, plane } = fleet.of(cluster);
  const key = `demo/${name}`;
  const exists = (await person.get(services, key)) !== undefined;
  switch (dice.below(16)) {
    case 0:
    case 1: {
      if (exists && dice.chance(0.5)) return "nothing";
      if (exists) {
        await person.delete(services, key);
        await person.delete(endpointSlices, `${key}-${cluster}abc`);
        return `${cluster}: delete service ${name}`;
      }
      const shape = dice.of(shapes);
      await fleet.makeService(cluster, name, structuredClone(shape));
      return `${cluster}: service ${name} ${JSON.stringify(shape)}`;
    }
    case 2:
    case 3:
    case 4: {
      const service = await person.get(services, key);
      const port = service ? (service.spec?.ports?.[0]?.name ?? "") : "http";
      const addresses = Array.from(
        { length: dice.below(4) },
        (_, i) => `10.${10 + 2 * clusters.indexOf(cluster)}.${dice.below(3)}.${i + 1}`,
      );
      await fleet.setEndpoints(cluster, name, addresses, { portName: port, hostnames: dice.chance(0.5) });
      return `${cluster}: endpoints of ${name}: ${addresses.join(",")}`;
    }
    case 5:
    case 6:
    case 7: {
      const exported = await person.get(serviceExports, key);
      if (exported && dice.chance(0.7)) {
        await fleet.unexport(cluster, name);
        return `${cluster}: un-export ${name}`;
      }
      if (exported) return "nothing";
      await fleet.exportService(cluster, name);
      return `${cluster}: export ${name}`;
    }
    case 8:
      if (plane) {
        fleet.stopPlane(cluster);
        return `${cluster}: control plane dies`;
      }
      await fleet.startPlane(cluster);
      return `${cluster}: control plane starts`;
    case 9: {
      const other = dice.of(clusters);
      if (other !== cluster && dice.chance(0.4)) {
        const refuse = dice.chance(0.6);
        fleet.refuse(cluster, other, refuse);
        return `${other} ${refuse ? "refuses" : "takes"} ${cluster}`;
      }
      if (dice.chance(0.5)) {
        fleet.cut(cluster, other);
        return `${cluster} -/- ${other}`;
      }
      fleet.heal(cluster, other);
      return `${cluster} --- ${other}`;
    }
    case 10:
      if (dice.chance(0.5)) {
        fleet.isolate(cluster);
        return `${cluster}: cut from all others`;
      }
      fleet.rejoin(cluster);
      return `${cluster}: back with all others`;
    case 11: {
      // Somebody deletes what is not theirs (law 10).
      const resource = dice.of<Resource<KubeObject>>([
        services,
        endpointSlices,
        serviceImports,
      ] as Resource<KubeObject>[]);
      const items = (await person.list(resource)).items.filter(isOurs);
      const victim = items.length > 0 ? dice.of(items) : undefined;
      if (!victim) return "nothing";
      await person.delete(resource, { namespace: "demo", name: victim.metadata.name });
      return `${cluster}: somebody deletes ${resource.plural} ${victim.metadata.name}`;
    }
    case 13: {
      const peer = dice.of(clusters.filter((other) => other !== cluster));
      if (dice.chance(0.5)) {
        await person.delete(secrets, `${systemNamespace}/weft-peer-${peer}`);
        return `${cluster}: leaves ${peer}`;
      }
      await fleet.introduce(cluster, peer);
      return `${cluster}: joins ${peer}`;
    }
    case 14: {
      const import_ = await person.get(serviceImports, key);
      if (import_?.metadata.labels?.["app.kubernetes.io/managed-by"] === "weft") return "nothing";
      if (import_) {
        await person.delete(serviceImports, key);
        return `${cluster}: deletes the import ${name} written by hand`;
      }
      return `${cluster}: import ${name} by hand ${await importByHand(fleet, cluster, name, dice)}`;
    }
    case 12:
      fleet.weather = dice.of([
        { latency: 0, loss: 0 },
        { latency: 50, loss: 0 },
        { latency: 200, loss: 0.05 },
        { latency: 1000, loss: 0.2 },
      ]);
      return `weather: ${JSON.stringify(fleet.weather)}`;
    default: {
      const seconds = dice.of([0.1, 0.5, 1, 5, 15, 40]);
      await fleet.pass(seconds);
      return `${seconds} s pass`;
    }
  }
}

async function importByHand(fleet: Fleet, cluster: string, name: string, dice: Dice): Promise<string> {
  const ips = dice.chance(0.5) ? { ips: [givenAddress] } : {};
  try {
    await fleet.of(cluster).person.create(
      serviceImports,
      {
        metadata: { namespace: "demo", name },
        spec: { type: "ClusterSetIP", ports: [{ name: "manual", protocol: "TCP", port: 7 }], ...ips },
      },
      { manager: "kubectl" },
    );
  } catch (error) {
    if (!isAlreadyExists(error)) throw error;
    return "comes too late: there is one";
  }
  return JSON.stringify(ips);
}

/** Most services are there, with endpoints, and exported, at different times. */
async function populate(fleet: Fleet, dice: Dice): Promise<void> {
  for (const cluster of clusters) {
    if (dice.chance(0.4)) await importByHand(fleet, cluster, dice.of(names), dice);
  }
  for (const cluster of clusters) {
    for (const name of names) {
      if (dice.chance(0.1)) continue;
      const shape = structuredClone(dice.of(shapes));
      await fleet.makeService(cluster, name, shape);
      const address = `10.${10 + 2 * clusters.indexOf(cluster)}.9.${1 + names.indexOf(name)}`;
      const [port = {}] = shape.ports as { name?: string }[];
      const portName = port.name ?? "";
      await fleet.setEndpoints(cluster, name, [address], { portName });
      if (dice.chance(0.7)) await fleet.exportService(cluster, name);
      if (dice.chance(0.5)) await fleet.pass(1);
    }
  }
}

export interface Played {
  fleet: Fleet;
  record: string[];
}

/** Plays a history; at its end everything is healed and running, and all that was under way has had its time. */
export async function play(seed: number, steps: number, record: string[] = []): Promise<Played> {
  const dice = new Dice(seed);
  const fleet = await Fleet.start(new SimulatedWorld(seed), clusters);
  for (const cluster of clusters) await fleet.startPlane(cluster);
  await fleet.rest();
  await populate(fleet, dice);
  for (let i = 0; i < steps; i++) {
    const what = await step(fleet, dice);
    if (what !== "nothing") record.push(what);
    // Sometimes several things happen before anybody has noticed the first.
    if (dice.chance(0.6)) await fleet.pass(0.5);
  }
  fleet.weather = { latency: 0, loss: 0 };
  for (const cluster of clusters) {
    fleet.rejoin(cluster);
    for (const other of clusters) fleet.refuse(cluster, other, false);
  }
  for (const cluster of clusters) fleet.heal(cluster, cluster);
  for (const cluster of clusters) if (!fleet.of(cluster).plane) await fleet.startPlane(cluster);
  await fleet.pass(150);
  return { fleet, record };
}
