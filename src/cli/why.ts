/** `weft why`: which fields of which objects are behind what a proxy does. */
import type { Command } from "commander";
import type { Origin, Reason } from "../traffic/index.ts";
import { askOfProxy, type ProxyOptions, proxyArgument } from "./proxy-pod.ts";
import { type OutputFormat, outputOption, print } from "./table.ts";

interface Options extends ProxyOptions {
  output: OutputFormat;
}

export function define(command: Command): void {
  proxyArgument(outputOption(command))
    .argument("[host]", "only calls to this host, as clients write it: catalog, shop.example:8080, or a URL")
    .action(show);
}

async function show(pod: string, host: string | undefined, options: Options): Promise<void> {
  const called = host?.replace(/^[a-z]+:\/\//, "").replace(/\/.*$/, "");
  const found = await askOfProxy<Reason[]>("/debug/reasons", pod, options, called ? { host: called } : {});
  await print(options.output, found, () => text(found, called));
}

/** Each part with what it does, and below it every object and field that made it so. */
export function text(reasons: readonly Reason[], host?: string): string {
  if (reasons.length === 0)
    return host === undefined
      ? "nothing: no object asks anything of this proxy"
      : `nothing: no object says anything of ${host} to this proxy`;
  return reasons
    .map(({ part, name, match, does, origins }) =>
      [
        `${part} ${name}${match ? ` [${match}]` : ""}: ${does}`,
        ...origins.map((origin) => `    ${originText(origin)}`),
      ].join("\n"),
    )
    .join("\n");
}

/** `VirtualService coolapp/catalog spec.http[0].route[1]`. */
function originText({ kind, namespace, name, field }: Origin): string {
  return `${kind} ${namespace}/${name}${field ? ` ${field}` : ""}`;
}
