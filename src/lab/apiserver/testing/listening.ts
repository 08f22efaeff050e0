/** A listening API server for tests: certificates, a port on 127.0.0.1, and HTTPS requests to it. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { request as httpsRequest } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { kubeconfigText } from "../../../kube/index.ts";
import { realWorld } from "../../../world/index.ts";
import { makeClusterPki } from "../../pki.ts";
import { defaultCluster } from "../../spec.ts";
import type { KeyPair } from "../../state.ts";
import { testServer } from "./harness.ts";

/** Key pairs take a while: made once for all tests of a file. */
const spec = defaultCluster("c1", 0, 2);
spec.nodes[0]!.address = "127.0.0.1";
const made = makeClusterPki(realWorld(), spec);

export async function listeningServer() {
  const world = realWorld();
  const { cluster: pki, nodes } = await made;
  const cluster = await testServer({
    world,
    serviceAccount: pki.serviceAccount,
    kubeletClient: { ...pki.kubeletClient, ca: pki.ca.cert },
  });
  const folder = mkdtempSync(join(tmpdir(), "weft-api-"));
  const tls = { ...pki.serving, clientCa: pki.ca.cert };
  const { port } = await cluster.server.listen({ host: "127.0.0.1", port: 0, tls });
  return Object.assign(cluster, {
    pki,
    nodePki: nodes,
    folder,
    tls,
    port: port!,
    /** A kubeconfig for the admin; returns the file's path. */
    kubeconfig() {
      const file = join(folder, "kubeconfig");
      const credentials = { server: `https://127.0.0.1:${port}`, ca: pki.ca.cert, ...pki.admin };
      writeFileSync(file, kubeconfigText([{ name: "c1", credentials }]));
      return file;
    },
    /** One request over HTTP/1.1; answers with code and text. */
    request(
      path: string,
      options: { as?: KeyPair; token?: string; method?: string; body?: string | Buffer } = {},
    ) {
      return new Promise<{ code: number; text: string }>((resolve, reject) => {
        const request = httpsRequest({
          host: "127.0.0.1",
          port,
          path,
          method: options.method ?? "GET",
          ca: pki.ca.cert,
          agent: false,
          headers: {
            ...(options.token && { authorization: `Bearer ${options.token}` }),
            ...(options.body !== undefined && { "content-type": "application/json" }),
          },
          ...options.as,
        });
        request.on("error", reject);
        request.on("response", (response) => {
          let text = "";
          response.on("data", (chunk: Buffer) => (text += chunk.toString()));
          response.on("end", () => resolve({ code: response.statusCode!, text }));
          response.on("error", reject);
        });
        request.end(options.body);
      });
    },
    async [Symbol.asyncDispose]() {
      await cluster.server.close();
      rmSync(folder, { recursive: true });
    },
  });
}
