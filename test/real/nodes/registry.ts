/**
 * A registry of the images that were made here, for containerd to pull from: the reading half of the OCI
 * distribution specification 1.1, over a directory with an image layout. `node registry.ts LAYOUT ADDRESS`.
 */
import { createReadStream, readFileSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { imageNameAnnotation, manifestType } from "../../../deploy/image/oci.ts";
import { registryPort } from "./config.ts";

const [layout, address] = process.argv.slice(2) as [string, string];
const index = JSON.parse(readFileSync(join(layout, "index.json"), "utf8")) as {
  manifests: { digest: string; annotations: Record<string, string> }[];
};
const digests = new Map(index.manifests.map((each) => [each.annotations[imageNameAnnotation], each.digest]));

createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url ?? "/", "http://registry");
  if (pathname === "/v2/") return void response.end("{}");
  const [, name, kind, reference] = /^\/v2\/(.+)\/(manifests|blobs)\/([^/]+)$/.exec(pathname) ?? [];
  // A mirror is told whose name it is asked for.
  const full = `${searchParams.get("ns") ?? "docker.io"}/${name}:${reference}`;
  const digest = /^sha256:[0-9a-f]{64}$/.test(reference ?? "") ? reference : digests.get(full);
  const file = digest && join(layout, "blobs", digest.replace(":", "/"));
  const size = file && statSync(file, { throwIfNoEntry: false })?.size;
  if (!file || size === undefined || !["GET", "HEAD"].includes(request.method ?? "")) {
    const code = kind === "manifests" ? "MANIFEST_UNKNOWN" : "BLOB_UNKNOWN";
    const message = `${full} is not made here (test/real/nodes/images.ts)`;
    response.writeHead(404, { "content-type": "application/json" });
    return void response.end(JSON.stringify({ errors: [{ code, message }] }));
  }
  response.writeHead(200, {
    "content-type": kind === "manifests" ? manifestType : "application/octet-stream",
    "content-length": size,
    "docker-content-digest": digest,
  });
  if (request.method === "HEAD") return void response.end();
  createReadStream(file)
    .on("error", () => response.destroy())
    .pipe(response);
}).listen(registryPort, address, () => process.send?.("ready"));
