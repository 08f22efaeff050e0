/**
 * Real clusters side by side, from the outside: starting them, installing Weft, and taking everything away again.
 * Each has a real control plane and one real node; the network between them is the lab's backbone.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import {
  closeSync,
  copyFileSync,
  existsSync,
  globSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { deployments, nodes, systemNamespace } from "../../../src/api/index.ts";
import {
  KubeClient,
  kubeconfigToWrite,
  mergeContexts,
  removeContexts,
  transportFor,
} from "../../../src/kube/index.ts";
import {
  type BalancerStatus,
  type ClusterSpec,
  contextName,
  defaultCluster,
  freePorts,
  type LabState,
  writeKeys,
} from "../../../src/lab/index.ts";
import { realWorld, sleep, timestamp } from "../../../src/world/index.ts";
import {
  envoyProgram,
  findProgram,
  goProgram,
  kubernetesPrograms,
  NotToBeHad,
  requirePackages,
} from "../programs.ts";
import { createGroups, joinGroups, processesIn, removeGroups } from "./cgroups.ts";
import { deployCoreDns } from "./coredns.ts";
import { groupsFile, imagesDir, openState } from "./files.ts";
import { writeImages } from "./images.ts";
import type { PairEvent } from "./pair.ts";

const world = realWorld();
const weft = fileURLToPath(new URL("../../../bin/weft", import.meta.url));
const chart = fileURLToPath(new URL("../../../deploy/helm/weft", import.meta.url));
/** Milliseconds for everything but building programs. */
const patience = 240_000;

export interface UpOptions {
  clusters: readonly string[];
  /** The file that gets the contexts; the one that kubectl uses unless told. */
  kubeconfig?: string | undefined;
  /** What meshes' proxies are; the chart's default unless told. Envoy is in the image when it is asked for. */
  proxy?: "embedded" | "envoy" | undefined;
  say: (line: string) => void;
  signal: AbortSignal;
}

/** Why real nodes cannot be had here without a try, or undefined. */
export function whyNot(): string | undefined {
  if (process.platform !== "linux") return "real nodes need Linux";
  if (process.getuid?.() !== 0) return "real nodes need root (containerd and kubelet do)";
  return undefined;
}

interface Programs {
  /** A folder. */
  kubernetes: string;
  coreDns: string;
  helm: string;
}

/** Builds or installs what is missing. Throws NotToBeHad. */
export function requirePrograms(say: (line: string) => void): Programs {
  const reason = whyNot();
  if (reason) throw new NotToBeHad(reason);
  const program = (name: string) => () => findProgram(name);
  requirePackages(
    {
      "etcd-server": program("etcd"),
      containerd: program("containerd"),
      runc: program("runc"),
      "containernetworking-plugins": () => existsSync("/usr/lib/cni/bridge"),
      nftables: program("nft"),
      conntrack: program("conntrack"),
      iproute2: program("ip"),
      "busybox-static": program("busybox"),
      curl: program("curl"),
    },
    say,
  );
  if (!existsSync("/proc/sys/net/bridge/bridge-nf-call-iptables")) {
    throw new NotToBeHad("the kernel's module br_netfilter is not loaded; 'modprobe br_netfilter' does it");
  }
  return {
    kubernetes: kubernetesPrograms(say),
    coreDns: goProgram("coredns", say),
    helm: goProgram("helm", say),
  };
}

