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
import { memoryByGroup } from "./memory.ts";
import { namespaceFile, nodeNamespace, type Run, run, setUpBackbone } from "./network/index.ts";
import {
  type LabAnswer,
  type LabEvent,
  type LabOrder,
  type LabRequest,
  type LabStatus,
  type ProcessStatus,
  readLines,
  writeLine,
} from "./protocol.ts";
import type { ClusterSpec } from "./spec.ts";
import { contextName, LabState } from "./state.ts";
import { Supervised } from "./supervisor.ts";

/** The lab's root network namespace, the backbone: a file that the namespace is bound to. */
const backboneFile = "/run/weft-backbone";
/** Small heaps: these processes hold little that lives long, and there are many of them. */
const leanFlags = ["--max-semi-space-size=2", "--v8-pool-size=1"];
const world = realWorld();

/** Nodes of a cluster start when its API server is ready. */
interface Cluster {
  spec: ClusterSpec;
  server: Supervised;
  nodes: Supervised[];
  stopped: boolean;
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

const clusters = record.spec.clusters.map((spec): Cluster => {
  const cluster: Cluster = {
    spec,
    stopped: false,
    server: supervised(
      spec.name,
      backboneFile,
      spec.controlPlane ?? script("cluster.ts"),
      [spec.name],
      () => {
        for (const node of cluster.nodes) if (!cluster.stopped) node.start();
      },
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

try {
  await prepareMounts();
  await setUpBackbone(record.spec, inBackbone(run));
  tell({ ready: "backbone" });
  await keysWritten.promise;
  for (const { server } of clusters) server.start();
  await Promise.all(
    clusters.map(({ spec }) =>
      listen(
        createServer((socket) => relay(socket, state.apiSocket(spec.name))),
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

/** Ends the lab: the directory goes, and everything in the pid namespace with this process. */
function end(code = 0): void {
  held = false;
  if (code === 0) {
    // What is mounted below it is mounted for the lab alone, but a mount point cannot be removed.
    spawnSync("umount", ["--recursive", "--lazy", "--quiet", ...runDirs.map(({ dir }) => dir)]);
    state.remove();
  }
  process.exit(code);
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
  return [process.execPath, ...leanFlags, fileURLToPath(new URL(name, import.meta.url))];
}

/** A process of the lab in the given network namespace; `args` follow the lab's directory. */
function supervised(
  name: string,
  namespace: string,
  program: readonly string[],
  args: string[],
  onReady: () => void,
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
  );
}

/** Connects a client of 127.0.0.1 with a UNIX socket. Either end closing closes the other. */
function relay(client: Socket, path: string): void {
  client.setNoDelay(true);
  const server = connect(path);
  client.pipe(server).pipe(client);
  for (const [one, other] of [
    [client, server],
    [server, client],
  ] as const) {
    one.on("error", () => other.destroy());
    one.on("close", () => other.destroy());
  }
}

function listen(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", resolve);
  });
}

async function answer(request: LabRequest, socket: Socket): Promise<void> {
  try {
    if (request.do === "down") return end(); // the socket closes when the last of us is gone
    writeLine(socket, await perform(request));
  } catch (error) {
    writeLine(socket, { error: error instanceof Error ? error.message : String(error) });
  }
}

async function perform(request: LabRequest): Promise<LabAnswer> {
  switch (request.do) {
    case "status":
      return { ok: true, status: await status() };
    case "stop": {
      const cluster = clusterNamed(request.cluster);
      cluster.stopped = true;
      await Promise.all([cluster.server.stop(), ...cluster.nodes.map((node) => node.stop())]);
      for (const { dir } of runDirs.filter((each) => each.cluster === request.cluster))
        await killContainers(dir);
      return { ok: true };
    }
    case "start": {
      const cluster = clusterNamed(request.cluster);
      cluster.stopped = false;
      cluster.server.start();
      return { ok: true };
    }
    case "kill": {
      const found = clusters
        .flatMap(({ server, nodes }) => [server, ...nodes])
        .find(({ spec }) => spec.name === request.process);
      if (!found) throw new Error(`no process is called '${request.process}'`);
      found.kill();
      return { ok: true };
    }
    default:
      throw new Error(`unknown request '${(request as { do?: string }).do}'`);
  }
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

async function status(): Promise<LabStatus> {
  const all: { supervised: Supervised; role: ProcessStatus["role"]; cluster: string }[] = clusters.flatMap(
    ({ spec, server, nodes }) => [
      { supervised: server, role: "cluster", cluster: spec.name },
      ...nodes.map((node) => ({ supervised: node, role: "node" as const, cluster: spec.name })),
    ],
  );
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
      cluster,
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
        cluster,
        state,
        restarts: 0,
        memory: memory.get(pods) ?? 0,
      });
    }
  }
  return {
    started: record!.started,
    kubeconfig: record!.kubeconfig,
    clusters: clusters.map(({ spec, server, stopped }) => ({
      name: spec.name,
      server: `https://127.0.0.1:${record!.ports[spec.name]}`,
      context: contextName(spec.name),
      state: stopped ? "stopped" : server.state,
      nodes: spec.nodes.map((node) => node.name),
    })),
    processes,
    memory: processes.reduce((sum, each) => sum + each.memory, 0),
  };
}
