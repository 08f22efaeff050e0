/**
 * The lab's daemon: the process under which a whole lab lives. It runs in the lab's user, mount and pid
 * namespaces but in the network namespace of the machine, so it can listen on 127.0.0.1 and relay to the API
 * servers' UNIX sockets. When it ends, the kernel ends every process of the pid namespace with it.
 *
 *   unshare --user --mount --pid --fork … sh -c 'node daemon.ts DIR; …'
 *
 * File descriptor 3 is the channel to `weft up` (see `protocol.ts`).
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { connect, createServer, type Server, Socket } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { realWorld } from "../world/index.ts";
import { Relays } from "./balancer/index.ts";
import { leanNode } from "./lean.ts";
import { memoryByGroup } from "./memory.ts";
import {
  cutLink,
  healLink,
  namespaceFile,
  nodeNamespace,
  type Run,
  run,
  setLatencies,
  setUpBackbone,
} from "./network/index.ts";
import {
  type BalancersMessage,
  type LabAnswer,
  type LabEvent,
  type LabOrder,
  type LabRequest,
  type LabStatus,
  type LinkStatus,
  type ProcessStatus,
  readLines,
  writeLine,
} from "./protocol.ts";
import { joinSockets } from "./sockets.ts";
import type { ClusterSpec, LabSpec } from "./spec.ts";
import { contextName, LabState } from "./state.ts";
import { Supervised } from "./supervisor.ts";

/** The lab's root network namespace, the backbone: a file that the namespace is bound to. */
const backboneFile = "/run/weft-backbone";
const world = realWorld();

/** Nodes of a cluster start when its API server is ready. */
interface Cluster {
  spec: ClusterSpec;
  server: Supervised;
  nodes: Supervised[];
  /** Stopped on purpose: the whole cluster, or nodes of it by their names. */
  stopped: boolean;
  stoppedNodes: Set<string>;
}

const state = new LabState(process.argv[2]);
const record = state.read();
if (!record) throw new Error(`${state.recordFile} is not there`);

/** The nodes' directories of what runs. */
const runDirs = record.spec.clusters.flatMap(({ name: cluster, nodes }) =>
  nodes.map((node) => ({ cluster, node: node.name, dir: state.nodeRunDir(cluster, node.name) })),
);

const channel = new Socket({ fd: 3, readable: true, writable: true });
let held = true;
const tell = (event: LabEvent) => {
  if (held) writeLine(channel, event);
};
const keysWritten = Promise.withResolvers<void>();
readLines(channel, (line) => {
  const { order } = line as LabOrder;
  if (order === "start") keysWritten.resolve();
  else if (order === "release") held = false;
});
channel.on("error", () => {});
channel.on("close", () => {
  if (held) end();
});

/** Carries connections to load balancers; there is none before the first of these. */
const relay = supervised("relay", backboneFile, script("balancer/relay-process.ts"), [], () => {});
const relays = new Relays({
  file: state.relaysFile,
  /** Before anybody waits for it. */
  first: () => relay.start(),
  hand(target, socket) {
    if (!relay.hand(target, socket)) socket.destroy();
  },
  log: (line) => console.error(`${new Date(world.now()).toISOString()} relay: ${line}`),
});
const clusters = record.spec.clusters.map((spec): Cluster => {
  const cluster: Cluster = {
    spec,
    stopped: false,
    stoppedNodes: new Set(),
    server: supervised(
      spec.name,
      backboneFile,
      spec.controlPlane ?? script("cluster.ts"),
      [spec.name],
      () => startNodes(cluster),
      (message) => relays.update(spec.name, (message as BalancersMessage).balancers),
    ),
    nodes: spec.nodes.map((node) =>
      supervised(
        node.name,
        namespaceFile(nodeNamespace(node)),
        script("node.ts"),
        [spec.name, node.name],
        () => {},
      ),
    ),
  };
  return cluster;
});

/** Every link between two clusters, by both its ends. */
const links = linksOf(record.spec);
/** One change to the backbone at a time. */
let changed: Promise<unknown> = Promise.resolve();

try {
  await prepareMounts();
  await setUpBackbone(record.spec, inBackbone(run));
  if (record.spec.links?.length) await setLatencies(record.spec, [...links.values()], inBackbone(run));
  tell({ ready: "backbone" });
  await keysWritten.promise;
  for (const { server } of clusters) server.start();
  await Promise.all(
    clusters.map(({ spec }) =>
      listen(
        createServer((socket) => connectWith(socket, state.apiSocket(spec.name))),
        record.ports[spec.name]!,
      ),
    ),
  );
  const control = createServer((socket) => {
    socket.on("error", () => {});
    readLines(socket, (request) => void answer(request as LabRequest, socket));
  });
  control.listen(state.socket);
} catch (error) {
  tell({ failed: error instanceof Error ? error.message : String(error) });
  console.error(error);
  channel.end(() => end(1));
}

