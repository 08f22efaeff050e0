/**
 * `weft proxy-config`: what discovery has for a proxy, as Envoy's resources. Tables have istioctl's columns; `-o json`
 * and `-o yaml` are protobuf's JSON form, as Envoy's own `/config_dump` has it.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Argument, type Command } from "commander";
import { type DumpedResource, type Kind, type ProxyDump, typeUrls } from "../xds/index.ts";
import { askOfProxy, type ProxyOptions, proxyArgument } from "./proxy-pod.ts";
import { type OutputFormat, outputOption, print } from "./table.ts";

/** What is asked for, in all of its spellings → the kind of resource. */
const kinds: Readonly<Record<string, Kind | undefined>> = {
  listener: "listener",
  listeners: "listener",
  route: "route",
  routes: "route",
  cluster: "cluster",
  clusters: "cluster",
  endpoint: "endpoints",
  endpoints: "endpoints",
  secret: "secret",
  secrets: "secret",
  all: undefined,
};

interface Options extends ProxyOptions {
  output: OutputFormat;
}

export function define(command: Command): void {
  outputOption(command).addArgument(new Argument("<kind>", "what to show").choices(Object.keys(kinds)));
  proxyArgument(command).action(show);
}

async function show(asked: string, pod: string, options: Options): Promise<void> {
  const kind = kinds[asked];
  const { resources } = await askOfProxy<ProxyDump>("/debug/config", pod, options, kind ? { kind } : {});
  const json = options.output === "table" ? [] : await asJson(resources);
  const tables = await import("./proxy-config-tables.ts");
  const tableOf: Record<Kind, (resources: DumpedResource[]) => string> = {
    listener: tables.listenerTable,
    route: tables.routeTable,
    cluster: tables.clusterTable,
    endpoints: tables.endpointTable,
    secret: tables.secretTable,
  };
  await print(options.output, json, () => {
    const parts: string[] = [];
    for (const each of ["cluster", "listener", "route", "endpoints", "secret"] as const) {
      const some = resources.filter((resource) => resource.kind === each);
      if ((kind ?? each) === each && (some.length > 0 || kind)) parts.push(tableOf[each](some));
    }
    if (kind === "secret" && resources.length === 0)
      return "none: discovery hands out gateways' credentials; a workload's own certificate is with its agent (/certs at its port 15000)";
    for (const { kind: of, name: resource, rejected } of resources) {
      if (rejected !== undefined) parts.push(`rejected: ${of} ${resource}: ${rejected.trim()}`);
    }
    return parts.join("\n\n");
  });
}

/** protobuf's JSON form of the messages, with everything that is packed in them. */
async function asJson(resources: readonly DumpedResource[]): Promise<unknown[]> {
  const { createFileRegistry, fromBinary, toJson } = await import("@bufbuild/protobuf");
  const { FileDescriptorSetSchema } = await import("@bufbuild/protobuf/wkt");
  const root = fileURLToPath(new URL("../..", import.meta.url));
  const descriptors = readFileSync(join(root, "build/protocols/descriptors.binpb"));
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, descriptors));
  return resources.map(({ kind, message }) => {
    const schema = registry.getMessage(typeUrls[kind].slice("type.googleapis.com/".length));
    if (!schema) throw new Error(`${typeUrls[kind]} is not known`);
    return toJson(schema, fromBinary(schema, Buffer.from(message, "base64")), { registry });
  });
}
