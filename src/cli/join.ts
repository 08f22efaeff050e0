/** `weft join`. */
import type { Command } from "commander";
import { joinClusters, serverForPeers } from "../install/index.ts";
import { clientOf } from "./contexts.ts";

interface Options {
  kubeconfig?: string;
  server: string[];
}

export function define(command: Command): void {
  command
    .argument("<context...>", "contexts of the clusters, at least two")
    .option(
      "--kubeconfig <file>",
      "the kubeconfig that has the contexts (default: the one that kubectl uses)",
    )
    .option(
      "--server <context=url>",
      "how peers reach a cluster's API server, where it is not as the kubeconfig says (may be repeated)",
      (value: string, all: string[]) => [...all, value],
      [],
    )
    .action(async (contexts: string[], options: Options) => {
      if (contexts.length < 2) command.error("error: name at least two contexts");
      const servers = new Map(
        options.server.map((value) => {
          const at = value.indexOf("=");
          if (at < 1 || !URL.canParse(value.slice(at + 1))) {
            command.error(`error: --server ${value} is not of the form CONTEXT=URL`);
          }
          return [value.slice(0, at), value.slice(at + 1)];
        }),
      );
      for (const context of servers.keys()) {
        if (!contexts.includes(context))
          command.error(`error: --server names ${context}, which does not join`);
      }
      const joiners = await Promise.all(
        contexts.map(async (name) => {
          const { client, context, credentials } = clientOf(name, options.kubeconfig);
          const server = servers.get(context) ?? (await serverForPeers(client, credentials.server));
          return { client, server, ca: credentials.ca === undefined ? undefined : String(credentials.ca) };
        }),
      );
      const { names, forgotten } = await joinClusters(joiners);
      console.log(`${names.join(", ")} read each other's offers`);
      for (const { reader, before, name } of forgotten) {
        console.log(`${reader} forgot ${before}, which is called ${name} now`);
      }
    });
}