/** Resolves when Weft runs in all clusters; whatever goes wrong, nothing is left behind. */
export async function up(options: UpOptions): Promise<void> {
  const { signal } = options;
  const state = openState();
  if (state.read() && processesIn(groupsOf(state)).length > 0) {
    throw new Error(`real clusters run already; 'npm run real -- down' ends them`);
  }
  await down();
  const begun = world.monotonic();
  const said = (what: string) => {
    options.say(`${((world.monotonic() - begun) / 1000).toFixed(1).padStart(6)} s  ${what}`);
  };
  const programs = requirePrograms(options.say);
  const envoy = options.proxy === "envoy" ? await envoyProgram(options.say) : undefined;
  const clusters = options.clusters.map((name, i) => defaultCluster(name, i));
  const ports = await freePorts(clusters.map(() => undefined));
  const kubeconfig = kubeconfigToWrite(options.kubeconfig);
  state.create({
    spec: { clusters },
    ports: Object.fromEntries(clusters.map(({ name }, i) => [name, ports[i]!])),
    launcher: process.pid,
    kubeconfig,
    started: timestamp(world),
  });
  let images: Promise<void> | undefined;
  try {
    const work = join(state.dir, "work");
    const keys = await writeKeys(world, state, clusters);
    signal.throwIfAborted();
    const pair = startPair(state, programs.kubernetes);
    images = writeImages(imagesDir(state), work, { coreDns: programs.coreDns, envoy }).then(() => {
      rmSync(work, { recursive: true });
      said("images");
      pair.tell("images");
    });
    const members = clusters.map((cluster, i) => member(cluster, ports[i]!, keys[cluster.name]!));
    const all = Promise.all([images, ...members.map((each) => bring(each))]);
    await Promise.race([all, pair.failed, aborted(signal)]);
    await mergeContexts(
      kubeconfig,
      members.map(({ context, credentials }) => ({ name: context, credentials })),
    );
    await installWeft(members, kubeconfig, programs.helm, options.proxy, signal);
    said("Weft is installed and the clusters are joined");
    pair.tell("release");

    async function bring({ cluster, client, context }: Member): Promise<void> {
      await pair.ready(cluster.name);
      said(`${context}: control plane`);
      await deployCoreDns(client, cluster);
      const node = cluster.nodes[0]!.name;
      await until(`node ${node} is ready`, async () =>
        (await client.get(nodes, node))?.status?.conditions?.some(
          ({ type, status }) => type === "Ready" && status === "True",
        ),
      );
      said(`${context}: node ${node}`);
      await until(
        `CoreDNS of ${context} is ready`,
        async () =>
          ((await client.get(deployments, "kube-system/coredns"))?.status?.availableReplicas ?? 0) > 0,
      );
      said(`${context}: CoreDNS`);
    }
  } catch (error) {
    await images?.catch(() => {}); // what is still being written would be left behind
    if (signal.aborted) {
      await down();
      throw signal.reason;
    }
    const log = `${state.dir}-failed`;
    keepLogs(state, log);
    options.say(`the logs of what ran are in ${log}`);
    await down();
    throw error;
  }

  async function until(what: string, good: () => Promise<boolean | undefined>): Promise<void> {
    while (!(await good())) {
      if (world.monotonic() - begun > patience) throw new Error(`not within ${patience / 1000} s: ${what}`);
      await sleep(world, 250, signal);
    }
  }
}

/** Where Services of type LoadBalancer are reached from this machine; undefined when no clusters run. */
export async function balancers(): Promise<BalancerStatus[] | undefined> {
  const socket = connect(openState().socket);
  try {
    return JSON.parse(await text(socket)) as BalancerStatus[];
  } catch (error) {
    if (["ENOENT", "ECONNREFUSED"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw error;
  }
}

/** Ends the clusters that there are, and leaves nothing of them. False when there were none. */
export async function down(): Promise<boolean> {
  const state = openState();
  const record = state.read();
  if (!record) return false;
  const groups = groupsOf(state);
  for (let left = processesIn(groups); left.length > 0; left = processesIn(groups)) {
    for (const pid of left) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It has ended.
      }
    }
    await sleep(world, 50);
  }
  removeGroups(groups);
  await removeContexts(
    record.kubeconfig,
    record.spec.clusters.map(({ name }) => contextName(name)),
  );
  state.remove();
  return true;
}

function groupsOf(state: LabState): string[] {
  const file = groupsFile(state);
  return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as string[]) : [];
}

interface Pair {
  ready(name: string): Promise<void>;
  /** Rejects when it ends. */
  failed: Promise<never>;
  /** That the images are written; that it is to stay when this process ends. */
  tell(what: "images" | "release"): void;
}

