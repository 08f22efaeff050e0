/** Lifecycle hooks. Source: kubernetes `pkg/kubelet/lifecycle/handlers.go`. */
import { request as httpRequest, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import type { Container } from "../../api/index.ts";
import { sleep, type World } from "../../world/index.ts";
import { execInContainer } from "./exec.ts";
import { portNumber } from "./probe-actions.ts";
import type { RunningContainer } from "./runtime.ts";

type Hook = NonNullable<NonNullable<Container["lifecycle"]>["postStart"]> & { sleep?: { seconds: number } };

/** No hook runs longer, whatever the grace period. Milliseconds. */
const longest = 3_600_000;

/** Runs a hook; resolves to why it failed, or undefined. */
export async function runHook(
  hook: Hook,
  spec: Container,
  instance: RunningContainer,
  address: string,
  world: World,
): Promise<string | undefined> {
  try {
    if (hook.exec) {
      const { code, output } = await execInContainer(instance, hook.exec.command ?? [], longest);
      if (code === 0) return undefined;
      return `PostStartHook or PreStopHook ${JSON.stringify(hook.exec.command)} exited with ${code}: ${output}`;
    }
    if (hook.httpGet) {
      const { host = address, path = "/", scheme, httpHeaders = [] } = hook.httpGet;
      const port = portNumber(hook.httpGet.port, spec.ports ?? []);
      const to = { host: host || address, port, path, agent: false, timeout: 30_000 };
      const headers = Object.fromEntries(httpHeaders.map(({ name, value }) => [name, value]));
      const status = await new Promise<number>((resolve, reject) => {
        const answered = (response: IncomingMessage) => {
          response.resume();
          resolve(response.statusCode ?? 0);
        };
        // Whose certificate it is does not matter, as for probes.
        const asked =
          scheme?.toUpperCase() === "HTTPS"
            ? httpsRequest({ ...to, headers, rejectUnauthorized: false }, answered)
            : httpRequest({ ...to, headers }, answered);
        asked.on("timeout", () => asked.destroy(new Error("no answer within 30 s")));
        asked.on("error", reject);
        asked.end();
      });
      return status < 400 ? undefined : `HTTP hook was answered with status ${status}`;
    }
    if (hook.sleep) await sleep(world, hook.sleep.seconds * 1000);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}
