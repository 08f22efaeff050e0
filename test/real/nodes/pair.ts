/**
 * The process under which a pair of real clusters lives, as a lab's daemon is for a lab: in mount, pid and control
 * group namespaces of its own, but in the machine's network namespace, where it listens on 127.0.0.1 and relays
 * to the API servers and to load balancers. Who connects to its UNIX socket is told where these are reached. When it
 * ends, the kernel ends every process and namespace of the pair.
 *
 *   node pair.ts PROGRAMS DIR
 *
 * Its parent hears over IPC what is ready, and why it ends. It says `images` when they are there to be pulled, and
 * `release` in the end; until then this process goes with its parent.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { fileURLToPath } from "node:url";
import { Relays } from "../../../src/lab/balancer/index.ts";
import { namespaceFile, nodeNamespace, run, setUpBackbone } from "../../../src/lab/network/index.ts";
import type { BalancersMessage } from "../../../src/lab/protocol.ts";
import { LabState } from "../../../src/lab/state.ts";
import { mountGroups } from "./cgroups.ts";
import { imagesDir } from "./files.ts";

/** What the parent is told. */
export type PairEvent = { ready: string } | { failed: string };

const [programs, dir] = process.argv.slice(2) as [string, string];
const state = new LabState(dir);
const record = state.read()!;
const backbone = "/run/weft-backbone";
const inBackbone = (command: readonly string[]) => ["nsenter", `--net=${backbone}`, ...command];

let released = false;
const imagesWritten = Promise.withResolvers<void>();
process.on("message", (message) => {
  if (message === "images") imagesWritten.resolve();
  if (message !== "release") return;
  released = true;
  process.disconnect();
});
process.on("disconnect", () => {
  if (!released) process.exit(1);
});
const tell = (event: PairEvent) => {
  if (process.connected) process.send?.(event);
};

/** One part gone is all gone. */
function fail(reason: string): void {
  console.error(reason);
  if (process.connected) process.send?.({ failed: reason } satisfies PairEvent, () => process.exit(1));
  else process.exit(1);
}
process.on("uncaughtException", (error) => fail(error.stack ?? error.message));

function start(name: string, command: readonly string[], onReady: () => void): ChildProcess {
  const child = spawn(command[0]!, command.slice(1), { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  child.on("message", (message) => {
    if (message !== "ready") return relays.update(name, (message as BalancersMessage).balancers);
    tell({ ready: name });
    onReady();
  });
  child.on("error", (error) => fail(`${name}: ${error.message}`));
  child.on("exit", (code, signal) => fail(`${name} ended (${signal ?? code})`));
  return child;
}

/** Carries connections to load balancers. */
let relay: ChildProcess | undefined;
const relays = new Relays({
  file: state.relaysFile,
  first() {
    const file = fileURLToPath(new URL("../../../src/lab/balancer/relay-process.ts", import.meta.url));
    relay ??= start("relay", inBackbone([process.execPath, file]), () => {});
  },
  hand: (target, socket) => void relay!.send(target, socket),
  log: (line) => console.error(line),
});

await run(["/bin/sh", "-es"], `${mountGroups()}\nmount -t tmpfs -o mode=755 run /run`);
mkdirSync("/run/netns");
writeFileSync(backbone, "");
await run(["unshare", `--net=${backbone}`, "true"]);
await setUpBackbone(record.spec, (command, input) => run(inBackbone(command), input));

const script = (name: string) => [
  process.execPath,
  fileURLToPath(new URL(name, import.meta.url)),
  programs,
  state.dir,
];
const images = imagesWritten.promise.then(() => {
  const served = Promise.withResolvers<void>();
  const program = [
    process.execPath,
    fileURLToPath(new URL("registry.ts", import.meta.url)),
    imagesDir(state),
  ];
  start("registry", inBackbone([...program, record.spec.clusters[0]!.apiAddress]), served.resolve);
  return served.promise;
});
for (const cluster of record.spec.clusters) {
  const api = Promise.withResolvers<void>();
  start(
    cluster.name,
    inBackbone([...script("../control-plane.ts"), cluster.name, "--real-nodes"]),
    api.resolve,
  );
  for (const node of cluster.nodes) {
    const own = [
      "nsenter",
      `--net=${namespaceFile(nodeNamespace(node))}`,
      "unshare",
      "--mount",
      "--ipc",
      "--uts",
    ];
    const child = start(node.name, [...own, ...script("node.ts"), cluster.name, node.name], () => {});
    void Promise.all([api.promise, images]).then(() => child.send("api"));
  }
  createServer((client) => connectWith(client, state.apiSocket(cluster.name))).listen(
    record.ports[cluster.name],
    "127.0.0.1",
  );
}

createServer((socket) => {
  socket.on("error", () => {}).end(JSON.stringify(relays.status));
}).listen(state.socket);

/** Either end closing closes the other. */
function connectWith(client: Socket, path: string): void {
  const server = connect(path);
  client.setNoDelay(true).pipe(server).pipe(client);
  for (const [one, other] of [
    [client, server],
    [server, client],
  ] as const) {
    one.on("error", () => other.destroy());
    one.on("close", () => other.destroy());
  }
}
