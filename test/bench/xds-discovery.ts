/** `weft discovery` on ports of its own, over an API server that is called through a UNIX socket. For the bench alone. */
import { X509Certificate } from "node:crypto";
import { type AddressInfo, createServer } from "node:net";
import { allKnown, serve } from "../../src/cli/discovery.ts";
import { startDiscovery } from "../../src/discovery.ts";
import { type Credentials, KubeClient, transportFor } from "../../src/kube/index.ts";
import { realWorld } from "../../src/world/index.ts";

/** Serves connections without TLS too, each as if whom the certificate names had made it; tells on which port. */
function withoutTls(certificate: X509Certificate): void {
  const peer = { authorized: true, getPeerX509Certificate: () => certificate };
  const server = createServer((socket) => {
    socket.on("error", () => {});
    discovery.xds.accept(Object.assign(socket, peer));
  });
  server.listen(0, "127.0.0.1", () => process.send?.((server.address() as AddressInfo).port));
}

const credentials = JSON.parse(process.env.BENCH_CREDENTIALS!) as Credentials;
process.on("disconnect", () => process.exit()); // whoever measures is gone
const ports = JSON.parse(process.env.BENCH_PORTS!) as { xds: number; webhook: number };
const world = realWorld();
const client = new KubeClient({ transport: transportFor(credentials), world, cluster: "c1" });
const log = (line: string, error?: unknown) => console.error(line, error ?? "");
const discovery = await startDiscovery({
  client,
  namespace: "istio-system",
  name: "basic",
  identity: "bench",
  elected: true,
  log: (line, error) => {
    if (error) log(line, error);
  },
});
await allKnown(discovery, log, new AbortController().signal);
await serve(discovery, "127.0.0.1", log, ports);
process.on("message", (message: "memory" | { certificate: string }) => {
  if (message !== "memory") {
    withoutTls(new X509Certificate(message.certificate));
    return;
  }
  globalThis.gc?.(); // with --expose-gc: what is really in use
  process.send?.(process.memoryUsage());
});
process.send?.("ready");
