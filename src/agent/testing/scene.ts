/**
 * A pod and what is outside of it, for the tests of redirection: this process is in the pod's network namespace, and a
 * namespace `outside` is one hop away. Every listener answers with its own name and the address that it sees.
 */
import { execFile, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { promisify } from "node:util";

export const pod = "10.99.0.2";
export const outside = "10.99.0.1";

const answering = `require("node:net").createServer((socket) => {
  socket.on("error", () => {});
  socket.end("outside " + socket.remoteAddress);
})`;

/** Makes the link and starts the listeners: `outside` 8080, 9090; in the pod `app` 8080, the proxy's, 15021. */
export async function makeScene(): Promise<() => void> {
  const ip = (...args: string[]) => execFileSync("ip", args);
  execFileSync("mount", ["-t", "tmpfs", "none", "/run"]);
  ip("link", "set", "lo", "up");
  ip("netns", "add", "outside");
  ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", "outside");
  ip("address", "add", `${pod}/24`, "dev", "eth0");
  ip("link", "set", "eth0", "up");
  ip("-n", "outside", "address", "add", `${outside}/24`, "dev", "eth0");
  ip("-n", "outside", "link", "set", "eth0", "up");
  ip("-n", "outside", "link", "set", "lo", "up");
  const ports = [8080, 9090].map((port) => `${answering}.listen(${port}, "0.0.0.0", () => console.log(1));`);
  const program = spawn("ip", ["netns", "exec", "outside", process.execPath, "-e", ports.join("\n")]);
  await once(program.stdout, "data");
  for (const [name, port] of [
    ["app", 8080],
    ["outbound", 15001],
    ["inbound", 15006],
    ["readiness", 15021],
  ] as const) {
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.end(`${name} ${socket.remoteAddress}`);
    }).listen(port, "0.0.0.0");
    server.unref();
    await once(server, "listening");
  }
  return () => program.kill();
}

/** Who answers, and whom they see. */
export async function ask(host: string, port: number, from?: string): Promise<string> {
  const socket = connect({ host, port, ...(from && { localAddress: from }) });
  socket.setTimeout(5000, () => socket.destroy(new Error(`no answer from ${host}:${port}`)));
  let said = "";
  for await (const chunk of socket.setEncoding("utf8")) said += chunk;
  return said;
}

/** The same, asked by a program: `prefix` says in which namespace and as whom. */
export async function askBy(prefix: readonly string[], host: string, port: number): Promise<string> {
  const program = `require("node:net").connect(${port}, "${host}").pipe(process.stdout)`;
  const [first, ...rest] = [...prefix, process.execPath, "-e", program];
  return (await promisify(execFile)(first!, rest, { timeout: 5000 })).stdout;
}

export const fromOutside = ["ip", "netns", "exec", "outside"];
