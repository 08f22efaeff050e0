/**
 * Real clusters on this machine for hand work: kubelet, containerd, kube-proxy and CoreDNS under real control
 * planes, with Weft installed and joined. Needs root; what is missing is installed or built once.
 *
 *   npm run real -- up [--clusters c1,c2] [--proxy embedded|envoy] [--kubeconfig FILE]
 *   npm run real -- down
 */
import { parseArgs } from "node:util";
import { kubeconfigToWrite } from "../src/kube/index.ts";
import { down, up } from "../test/real/nodes/launch.ts";

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    clusters: { type: "string", default: "c1,c2" },
    kubeconfig: { type: "string" },
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
  } else if (positionals[0] === "down") {
    console.log((await down()) ? "the clusters are gone" : "there were no clusters");
  } else {
    console.error(
      "usage: npm run real -- up [--clusters c1,c2] [--proxy embedded|envoy] [--kubeconfig FILE] | down",
    );
    process.exitCode = 1;
  }
} catch (error) {
  console.error(`error: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
