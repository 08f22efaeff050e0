/** `weft up`: clusters on this machine, with Weft installed and joined. `tour` uses the same functions. */
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual } from "node:util";
import { type Command, InvalidArgumentError, Option } from "commander";
import { type ProxyImplementation, pods, systemNamespace, WeftError } from "../api/index.ts";
import {
  deployControlPlane,
  joinClusters,
  prepareCluster,
  renewExpired,
  waitForControlPlane,
} from "../install/index.ts";
import { KubeClient, kubeconfigToWrite, mergeContexts, removeContexts, transportFor } from "../kube/index.ts";
import {
  type ClusterPki,
  type ClusterSpec,
  contextName,
  defaultCluster,
  endLab,
  findEnvoy,
  freePorts,
  isClusterName,
  type LabRecord,
  type LabSpec,
  LabState,
  type Launch,
  labStatus,
  launchLab,
  podBundle,
  readLabFile,
  requireEnvoy,
  requireLatency,
  requireTools,
  writeKeys,
} from "../lab/index.ts";
import { realWorld, sleep, timestamp, type World } from "../world/index.ts";
import { proxyOption } from "./proxy-option.ts";

export interface UpOptions {
  spec: LabSpec;
  /**
   * What to do where a lab was kept. `same`: bring it back if it is of the same spec. `any`: bring it back.
   * Otherwise, and when it differs, LAB_KEPT.
   */
  kept?: "same" | "any" | undefined;
  /** The file that the contexts are written to; the one that kubectl uses unless told. */
  kubeconfig?: string | undefined;
  /** Port of the first cluster's API server, the others follow; any free ports unless told. */
  port?: number | undefined;
  /** Told what was done, a line at a time. */
  line?: ((text: string) => void) | undefined;
  signal?: AbortSignal | undefined;
}

export function define(command: Command): void {
  command
    .option("-f, --file <file>", "lab file: clusters, nodes, network, links and images (docs/lab.md)")
    .addOption(new Option("--clusters <names>", "names of the clusters (default: c1,c2)").conflicts("file"))
    .addOption(
      new Option("--nodes <number>", "nodes per cluster (default: 1)").argParser(positive).conflicts("file"),
    )
    .option(
      "--kubeconfig <file>",
      "the kubeconfig that gets the contexts (default: the one that kubectl uses)",
    )
    .option(
      "--port <number>",
      "port of the first API server on 127.0.0.1, the others follow (default: any free ports)",
      port,
    )
    .addOption(proxyOption())
    .addOption(
      new Option("--control-plane <program...>", "what runs as API server and controllers").hideHelp(),
    )
    .action(async (options: Flags) => {
      const stop = new AbortController();
      for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
        process.on(signal, () => stop.abort(new Error(`stopped by ${signal}; nothing is left behind`)));
      }
      const { file, clusters, nodes, controlPlane, kubeconfig, proxy } = options;
      const spec = file === undefined ? specOf(clusters?.split(","), nodes) : await readLabFile(file);
      if (controlPlane) for (const cluster of spec.clusters) cluster.controlPlane = controlPlane;
      if (proxy) spec.mesh = { proxy };
      const told = [file, clusters, nodes, proxy].some((flag) => flag !== undefined);
      const started = await up({
        spec,
        kept: told ? "same" : "any",
        kubeconfig,
        port: options.port,
        line: console.log,
        signal: stop.signal,
      });
      console.log(`try: kubectl --context ${contextName(started.clusters[0]!.name)} get pods -A`);
    });
}

interface Flags {
  file?: string;
  clusters?: string;
  nodes?: number;
  controlPlane?: string[];
  kubeconfig?: string;
  port?: number;
  proxy?: ProxyImplementation;
}

/** A lab of clusters with these names and no more to say about them. Throws CLUSTER_NAME_INVALID. */
export function specOf(names: readonly string[] = ["c1", "c2"], nodes = 1): LabSpec {
  const trimmed = names.map((name) => name.trim());
  for (const [i, name] of trimmed.entries()) {
    if (!isClusterName(name) || trimmed.indexOf(name) !== i)
      throw new WeftError("CLUSTER_NAME_INVALID", { name });
  }
  return { clusters: trimmed.map((name, i) => defaultCluster(name, i, nodes)) };
}

function positive(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new InvalidArgumentError("It is not a whole number above 0.");
  return value;
}

function port(text: string): number {
  const value = positive(text);
  // Room for the clusters that follow.
  if (value > 65_000) throw new InvalidArgumentError("It should be 65000 at most.");
  return value;
}

/**
 * Resolves when every cluster's control plane is ready, with what runs then; on any error, or an abort, nothing is
 * left behind but what was kept before.
 */
