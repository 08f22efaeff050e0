/**
 * `weft proxy-init`: the init container of a pod with a sidecar. Redirects the pod's TCP traffic to the proxy. Its flags
 * are the annotations `traffic.sidecar.istio.io/…` in the command line's spelling.
 */
import type { Command } from "commander";
import { readPorts, readRanges, redirectionFile } from "../agent/index.ts";

interface Options {
  includeInboundPorts: string[];
  excludeInboundPorts: string[];
  includeOutboundPorts: string[];
  excludeOutboundPorts: string[];
  includeOutboundIpRanges: string[];
  excludeOutboundIpRanges: string[];
  mode?: string;
  file: string;
  undo?: boolean;
}

export function define(command: Command): void {
  command
    .option("--include-inbound-ports <ports>", "ports whose incoming connections are redirected", readPorts, [
      "*",
    ])
    .option("--exclude-inbound-ports <ports>", "and which of them are not", readPorts, [])
    .option(
      "--include-outbound-ports <ports>",
      "outgoing connections to these ports, to any address",
      readPorts,
      [],
    )
    .option("--exclude-outbound-ports <ports>", "and which are left alone", readPorts, [])
    .option("--include-outbound-ip-ranges <ranges>", "outgoing connections to these addresses", readRanges, [
      "*",
    ])
    .option("--exclude-outbound-ip-ranges <ranges>", "and which are left alone", readRanges, [])
    .option("--mode <uid|address>", "what tells the proxy's own connections; found out, when left out")
    .option("--file <path>", "where the choice is noted for the proxy", redirectionFile)
    .option("--undo", "take the rules away")
    .action(run);
}

async function run(options: Options): Promise<void> {
  const { redirect, undo, addressesPassedBy } = await import("../agent/index.ts");
  if (options.undo) return undo(options.file);
  const { mode } = options;
  if (mode !== undefined && mode !== "uid" && mode !== "address") {
    throw new Error(`--mode is uid or address, not '${mode}'`);
  }
  const redirection = redirect(
    {
      ...options,
      mode,
      podAddress: process.env.INSTANCE_IP || undefined,
      includeOutboundRanges: options.includeOutboundIpRanges,
      excludeOutboundRanges: options.excludeOutboundIpRanges,
      outboundPort: 15001,
      inboundPort: 15006,
    },
    options.file,
  );
  const how =
    redirection.mode === "uid"
      ? "the proxy's uid passes"
      : `what is bound to ${redirection.bindAddress} passes`;
  console.log(`TCP connections are redirected to the proxy; ${how}`);
  const passedBy = addressesPassedBy();
  if (passedBy.length > 0) console.log(`IPv6 is left alone: ${passedBy.join(", ")} pass the mesh by`);
}
