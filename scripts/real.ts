/**
 * Real clusters on this machine for hand work: kubelet, containerd, kube-proxy and CoreDNS under real control
 * planes, with Weft installed and joined. Needs root; what is missing is installed or built once.
 *
 *   npm run real -- up [--clusters c1,c2] [--proxy embedded|envoy] [--kubeconfig FILE]
 *   npm run real -- status [-o json]      where Services of type LoadBalancer are reached
 *   npm run real -- down
 */
import { parseArgs } from "node:util";
import { table } from "../src/cli/table.ts";
import { kubeconfigToWrite } from "../src/kube/index.ts";
import { balancers, down, up } from "../test/real/nodes/launch.ts";

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    clusters: { type: "string", default: "c1,c2" },
    kubeconfig: { type: "string" },
    output: { type: "string", short: "o" },
    proxy: { type: "string" },
  },
});

try {
  if (positionals[0] === "up") {
    const stop = new AbortController();
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
      process.on(signal, () => stop.abort(new Error(`stopped by ${signal}; nothing is left behind`)));
    }
    const clusters = values.clusters.split(",");
    const { kubeconfig } = values;
    const { proxy } = values;
    if (proxy !== undefined && proxy !== "embedded" && proxy !== "envoy") {
      throw new Error(`--proxy is embedded or envoy, not '${proxy}'`);
    }
    await up({ clusters, kubeconfig, proxy, say: console.log, signal: stop.signal });
    const contexts = clusters.map((name) => `weft-${name}`).join(", ");
    console.log(`contexts ${contexts} in ${kubeconfigToWrite(kubeconfig)}`);
  } else if (positionals[0] === "status") {
    const found = await balancers();
    if (!found) throw new Error("no clusters run; 'npm run real -- up' starts them");
    const rows = found.map((each) => [
      each.cluster,
      `${each.namespace}/${each.name}`,
      each.address,
      String(each.port),
      each.url ?? "",
    ]);
    const titles = ["CLUSTER", "LOAD BALANCER", "ADDRESS", "PORT", "URL"];
    console.log(values.output === "json" ? JSON.stringify({ balancers: found }) : table(titles, rows));
  } else if (positionals[0] === "down") {
    console.log((await down()) ? "the clusters are gone" : "there were no clusters");
  } else {
    console.error(
      "usage: npm run real -- up [--clusters c1,c2] [--proxy embedded|envoy] [--kubeconfig FILE] | status [-o json] | down",
    );
    process.exitCode = 1;
  }
} catch (error) {
  console.error(`error: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
