/** `weft up`: clusters on this machine, with Weft installed and joined. `tour` uses the same functions. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { WeftError } from "../api/index.ts";
import { deployControlPlane, joinClusters, prepareCluster, waitForControlPlane } from "../install/index.ts";
import { KubeClient, kubeconfigToWrite, mergeContexts, removeContexts, transportFor } from "../kube/index.ts";
import {
  type ClusterPki,
  type ClusterSpec,
  contextName,
  defaultCluster,
  endLab,
  freePorts,
  LabState,
  type Launch,
  labStatus,
  launchLab,
  requireTools,
  writeKeys,
} from "../lab/index.ts";
import { realWorld, timestamp, type World } from "../world/index.ts";

export interface UpOptions {
  clusters: string[];
  /** Nodes per cluster; 1 unless told. */
  nodes?: number | undefined;
  /** The file that the contexts are written to; the one that kubectl uses unless told. */
  kubeconfig?: string | undefined;
  /** Port of the first cluster's API server, the others follow; any free ports unless told. */
  port?: number | undefined;
  /** The clusters' API server and controllers, instead of the lab's own (see `ClusterSpec`). */
  controlPlane?: string[] | undefined;
  /** Told what was done, a line at a time. */
  line?: ((text: string) => void) | undefined;
  signal?: AbortSignal | undefined;
}

export function define(command: Command): void {
  command
    .option("--clusters <names>", "names of the clusters", "c1,c2")
    .option("--nodes <number>", "nodes per cluster", positive, 1)
    .option(
      "--kubeconfig <file>",
      "the kubeconfig that gets the contexts (default: the one that kubectl uses)",
    )
    .option(
      "--port <number>",
      "port of the first API server on 127.0.0.1 (default: any free ports)",
      positive,
    )
    .addOption(
      new Option("--control-plane <program...>", "what runs as API server and controllers").hideHelp(),
    )
    .action(async (options: Omit<UpOptions, "clusters"> & { clusters: string }) => {
      const stop = new AbortController();
      for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
        process.on(signal, () => stop.abort(new Error(`stopped by ${signal}; nothing is left behind`)));
      }
      const clusters = options.clusters.split(",").map((name) => name.trim());
      await up({ ...options, clusters, line: console.log, signal: stop.signal });
      console.log(`try: kubectl --context ${contextName(clusters[0]!)} get pods -A`);
    });
}

function positive(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new InvalidArgumentError("It is not a whole number above 0.");
  return value;
}

/** Resolves when every cluster's control plane is ready; on any error, or an abort, nothing is left behind. */
export async function up(options: UpOptions): Promise<void> {
  const world = realWorld();
  const state = new LabState();
  const clusters = clustersNamed(options.clusters, options.nodes ?? 1);
  const { controlPlane } = options;
  if (controlPlane) for (const cluster of clusters) cluster.controlPlane = controlPlane;
  requireTools();
  await requireNoLab(state);
  const kubeconfig = kubeconfigToWrite(options.kubeconfig);
  const free = await freePorts(clusters.length, options.port);
  const ports = Object.fromEntries(clusters.map(({ name }, i) => [name, free[i]!]));
  const started = timestamp(world);
  state.create({ spec: { clusters }, ports, launcher: process.pid, kubeconfig, started });

  let launch: Launch | undefined;
  const aborted = Promise.withResolvers<never>();
  aborted.promise.catch(() => {});
  const onAbort = () => aborted.reject(options.signal?.reason);
  options.signal?.addEventListener("abort", onAbort, { once: true });
  try {
    options.signal?.throwIfAborted();
    launch = launchLab(state);
    await Promise.race([
      bringUp(world, state, launch, { ...options, clusters, ports, kubeconfig }),
      aborted.promise,
    ]);
    launch.release();
  } catch (error) {
    await launch?.kill();
    await dropContexts(kubeconfig, clusters);
    // The clusters are gone, so what a person would look at in them is of no use: the log is.
    const stuck = error instanceof WeftError && error.code === "INSTALL_STUCK";
    const failed = stuck
      ? new WeftError("LAB_FAILED", { reason: error.message, log: state.failedLog })
      : error;
    if (failed instanceof WeftError && failed.code === "LAB_FAILED") state.removeFailed();
    else state.remove();
    throw failed;
  } finally {
    options.signal?.removeEventListener("abort", onAbort);
  }
}

