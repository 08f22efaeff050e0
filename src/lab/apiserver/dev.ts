/** `node src/lab/apiserver/dev.ts [PORT] [FILE]`: one API server on 127.0.0.1, and a kubeconfig for it in FILE. */
import { writeFileSync } from "node:fs";
import { realWorld } from "../../world/index.ts";
import { makeClusterPki } from "../pki.ts";
import { defaultCluster } from "../spec.ts";
import { createApiServer } from "./index.ts";

const port = Number(process.argv[2] ?? 6443);
const file = process.argv[3] ?? "kubeconfig";
const world = realWorld();
const cluster = defaultCluster("dev", 0);
const { cluster: pki } = await makeClusterPki(world, cluster);
const started = world.monotonic();
const server = await createApiServer({
  world,
  cluster: cluster.name,
  storage: { kind: "memory" },
  serviceRange: cluster.serviceRange,
  serviceAccount: pki.serviceAccount,
  advertise: { address: cluster.apiAddress, port: 6443 },
});
const at = await server.listen({
  host: "127.0.0.1",
  port,
  tls: { ...pki.serving, clientCa: pki.ca.cert },
});
const base64 = (text: string) => Buffer.from(text).toString("base64");
const kubeconfig = {
  apiVersion: "v1",
  kind: "Config",
  "current-context": "dev",
  contexts: [{ name: "dev", context: { cluster: "dev", user: "admin" } }],
  clusters: [
    {
      name: "dev",
      cluster: {
        server: `https://127.0.0.1:${at.port}`,
        "certificate-authority-data": base64(pki.ca.cert),
      },
    },
  ],
  users: [
    {
      name: "admin",
      user: {
        "client-certificate-data": base64(pki.admin.cert),
        "client-key-data": base64(pki.admin.key),
      },
    },
  ],
};
writeFileSync(file, JSON.stringify(kubeconfig, null, 2), { mode: 0o600 });
console.log(`ready in ${Math.round(world.monotonic() - started)} ms; KUBECONFIG=${file}`);