/**
 * Ends the lab: everything in the pid namespace goes with this process, and the directory too, unless it is to be
 * kept: what was kept already, and did not come back whole, stays.
 */
function end(code = 0, keep = held && record!.kept === true): void {
  held = false;
  try {
    if (code === 0) takeAway(keep);
  } catch (error) {
    console.error(error); // whoever asked takes away what is left when all of us are gone
  }
  process.exit(code);
}

function takeAway(keep: boolean): void {
  // They write into the directory.
  for (const { server, nodes } of clusters) for (const each of [server, ...nodes]) each.kill();
  // What is mounted below it is mounted for the lab alone, but a mount point cannot be removed.
  spawnSync("umount", ["--recursive", "--lazy", "--quiet", ...runDirs.map(({ dir }) => dir)]);
  if (keep) state.keep();
  else state.remove();
}

/** A fresh /run for the lab (network namespaces are bound there), and the backbone's namespace in it. */
async function prepareMounts(): Promise<void> {
  await run(["mount", "-t", "tmpfs", "-o", "mode=755", "weft-run", "/run"]);
  mkdirSync("/run/netns");
  writeFileSync(backboneFile, "");
  await run(["unshare", `--net=${backboneFile}`, "true"]);
}

function inBackbone(inner: Run): Run {
  return (command, input) => inner(["nsenter", `--net=${backboneFile}`, ...command], input);
}

/** The command that runs one of our own programs. */
function script(name: string): string[] {
  return [process.execPath, ...leanNode, fileURLToPath(new URL(name, import.meta.url))];
}

/** A process of the lab in the given network namespace; `args` follow the lab's directory. */
function supervised(
  name: string,
  namespace: string,
  program: readonly string[],
  args: string[],
  onReady: () => void,
  onMessage?: (message: unknown) => void,
): Supervised {
  return new Supervised(
    world,
    { name, command: ["nsenter", `--net=${namespace}`, ...program, state.dir, ...args], env: process.env },
    () => {
      tell({ ready: name });
      onReady();
    },
    (reason) => {
      console.error(`${new Date(world.now()).toISOString()} ${name} ended (${reason}); it is started again`);
      tell({ failed: `${name} ended (${reason})`, process: name });
    },
    onMessage,
  );
}

/** Connects a client of 127.0.0.1 with a UNIX socket. */
function connectWith(client: Socket, path: string): void {
  client.setNoDelay(true);
  joinSockets(client, connect(path));
}

function listen(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", resolve);
  });
}

async function answer(request: LabRequest, socket: Socket): Promise<void> {
  try {
    if (request.do === "down") return end(0, request.keep === true); // the socket closes when the last of us is gone
    writeLine(socket, await perform(request));
  } catch (error) {
    writeLine(socket, { error: error instanceof Error ? error.message : String(error) });
  }
}

async function perform(request: LabRequest): Promise<LabAnswer> {
  switch (request.do) {
    case "status":
      return { ok: true, status: await status() };
    case "stop":
      if ("node" in request) await stopNode(request.node);
      else await stopCluster(request.cluster);
      return { ok: true };
    case "start":
      if ("node" in request) startNode(request.node);
      else startCluster(request.cluster);
      return { ok: true };
    case "cut":
    case "heal":
    case "latency":
      changed = changed.catch(() => {}).then(() => changeLink(request));
      await changed;
      return { ok: true };
    case "kill": {
      const found = clusters
        .flatMap(({ server, nodes }) => [server, ...nodes])
        .concat(relay)
        .find(({ spec }) => spec.name === request.process);
      if (!found) throw new Error(`no process is called '${request.process}'`);
      found.kill();
      return { ok: true };
    }
    default:
      throw new Error(`unknown request '${(request as { do?: string }).do}'`);
  }
}

async function stopCluster(name: string): Promise<void> {
  const cluster = clusterNamed(name);
  cluster.stopped = true;
  await Promise.all([cluster.server.stop(), ...cluster.nodes.map((node) => node.stop())]);
  for (const { dir } of runDirs.filter((each) => each.cluster === name)) await killContainers(dir);
}

function startCluster(name: string): void {
  const cluster = clusterNamed(name);
  cluster.stopped = false;
  cluster.server.start();
}

async function stopNode(name: string): Promise<void> {
  const { cluster, node } = nodeNamed(name);
  cluster.stoppedNodes.add(name);
  await node.stop();
  for (const { dir } of runDirs.filter((each) => each.node === name)) await killContainers(dir);
}

function startNode(name: string): void {
  const { cluster } = nodeNamed(name);
  cluster.stoppedNodes.delete(name);
  if (cluster.server.state === "running") startNodes(cluster);
}

/** Those that nobody stopped on purpose. */
function startNodes({ nodes, stopped, stoppedNodes }: Cluster): void {
  for (const node of nodes) if (!stopped && !stoppedNodes.has(node.spec.name)) node.start();
}