export async function up(options: UpOptions): Promise<LabSpec> {
  const world = realWorld();
  const state = new LabState();
  requireTools();
  const kept = await requireNoLab(state);
  if (kept && options.kept !== "any" && !(options.kept && isDeepStrictEqual(kept.spec, options.spec))) {
    const reason = options.kept ? "another is asked for" : "this needs a new one";
    throw new WeftError("LAB_KEPT", { clusters: namesOf(kept.spec), reason });
  }
  const spec = kept?.spec ?? options.spec;
  if (spec.links?.some(({ latency }) => latency > 0)) requireLatency();
  const { proxy } = spec.mesh ?? {};
  // Where it is there, pods may choose it also where others run the embedded proxy.
  const envoy = proxy === "envoy" ? await requireEnvoy(options.line) : findEnvoy();
  const kubeconfig = kubeconfigToWrite(options.kubeconfig ?? kept?.kubeconfig);
  const ports = await portsFor(spec, options.port, kept);
  const started = timestamp(world);
  const bundle = podBundle(fileURLToPath(new URL("../..", import.meta.url)), world.now());
  const record: LabRecord = {
    spec,
    ports,
    launcher: process.pid,
    kubeconfig,
    started,
    ...(envoy && { envoy }),
    ...(bundle && { bundle: bundle.path }),
  };
  state.create(kept ? { ...record, kept: true } : record);
  // Where it cannot be made, pods run the sources.
  const programs = bundle?.ready.catch((error: unknown) => options.line?.(`no bundle: ${String(error)}`));

  let launch: Launch | undefined;
  const aborted = Promise.withResolvers<never>();
  aborted.promise.catch(() => {});
  const onAbort = () => aborted.reject(options.signal?.reason);
  options.signal?.addEventListener("abort", onAbort, { once: true });
  try {
    options.signal?.throwIfAborted();
    launch = launchLab(state);
    const bring = kept ? bringBack : bringUp;
    await Promise.race([
      bring(world, state, launch, {
        ...options,
        clusters: spec.clusters,
        proxy,
        ports,
        kubeconfig,
        programs,
      }),
      aborted.promise,
    ]);
    launch.release();
    if (kept) state.resumed();
    return spec;
  } catch (error) {
    await launch?.kill();
    await dropContexts(kubeconfig, spec.clusters);
    // The clusters are gone, so what a person would look at in them is of no use: the log is.
    const stuck = error instanceof WeftError && error.code === "INSTALL_STUCK";
    const failed = stuck
      ? new WeftError("LAB_FAILED", { reason: error.message, log: state.failedLog })
      : error;
    const log = failed instanceof WeftError && failed.code === "LAB_FAILED";
    if (log) state.saveLog();
    if (kept) state.keep();
    else state.remove();
    throw failed;
  } finally {
    options.signal?.removeEventListener("abort", onAbort);
  }
}

/** Ports on 127.0.0.1: those that are asked for, those that a kept lab had, or any free ones. */
async function portsFor(
  { clusters }: LabSpec,
  first: number | undefined,
  kept: LabRecord | undefined,
): Promise<Record<string, number>> {
  const asked = clusters.map(({ hostPort }, i) => (first === undefined ? hostPort : first + i));
  const before = asked.map((port, i) => port ?? kept?.ports[clusters[i]!.name]);
  // What a kept lab had is good to have, not more.
  const free = await freePorts(before).catch(() => freePorts(asked));
  return Object.fromEntries(clusters.map(({ name }, i) => [name, free[i]!]));
}

interface BringUp {
  clusters: ClusterSpec[];
  proxy?: ProxyImplementation | undefined;
  ports: Record<string, number>;
  kubeconfig: string;
  /** Resolves when what our own pods run is there. */
  programs: Promise<void> | undefined;
  line?: ((text: string) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/** Tells what was done, and when. */
function progress(world: World, line: BringUp["line"]): (what: string) => void {
  const begun = world.monotonic();
  return (what) => {
    const seconds = ((world.monotonic() - begun) / 1000).toFixed(1);
    line?.(`${seconds.padStart(5)} s  ${what}`);
  };
}

async function bringUp(world: World, state: LabState, launch: Launch, options: BringUp): Promise<void> {
  const { clusters, ports, signal, proxy, programs } = options;
  const done = progress(world, options.line);
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
      await programs;
      await deployControlPlane(client, { name: cluster.name, ...(proxy && { proxy }) }, hooks);
      await waitForControlPlane(client, signal);
      done(`${cluster.name}: control plane ready`);
    }),
  ]);
  await writeContexts(keys, options);
  done(`contexts ${contextsOf(clusters)} in ${options.kubeconfig}`);
}

/**
 * Starts a lab that was kept. What is in its clusters is the user's business: nothing is installed or joined. But
 * credentials that ended meanwhile are renewed, as the control planes would have done.
 */
