/** Labs for benchmarks: in a home of their own, gone afterwards. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KubeClient, loadKubeconfig, transportFor } from "../../src/kube/index.ts";
import { contextName } from "../../src/lab/index.ts";
import { realWorld } from "../../src/world/index.ts";
import { root, run } from "../support/lab.ts";

export const weftBin = join(root, "bin/weft");

export interface Home extends AsyncDisposable {
  env: NodeJS.ProcessEnv;
  /** The lab's directory while it runs. */
  lab: string;
  weft(...args: string[]): Promise<string>;
  /** As the lab's admin of a cluster. */
  client(cluster: string): KubeClient;
}

/** A place for one lab. When it is disposed of, the lab is ended and everything is removed. */
export function labHome(): Home {
  const home = mkdtempSync(join(tmpdir(), "weft-bench-"));
  const kubeconfig = join(home, "kubeconfig");
  const env = { ...process.env, WEFT_HOME: home, KUBECONFIG: kubeconfig };
  const opened: { close(): void }[] = [];
  const weft = async (...args: string[]) => {
    const { status, stdout, stderr } = await run(weftBin, args, env);
    if (status !== 0) throw new Error(`weft ${args.join(" ")} ended with ${status}\n${stdout}${stderr}`);
    return stdout;
  };
  return {
    env,
    lab: join(home, "lab"),
    weft,
    client(cluster) {
      const credentials = loadKubeconfig(kubeconfig).credentials(contextName(cluster));
      const transport = transportFor(credentials);
      opened.push(transport);
      return new KubeClient({ transport, world: realWorld(), cluster, server: credentials.server });
    },
    async [Symbol.asyncDispose]() {
      for (const transport of opened) transport.close();
      await run(weftBin, ["down"], env);
      rmSync(home, { recursive: true, force: true });
    },
  };
}
