/**
 * `weft proxy wait`: for clusters without native sidecars, where the kubelet starts the next container when the hook of
 * this one has returned. Source: Istio's `pilot-agent wait`.
 */
import { get } from "node:http";
import { realWorld, sleep } from "../world/index.ts";
import { readinessPort } from "./status.ts";

/** Returns when the proxy of this pod serves. It waits for as long as that takes: nothing starts without it. */
export async function waitForProxy(port = readinessPort): Promise<void> {
  const world = realWorld();
  while (!(await isReady(port))) await sleep(world, 100);
}

function isReady(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const asked = get({ host: "127.0.0.1", port, path: "/healthz/ready", agent: false, timeout: 1000 });
    asked.on("response", (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    asked.on("timeout", () => asked.destroy());
    asked.on("error", () => resolve(false));
    asked.on("close", () => resolve(false));
  });
}