async function bringBack(world: World, state: LabState, launch: Launch, options: BringUp): Promise<void> {
  const { clusters, ports, signal, programs } = options;
  const done = progress(world, options.line);
  const begun = world.now();
  const keys = Object.fromEntries(clusters.map(({ name }) => [name, state.readClusterPki(name)]));
  // Its pods start with its nodes.
  await Promise.all([launch.ready("backbone"), programs]);
  done("network");
  launch.start();
  const members = clusters.map((cluster) => {
    const { name } = cluster;
    const client = adminClient(world, cluster, ports[name]!, keys[name]!);
    return { client, cluster, name, ca: keys[name]!.ca.cert, server: `https://${cluster.apiAddress}:6443` };
  });
  const renewed = Promise.all(clusters.map(({ name }) => launch.ready(name))).then(() =>
    renewExpired(members),
  );
  await Promise.all([
    renewed,
    ...members.map(async ({ client, cluster }) => {
      const { name, nodes } = cluster;
      await launch.ready(name);
      done(`${name}: API server at https://127.0.0.1:${ports[name]}`);
      await Promise.all(nodes.map((node) => launch.ready(node.name)));
      const back = await waitForPods(client, begun, signal);
      done(`${name}: ${back ? "control plane ready" : "the control plane is not ready yet"}`);
    }),
  ]);
  await writeContexts(keys, options);
  done(`contexts ${contextsOf(clusters)} in ${options.kubeconfig}`);
}

/** How long the control plane of a lab that was kept may take before the user is told, in milliseconds. */
const patience = 30_000;

/** Whether every pod in `weft-system` that should run was started since `begun` and is ready. Waits for it for a while. */
async function waitForPods(client: KubeClient, begun: number, signal?: AbortSignal): Promise<boolean> {
  const { world } = client;
  const end = world.monotonic() + patience;
  while (world.monotonic() < end) {
    const { items } = await client.list(pods, { namespace: systemNamespace, ...(signal && { signal }) });
    const waiting = items.filter(({ metadata, status }) => {
      if (metadata.deletionTimestamp || status?.phase === "Succeeded" || status?.phase === "Failed")
        return false;
      const started = status?.containerStatuses?.every(
        ({ ready, state }) => ready && Date.parse(state?.running?.startedAt ?? "") >= begun - 1000,
      );
      return !started;
    });
    if (waiting.length === 0) return true;
    await sleep(world, 50, signal);
  }
  return false;
}

async function writeContexts(
  keys: Record<string, ClusterPki>,
  { clusters, ports, kubeconfig, signal }: BringUp,
): Promise<void> {
  signal?.throwIfAborted();
  await mergeContexts(
    kubeconfig,
    clusters.map(({ name }) => {
      const { admin, ca } = keys[name]!;
      const server = `https://127.0.0.1:${ports[name]}`;
      return {
        name: contextName(name),
        credentials: { server, ca: ca.cert, cert: admin.cert, key: admin.key },
      };
    }),
  );
}

const contextsOf = (clusters: readonly ClusterSpec[]) =>
  clusters.map(({ name }) => contextName(name)).join(", ");

function adminClient(world: World, cluster: ClusterSpec, port: number, pki: ClusterPki): KubeClient {
  const server = `https://127.0.0.1:${port}`;
  const transport = transportFor({ server, ca: pki.ca.cert, cert: pki.admin.cert, key: pki.admin.key });
  return new KubeClient({ transport, world, cluster: contextName(cluster.name), server });
}

/**
 * Ends the lab and takes its contexts away, and its directory unless it is to be `kept`. A lab that does not run but
 * was kept is taken away too. Gives what there was.
 */
export async function down(options: { keep?: boolean } = {}): Promise<"running" | "kept" | undefined> {
  const state = new LabState();
  const record = state.read();
  const ended = await endLab(state, options.keep ?? false);
  if (record) await dropContexts(record.kubeconfig, record.spec.clusters);
  if (ended) return "running";
  return record?.kept ? "kept" : undefined;
}

function dropContexts(kubeconfig: string, clusters: readonly ClusterSpec[]): Promise<void> {
  return removeContexts(
    kubeconfig,
    clusters.map(({ name }) => contextName(name)),
  );
}

const namesOf = ({ clusters }: LabSpec) => clusters.map(({ name }) => name).join(", ");

/** Throws LAB_RUNNING or LAB_STARTING; takes away what a lab that died left. Gives the lab that was kept. */
async function requireNoLab(state: LabState): Promise<LabRecord | undefined> {
  const running = await labStatus(state);
  if (running) {
    throw new WeftError("LAB_RUNNING", { clusters: running.clusters.map(({ name }) => name).join(", ") });
  }
  const before = state.read();
  if (!before) return undefined;
  if (isAlive(before.launcher)) throw new WeftError("LAB_STARTING");
  await down({ keep: before.kept ?? false });
  return before.kept ? before : undefined;
}

/** False for 0, which is nobody. */
function isAlive(pid: number): boolean {
  try {
    return pid > 0 && process.kill(pid, 0);
  } catch {
    return false;
  }
}
