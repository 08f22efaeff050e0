/** The embedded proxy in a process of its own, with the resources in a directory (see `proxy.ts`). */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { startProxy } from "../../src/proxy/index.ts";

const directory = process.argv[2]!;
await startProxy({
  node: {
    id: "sidecar~10.0.0.1~bench.demo~demo.svc.cluster.local",
    cluster: "bench",
    metadata: { WORKLOAD_NAME: "bench", NAMESPACE: "demo" },
    locality: { region: "", zone: "", subZone: "" },
  },
  fixed: {
    listeners: new Map([["outbound", readFileSync(join(directory, "listener"))]]),
    clusters: new Map([["app", readFileSync(join(directory, "cluster"))]]),
  },
  log: (level, message) => {
    if (level === "error") console.error(message);
  },
});
// A profile is written by a process that ends, not by one that is ended.
process.once("SIGTERM", () => process.exit());
