/** `node src/lab/apiserver/dev.ts [PORT] [FILE]`: one API server on 127.0.0.1, and a kubeconfig for it in FILE. */
import { writeFileSync } from "node:fs";
import { kubeconfigText } from "../../kube/index.ts";
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
const credentials = { server: `https://127.0.0.1:${at.port}`, ca: pki.ca.cert, ...pki.admin };
writeFileSync(file, kubeconfigText([{ name: cluster.name, credentials }]), { mode: 0o600 });
console.log(`ready in ${Math.round(world.monotonic() - started)} ms; KUBECONFIG=${file}`);