/** Cuts or heals a link, or sets its latency. A change that fails leaves the link as it was. */
async function changeLink(request: LabRequest & { do: "cut" | "heal" | "latency" }): Promise<void> {
  const { spec } = record!;
  const [a, b] = request.between;
  const link = links.get(linkKey(a, b));
  if (!link) throw new Error(`the lab has no link between '${a}' and '${b}'`);
  const inside = inBackbone(run);
  if (request.do === "latency") {
    const { latency } = request;
    const others = [...links.values()].filter((each) => each !== link);
    await setLatencies(spec, [...others, { ...link, latency }], inside);
    link.latency = latency;
    return;
  }
  await (request.do === "cut" ? cutLink : healLink)(spec, a, b, inside);
  link.cut = request.do === "cut";
}

function linksOf({ clusters, links = [] }: LabSpec): Map<string, LinkStatus> {
  const all = clusters.flatMap(({ name: a }, i) =>
    clusters.slice(i + 1).map(({ name: b }): LinkStatus => ({ between: [a, b], cut: false, latency: 0 })),
  );
  const byEnds = new Map(all.map((link) => [linkKey(...link.between), link]));
  for (const { between, latency } of links) byEnds.get(linkKey(...between))!.latency = latency;
  return byEnds;
}

function linkKey(a: string, b: string): string {
  return [a, b].sort().join(" ");
}

/** Kills every container of a node: its first process, with which the rest of its pid namespace ends. */
async function killContainers(runDir: string): Promise<void> {
  const containers = join(runDir, "containers");
  for (const id of await readdir(containers).catch(() => [])) {
    const pid = Number.parseInt(await readFile(join(containers, id, "started"), "utf8").catch(() => ""), 10);
    try {
      if (pid > 1) process.kill(pid, "SIGKILL");
    } catch {
      // It has ended.
    }
  }
}

const podsOf = (node: string) => `pods of ${node}`;

function clusterNamed(name: string): Cluster {
  const found = clusters.find(({ spec }) => spec.name === name);
  if (!found) throw new Error(`the lab has no cluster '${name}'`);
  return found;
}

function nodeNamed(name: string): { cluster: Cluster; node: Supervised } {
  for (const cluster of clusters) {
    const node = cluster.nodes.find(({ spec }) => spec.name === name);
    if (node) return { cluster, node };
  }
  throw new Error(`the lab has no node '${name}'`);
}

async function status(): Promise<LabStatus> {
  const all: { supervised: Supervised; role: ProcessStatus["role"]; cluster?: string }[] = clusters.flatMap(
    ({ spec, server, nodes }) => [
      { supervised: server, role: "cluster", cluster: spec.name },
      ...nodes.map((node) => ({ supervised: node, role: "node" as const, cluster: spec.name })),
    ],
  );
  if (relay.pid) all.push({ supervised: relay, role: "relay" });
  const groups = new Map<number, string>();
  for (const { supervised } of all) if (supervised.pid) groups.set(supervised.pid, supervised.spec.name);
  // What runs below a node's directory is a container of that node.
  const memory = await memoryByGroup(groups, (commandLine) => {
    const found = runDirs.find(({ dir }) => commandLine.includes(`${dir}/`));
    return found && podsOf(found.node);
  });
  const processes: ProcessStatus[] = [
    {
      name: "lab",
      role: "daemon",
      state: "running",
      pid: process.pid,
      restarts: 0,
      memory: memory.get("") ?? 0,
    },
  ];
  for (const { supervised, role, cluster } of all) {
    const { name } = supervised.spec;
    const { state, pid, restarts } = supervised;
    processes.push({
      name,
      role,
      ...(cluster && { cluster }),
      state,
      ...(pid && { pid }),
      restarts,
      memory: memory.get(name) ?? 0,
    });
    if (role === "node") {
      const pods = podsOf(name);
      processes.push({
        name: pods,
        role: "pods",
        ...(cluster && { cluster }),
        state,
        restarts: 0,
        memory: memory.get(pods) ?? 0,
      });
    }
  }
  return {
    started: record!.started,
    kubeconfig: record!.kubeconfig,
    clusters: clusters.map(({ spec, server, stopped, stoppedNodes }) => ({
      name: spec.name,
      server: `https://127.0.0.1:${record!.ports[spec.name]}`,
      context: contextName(spec.name),
      state: stopped ? "stopped" : server.state,
      nodes: spec.nodes.map((node) => node.name),
      stoppedNodes: [...stoppedNodes],
    })),
    network: record!.spec.network ?? "flat",
    links: [...links.values()].filter(({ cut, latency }) => cut || latency > 0),
    balancers: relays.status,
    processes,
    memory: processes.reduce((sum, each) => sum + each.memory, 0),
  };
}