interface BringUp {
  clusters: ClusterSpec[];
  ports: Record<string, number>;
  kubeconfig: string;
  line?: ((text: string) => void) | undefined;
  signal?: AbortSignal | undefined;
}

async function bringUp(world: World, state: LabState, launch: Launch, options: BringUp): Promise<void> {
  const { clusters, ports, kubeconfig, signal } = options;
  const begun = world.monotonic();
  const done = (what: string) => {
    const seconds = ((world.monotonic() - begun) / 1000).toFixed(1);
    options.line?.(`${seconds.padStart(5)} s  ${what}`);
  };
  const [keys] = await Promise.all([writeKeys(world, state, clusters), launch.ready("backbone")]);
  done("network and keys");
  launch.start();
  const members = await Promise.all(
    clusters.map(async (cluster) => {
      const pki = keys[cluster.name]!;
      const client = adminClient(world, cluster, ports[cluster.name]!, pki);
      await launch.ready(cluster.name);
      done(`${cluster.name}: API server at https://127.0.0.1:${ports[cluster.name]}`);
      await prepareCluster(client, { name: cluster.name }, signal ? { signal } : {});
      done(`${cluster.name}: definitions and access`);
      return { client, cluster, ca: pki.ca.cert, server: `https://${cluster.apiAddress}:6443` };
    }),
  );
  const hooks = signal ? { signal } : {};
  await Promise.all([
    joinClusters(members, signal).then(() => members.length > 1 && done("clusters joined")),
    ...members.map(async ({ client, cluster }) => {
      await deployControlPlane(client, { name: cluster.name }, hooks);
      await waitForControlPlane(client, signal);
      done(`${cluster.name}: control plane ready`);
    }),
  ]);
  await mergeContexts(
    kubeconfig,
    members.map(({ cluster, ca }) => {
      const { admin } = keys[cluster.name]!;
      const server = `https://127.0.0.1:${ports[cluster.name]}`;
      return {
        name: contextName(cluster.name),
        credentials: { server, ca, cert: admin.cert, key: admin.key },
      };
    }),
  );
  done(`contexts ${clusters.map(({ name }) => contextName(name)).join(", ")} in ${kubeconfig}`);
}

function adminClient(world: World, cluster: ClusterSpec, port: number, pki: ClusterPki): KubeClient {
  const server = `https://127.0.0.1:${port}`;
  const transport = transportFor({ server, ca: pki.ca.cert, cert: pki.admin.cert, key: pki.admin.key });
  return new KubeClient({ transport, world, cluster: contextName(cluster.name), server });
}

/** Ends the lab and takes its contexts away. False when none ran. */
export async function down(): Promise<boolean> {
  const state = new LabState();
  const record = state.read();
  const ended = await endLab(state);
  if (record) await dropContexts(record.kubeconfig, record.spec.clusters);
  return ended;
}

function dropContexts(kubeconfig: string, clusters: readonly ClusterSpec[]): Promise<void> {
  return removeContexts(
    kubeconfig,
    clusters.map(({ name }) => contextName(name)),
  );
}

function clustersNamed(names: string[], nodes: number): ClusterSpec[] {
  for (const [i, name] of names.entries()) {
    if (!/^[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?$/.test(name) || names.indexOf(name) !== i) {
      throw new WeftError("CLUSTER_NAME_INVALID", { name });
    }
  }
  return names.map((name, i) => defaultCluster(name, i, nodes));
}

/** Throws LAB_RUNNING or LAB_STARTING; takes away what a lab that died left. */
async function requireNoLab(state: LabState): Promise<void> {
  const running = await labStatus(state);
  if (running) {
    throw new WeftError("LAB_RUNNING", { clusters: running.clusters.map(({ name }) => name).join(", ") });
  }
  const stale = state.read();
  if (!stale) return;
  if (isAlive(stale.launcher)) throw new WeftError("LAB_STARTING");
  await down();
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