/** Starts `pair.ts` in control groups and namespaces of its own. */
function startPair(state: LabState, programs: string): Pair {
  const groups = createGroups(`weft-real-${process.pid}`);
  writeFileSync(groupsFile(state), JSON.stringify(groups));
  const log = openSync(state.log, "a", 0o600);
  const script = fileURLToPath(new URL("pair.ts", import.meta.url));
  const namespaces = [
    "--cgroup",
    "--mount",
    "--pid",
    "--ipc",
    "--uts",
    "--fork",
    "--kill-child",
    "--mount-proc",
  ];
  // The inner shell is pid 1: it reaps what orphans leave, which Node would not.
  const inner = ["sh", "-c", '"$@"; exit $?', "weft-real", process.execPath, script, programs, state.dir];
  const join = `${joinGroups(groups)}; exec "$@"`;
  const child = spawn("sh", ["-ec", join, "sh", "unshare", ...namespaces, ...inner], {
    detached: true,
    stdio: ["ignore", log, log, "ipc"],
    cwd: "/",
    env: { ...process.env, PATH: `${process.env.PATH ?? ""}:/usr/local/sbin:/usr/sbin:/sbin` },
  });
  closeSync(log);
  return follow(child);
}

function follow(child: ChildProcess): Pair {
  const ready = new Map<string, PromiseWithResolvers<void>>();
  const of = (name: string) => {
    const known = ready.get(name) ?? Promise.withResolvers<void>();
    ready.set(name, known);
    return known;
  };
  const failed = Promise.withResolvers<never>();
  failed.promise.catch(() => {});
  child.on("message", (event: PairEvent) => {
    if ("ready" in event) of(event.ready).resolve();
    else failed.reject(new Error(event.failed));
  });
  child.on("error", failed.reject);
  child.on("exit", () => failed.reject(new Error("the clusters ended")));
  return {
    ready: (name) => Promise.race([of(name).promise, failed.promise]),
    failed: failed.promise,
    tell(what) {
      child.send(what, () => {
        if (what === "images") return;
        child.disconnect();
        child.unref();
      });
    },
  };
}

interface Member {
  cluster: ClusterSpec;
  context: string;
  credentials: { server: string; ca: string; cert: string; key: string };
  client: KubeClient;
}

function member(cluster: ClusterSpec, port: number, keys: ClusterKeys): Member {
  const context = contextName(cluster.name);
  const credentials = { server: `https://127.0.0.1:${port}`, ca: keys.ca.cert, ...keys.admin };
  const transport = transportFor(credentials);
  const client = new KubeClient({ transport, world, cluster: context, server: credentials.server });
  return { cluster, context, credentials, client };
}

type ClusterKeys = Awaited<ReturnType<typeof writeKeys>>[string];

/** As a person would: the chart in each cluster, the word to its DNS, then `weft join`. */
async function installWeft(
  members: readonly Member[],
  kubeconfig: string,
  helm: string,
  proxy: UpOptions["proxy"],
  signal: AbortSignal,
): Promise<void> {
  const run = (program: string, ...args: string[]) =>
    promisify(execFile)(program, args, { signal, timeout: patience });
  const of = ["--kubeconfig", kubeconfig];
  await Promise.all(
    members.map(async ({ cluster: { name }, context }) => {
      const where = [
        "--kube-context",
        context,
        "--namespace",
        systemNamespace,
        "--create-namespace",
        "--wait",
      ];
      const values = [`clusterName=${name}`, ...(proxy ? [`proxy=${proxy}`] : [])];
      await run(helm, "install", "weft", chart, ...of, ...where, "--set", values.join(","));
      await run(weft, "install", "--dns-only", "--patch-coredns", "--context", context, ...of);
    }),
  );
  if (members.length > 1) await run(weft, "join", ...members.map(({ context }) => context), ...of);
}

function aborted(signal: AbortSignal): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
  return promise;
}

/** Copies the logs out of a directory that is about to go. */
function keepLogs(state: LabState, into: string): void {
  rmSync(into, { recursive: true, force: true });
  mkdirSync(into, { mode: 0o700 });
  const logs = globSync("{*.log,*/nodes/*/*.log}", { cwd: state.dir });
  for (const log of logs) copyFileSync(join(state.dir, log), join(into, log.replaceAll("/", "-")));
}
