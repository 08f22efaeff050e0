/** `weft install`. */
import { type Command, InvalidArgumentError } from "commander";
import { stringify } from "yaml";
import { deployments, type ProxyImplementation, systemNamespace } from "../api/index.ts";
import { clusterName, controlPlane, forwardDns, installOn, manifests } from "../install/index.ts";
import type { KubeClient } from "../kube/index.ts";
import { clientOf, nameFromContext } from "./contexts.ts";
import { leaseOption } from "./lease.ts";
import { proxyOption } from "./proxy-option.ts";

interface Options {
  context?: string;
  kubeconfig?: string;
  name?: string;
  image?: string;
  replicas?: number;
  patchCoredns?: boolean;
  dnsOnly?: boolean;
  dryRun?: boolean;
  leaseDuration?: number;
  proxy?: ProxyImplementation;
}

export function define(command: Command): void {
  command
    .option("--context <name>", "context of the cluster (default: the current one)")
    .option("--kubeconfig <file>", "the kubeconfig that has the context (default: the one that kubectl uses)")
    .option(
      "--name <name>",
      "the cluster's name in the clusterset (default: it has one, or its context's name)",
    )
    .option("--image <image>", "the control plane's image")
    .addOption(leaseOption())
    .option(
      "--replicas <number>",
      "control planes: one leads, all answer DNS (default: as many as there are, or 1)",
      count,
    )
    .addOption(proxyOption())
    .option("--patch-coredns", "tell CoreDNS where clusterset.local is, in its Corefile (docs/install.md)")
    .option("--dns-only", "only tell the cluster's DNS where clusterset.local is: after 'helm install'")
    .option("--dry-run", "print the manifests and change nothing")
    .action(async (options: Options) => {
      const { client, context } = clientOf(options.context, options.kubeconfig);
      const hooks = {
        onStep: (step: string) => console.log(`${context}: ${step}`),
        onNote: (note: string) => console.log(`${context}: ${note}`),
      };
      const patchCoreDns = options.patchCoredns ?? false;
      const { image, leaseDuration, replicas, proxy } = options;
      const given = {
        ...(image && { image }),
        ...(leaseDuration && { leaseDuration }),
        ...(replicas && { replicas }),
        ...(proxy && { proxy }),
      };
      if (options.dryRun) {
        const name = options.name ?? nameFromContext(context);
        const documents = manifests({ name, ...given }).map(({ object }) => stringify(object));
        console.log(`${documents.join("---\n")}`.trimEnd());
        return;
      }
      if (options.dnsOnly) {
        const forwarded = await forwardDns(client, undefined, { patchCoreDns }, hooks);
        if (forwarded) console.log(`${context}: its DNS forwards clusterset.local`);
        return;
      }
      const [named, known] = await Promise.all([clusterName(client), settingsOf(client)]);
      const name = options.name ?? named ?? nameFromContext(context);
      await installOn(client, { name, patchCoreDns, ...known, ...given }, hooks);
      console.log(`${context}: Weft is installed; the cluster is called '${name}'`);
    });
}

/** An upgrade keeps the number of control planes, their lease and the proxy. */
async function settingsOf(
  client: KubeClient,
): Promise<{ replicas?: number; leaseDuration?: number; proxy?: ProxyImplementation }> {
  const ref = { namespace: systemNamespace, name: controlPlane };
  const { replicas, template } = (await client.get(deployments, ref))?.spec ?? {};
  const { args = [], env = [] } = template?.spec?.containers[0] ?? {};
  const lease = Number(args.find((arg) => arg.startsWith("--lease-duration="))?.split("=")[1]);
  const proxy = env.find(({ name }) => name === "WEFT_PROXY")?.value;
  return {
    ...(replicas && { replicas }),
    ...(lease && { leaseDuration: lease }),
    ...((proxy === "embedded" || proxy === "envoy") && { proxy }),
  };
}

function count(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new InvalidArgumentError("It is not a whole number above 0.");
  return value;
}
