/**
 * `weft proxy sidecar|gateway`: what runs in the container `istio-proxy`. Its settings are environment variables.
 * `weft proxy wait` returns when it serves.
 */
import type { Command } from "commander";

export function define(command: Command): void {
  command.argument("<role>", "sidecar or gateway; wait: until the one that runs here serves").action(run);
}

async function run(role: string): Promise<void> {
  const { runAgent, waitForProxy } = await import("../agent/index.ts");
  if (role === "wait") return waitForProxy();
  if (role === "sidecar" || role === "gateway") return runAgent(role);
  throw new Error(`a proxy is sidecar or gateway, not '${role}'`);
}
