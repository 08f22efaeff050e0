/**
 * exec and attach: what a client's channels have to do with a container. Source: kubernetes
 * `k8s.io/cri-streaming/pkg/streaming/remotecommand/{exec,attach}.go`.
 */
import { type Channels, copyOutput, endOutput, exitStatus, type StreamRequest } from "./channels.ts";
import { findInContainer, killInContainer, spawnInContainer } from "./exec.ts";
import type { RunningContainer } from "./runtime.ts";
import { resizeTerminal, resizeTerminalOf, terminalWords } from "./terminal.ts";

/** Runs a program beside the container's own. Rejects when it cannot be started. */
export async function serveExec(
  channels: Channels,
  instance: RunningContainer,
  request: StreamRequest,
): Promise<void> {
  if (request.command.length === 0) throw new Error("you must specify at least 1 command for the container");
  const program = request.command[0]!;
  if (!findInContainer(instance, program)) {
    throw new Error(
      "error executing command in container: OCI runtime exec failed: exec failed: unable to start container process: " +
        `exec: "${program}": executable file not found in $PATH`,
    );
  }
  if (request.tty) return serveTerminal(channels, instance, request);
  const child = spawnInContainer(instance, request.command);
  void channels.closed.then(() => killInContainer(child, "SIGKILL"));
  connectInput(channels, child);
  const outputs = Promise.all([
    copyOutput([child.stdout], channels.stdout),
    copyOutput([child.stderr], channels.stderr),
  ]);
  const code = await exitCode(child);
  await outputs;
  channels.end(exitStatus(code));
}

/** How long a client has to tell the size of its terminal before the program starts. Milliseconds. */
const sizeWithin = 100;

/** exec with a terminal of its own, one of the container's. */
async function serveTerminal(
  channels: Channels,
  instance: RunningContainer,
  request: StreamRequest,
): Promise<void> {
  let size: [columns: number, rows: number] = [80, 24];
  const { promise: sized, resolve: onSize } = Promise.withResolvers<void>();
  let child: ReturnType<typeof spawnInContainer> | undefined;
  channels.onResize((columns, rows) => {
    size = [columns, rows];
    onSize();
    if (child) void resizeTerminalOf(instance, child, columns, rows);
  });
  await Promise.race([sized, new Promise((resolve) => setTimeout(resolve, sizeWithin))]);
  child = spawnInContainer(instance, terminalWords(request.command, size), { TERM: "xterm" });
  const started = child;
  void channels.closed.then(() => killInContainer(started, "SIGTERM"));
  connectInput(channels, child);
  const output = copyOutput([child.stdout, child.stderr], channels.stdout);
  const code = await exitCode(child);
  await output;
  channels.end(exitStatus(code));
}

function connectInput({ stdin }: Channels, child: ReturnType<typeof spawnInContainer>): void {
  child.stdin.on("error", () => {});
  if (stdin) stdin.pipe(child.stdin);
  else child.stdin.end();
  // What a program has not read when it ends nobody will.
  child.stdin.once("close", () => stdin?.resume());
}

function exitCode(child: ReturnType<typeof spawnInContainer>): Promise<number> {
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code) => resolve(code ?? 137));
  });
}

/** How far a client may be behind a container's output, in bytes: the container itself waits for nobody. */
const mostBehind = 16 * 1024 * 1024;

/** The container's own standard streams. Ends when the container ends or the client goes. */
export async function serveAttach(
  channels: Channels,
  instance: RunningContainer,
  request: StreamRequest,
): Promise<void> {
  const { stdinOnce, tty } = instance.record.config;
  const stdin = request.stdin ? await instance.stdin() : undefined;
  let ended = false;
  const endInput = () => {
    if (stdin && stdinOnce && !ended) void instance.closeStdin();
    ended = true;
  };
  if (stdin) {
    channels.stdin?.pipe(stdin, { end: false });
    channels.stdin?.once("end", endInput);
  } else channels.stdin?.resume();
  channels.onResize((columns, rows) => {
    if (tty) void resizeTerminal(instance, columns, rows);
  });
  const forward = (from: "stdout" | "stderr", chunk: Buffer) => {
    const to = channels[from];
    if (!to || to.destroyed) return;
    to.write(chunk);
    if (to.writableLength > mostBehind) channels.drop();
  };
  for (const [from, chunk] of instance.takeUnseen()) forward(from, chunk);
  instance.on("output", forward);
  void channels.closed.then(() => {
    instance.off("output", forward);
    if (stdin) channels.stdin?.unpipe(stdin);
    endInput();
  });
  await instance.exited;
  instance.off("output", forward);
  await Promise.all([endOutput(channels.stdout), endOutput(channels.stderr)]);
  // How the container ended is said by the pod's status, not by this stream.
  channels.end(exitStatus(0));
}
