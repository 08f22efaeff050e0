/**
 * exec and attach over WebSocket, subprotocol `v5.channel.k8s.io`: the first byte of each message is the channel.
 * Source: kubernetes `k8s.io/apimachinery/pkg/util/remotecommand/constants.go`, KEP-4006.
 */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";
import type { Status } from "../../api/index.ts";
import { findInContainer, killInContainer, spawnInContainer } from "./exec.ts";
import type { RunningContainer } from "./runtime.ts";
import { find, Refusal, type ServerOptions } from "./server.ts";
import { resizeTerminal, resizeTerminalOf, terminalWords } from "./terminal.ts";

const channel = { stdin: 0, stdout: 1, stderr: 2, error: 3, resize: 4, close: 255 } as const;
const protocols = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/** What the client wants of a stream. kube-apiserver says `input`, kubectl `stdin`. */
interface StreamRequest {
  command: string[];
  stdin: boolean;
  stdout: boolean;
  stderr: boolean;
  tty: boolean;
}

/** Answers upgrade requests for /exec and /attach. */
export function serveStreams(options: ServerOptions) {
  const sockets = new WebSocketServer({
    noServer: true,
    handleProtocols: (offered) => protocols.find((protocol) => offered.has(protocol)) ?? false,
  });
  return (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    socket.on("error", () => {});
    const url = new URL(request.url ?? "/", "https://kubelet");
    const [, what, namespace, pod, name] = url.pathname.split("/").map(decodeURIComponent);
    try {
      if ((what !== "exec" && what !== "attach") || !name) throw new Refusal(404, "404 page not found");
      const offered = (request.headers["sec-websocket-protocol"] ?? "").split(",").map((word) => word.trim());
      if (!offered.some((protocol) => protocols.includes(protocol))) {
        throw new Refusal(400, `none of the offered subprotocols is served: ${protocols.join(", ")}`);
      }
      const { container } = find(options, `${namespace}/${pod}`, name);
      const instance = container.current;
      if (!instance || instance.exit || instance.pid === undefined) {
        throw new Refusal(400, `container ${name} of pod ${namespace}/${pod} is not running`);
      }
      const wanted = readRequest(url.searchParams);
      sockets.handleUpgrade(request, socket, head, (webSocket) => {
        const stream = new ChannelSocket(webSocket);
        const served =
          what === "exec" ? serveExec(stream, instance, wanted) : serveAttach(stream, instance, wanted);
        served.catch((error: unknown) => stream.end(failure((error as Error).message)));
      });
    } catch (error) {
      const code = error instanceof Refusal ? error.code : 500;
      const text = `${(error as Error).message}\n`;
      socket.end(
        `HTTP/1.1 ${code} Refused\r\ncontent-type: text/plain\r\ncontent-length: ${Buffer.byteLength(text)}\r\nconnection: close\r\n\r\n${text}`,
      );
    }
  };
}

function readRequest(query: URLSearchParams): StreamRequest {
  const flag = (...names: string[]) => names.some((name) => ["true", "1"].includes(query.get(name) ?? ""));
  return {
    command: query.getAll("command"),
    stdin: flag("stdin", "input"),
    stdout: flag("stdout", "output"),
    stderr: flag("stderr", "error"),
    tty: flag("tty"),
  };
}

/** A WebSocket with channels. */
class ChannelSocket {
  readonly #socket: WebSocket;
  #ended = false;

  constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on("error", () => {});
  }

  onMessage(handle: (channel: number, data: Buffer) => void): void {
    this.#socket.on("message", (message: Buffer) => {
      if (message.length > 0) handle(message[0]!, message.subarray(1));
    });
  }

  onClose(handle: () => void): void {
    this.#socket.on("close", handle);
  }

  /** Sends output; the source is paused while the client is slow. */
  pipe(from: NodeJS.ReadableStream, to: number): Promise<void> {
    from.on("data", (chunk: Buffer) => {
      this.send(to, chunk, () => from.resume());
      if (this.#socket.bufferedAmount > 1024 * 1024) from.pause();
    });
    return new Promise((resolve) => {
      from.on("end", resolve);
      from.on("close", resolve);
      from.on("error", () => resolve());
    });
  }

  send(to: number, data: Buffer, sent?: () => void): void {
    if (this.#socket.readyState !== this.#socket.OPEN) return;
    this.#socket.send(Buffer.concat([Buffer.from([to]), data]), { binary: true }, () => sent?.());
  }

  /** Says how it ended and closes. */
  end(status: Status): void {
    if (this.#ended) return;
    this.#ended = true;
    this.send(channel.error, Buffer.from(JSON.stringify(status)));
    this.#socket.close(1000);
  }
}

function exitStatus(code: number): Status {
  if (code === 0) return { metadata: {}, status: "Success" };
  return {
    metadata: {},
    status: "Failure",
    message: `command terminated with non-zero exit code: error executing command, exit code ${code}`,
    reason: "NonZeroExitCode",
    details: { causes: [{ reason: "ExitCode", message: String(code) }] },
    code: 500,
  };
}

function failure(message: string): Status {
  return { metadata: {}, status: "Failure", message, reason: "InternalError", code: 500 };
}

async function serveExec(
  stream: ChannelSocket,
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
  if (request.tty) return serveTerminal(stream, instance, request);
  const child = spawnInContainer(instance, request.command);
  child.stdin.on("error", () => {});
  if (!request.stdin) child.stdin.end();
  stream.onMessage((from, data) => {
    if (from === channel.stdin) child.stdin.write(data);
    else if (from === channel.close && data[0] === channel.stdin) child.stdin.end();
  });
  stream.onClose(() => killInContainer(child, "SIGKILL"));
  const outputs = Promise.all([
    stream.pipe(child.stdout, channel.stdout),
    stream.pipe(child.stderr, channel.stderr),
  ]);
  const code = await exitCode(child);
  await outputs;
  stream.end(exitStatus(code));
}

/** How long a client has to tell the size of its terminal before the program starts. Milliseconds. */
const sizeWithin = 100;

/** exec with a terminal of its own, one of the container's. */
async function serveTerminal(
  stream: ChannelSocket,
  instance: RunningContainer,
  request: StreamRequest,
): Promise<void> {
  let size: [columns: number, rows: number] = [80, 24];
  const early: Buffer[] = [];
  const { promise: sized, resolve: onSize } = Promise.withResolvers<void>();
  let child: ReturnType<typeof spawnInContainer> | undefined;
  stream.onMessage((from, data) => {
    if (from === channel.stdin) {
      if (child) child.stdin.write(data);
      else early.push(data);
    } else if (from === channel.resize) {
      resize(data, (columns, rows) => {
        size = [columns, rows];
        onSize();
        if (child) void resizeTerminalOf(instance, child, columns, rows);
      });
    } else if (from === channel.close && data[0] === channel.stdin) child?.stdin.end();
  });
  await Promise.race([sized, new Promise((resolve) => setTimeout(resolve, sizeWithin))]);
  child = spawnInContainer(instance, terminalWords(request.command, size), { TERM: "xterm" });
  child.stdin.on("error", () => {});
  for (const data of early) child.stdin.write(data);
  stream.onClose(() => child && killInContainer(child, "SIGTERM"));
  const output = Promise.all([
    stream.pipe(child.stdout, channel.stdout),
    stream.pipe(child.stderr, channel.stdout),
  ]);
  const code = await exitCode(child);
  await output;
  stream.end(exitStatus(code));
}

function exitCode(child: ReturnType<typeof spawnInContainer>): Promise<number> {
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code) => resolve(code ?? 137));
  });
}

function resize(data: Buffer, apply: (columns: number, rows: number) => void): void {
  try {
    const { Width, Height } = JSON.parse(data.toString()) as { Width: number; Height: number };
    if (Width > 0 && Height > 0) apply(Width, Height);
  } catch {
    // No size at all: the terminal stays as it is.
  }
}

/** The container's own standard streams. Ends when the container ends or the client goes. */
async function serveAttach(
  stream: ChannelSocket,
  instance: RunningContainer,
  request: StreamRequest,
): Promise<void> {
  const { stdinOnce, tty } = instance.record.config;
  const stdin = request.stdin ? await instance.stdin() : undefined;
  const endInput = () => {
    if (stdin && stdinOnce) void instance.closeStdin();
  };
  stream.onMessage((from, data) => {
    if (from === channel.stdin) stdin?.write(data);
    else if (from === channel.close && data[0] === channel.stdin) endInput();
    else if (from === channel.resize && tty)
      resize(data, (columns, rows) => void resizeTerminal(instance, columns, rows));
  });
  const forward = (from: "stdout" | "stderr", chunk: Buffer) => {
    if (from === "stdout" ? request.stdout : request.stderr) stream.send(channel[from], chunk);
  };
  instance.on("output", forward);
  stream.onClose(() => {
    instance.off("output", forward);
    endInput();
  });
  await instance.exited;
  instance.off("output", forward);
  // How the container ended is said by the pod's status, not by this stream.
  stream.end(exitStatus(0));
}
