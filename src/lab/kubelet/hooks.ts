/** Lifecycle hooks. Source: kubernetes `pkg/kubelet/lifecycle/handlers.go`. */
import { request } from "node:http";
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
      const { host = address, path = "/", port, httpHeaders = [] } = hook.httpGet;
      const headers = Object.fromEntries(httpHeaders.map(({ name, value }) => [name, value]));
      const status = await new Promise<number>((resolve, reject) => {
        const asked = request(
          { host: host || address, port: portNumber(port, []), path, headers, agent: false, timeout: 30_000 },
          (response) => {
            response.resume();
            resolve(response.statusCode ?? 0);
          },
        );
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
