/**
 * A lab of its own for a test: its state and its kubeconfig live in a fresh directory, so it runs beside a
 * user's lab and leaves nothing behind.
 */
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { KubeClient, loadKubeconfig, transportFor } from "../../src/kube/index.ts";
import type { BalancerStatus } from "../../src/lab/index.ts";
import { realWorld } from "../../src/world/index.ts";

export const root = fileURLToPath(new URL("../..", import.meta.url));
export const samples = join(root, "samples");
const weftBin = join(root, "bin/weft");

/**
 * Where the scenarios run:
 * - on a lab, with its own control planes and nodes;
 * - where WEFT_REAL_KUBERNETES names the folder that `test/real/build-kubernetes.mjs` filled, on real control planes
 *   with the lab's nodes;
 * - where WEFT_REAL_NODES is 1, on real control planes with real nodes (`npm run real -- up`).
 */
const realNodes = process.env.WEFT_REAL_NODES === "1";

/**
 * Why tests on clusters cannot run here, or undefined when they can. Tests print it as the reason of the skip. Some
 * need more than clusters: that it is a lab, whose parts they stop and cut off.
 */
export function labUnavailable(needs?: "lab"): string | undefined {
  if (realNodes && needs === "lab") return "it stops and cuts off parts of a lab, and this is none";
  for (const [program, args] of [
    ["nft", ["--version"]],
    ["ip", ["-V"]],
    ["kubectl", ["version", "--client"]],
  ] as const) {
    if (spawnSync(program, args).error) return `the program '${program}' is not installed`;
  }
  if (realNodes) return process.getuid?.() === 0 ? undefined : "real nodes need root";
  const namespaces = spawnSync("unshare", ["--user", "--map-root-user", "--net", "--mount", "true"]);
  return namespaces.status === 0 ? undefined : `user namespaces are not to be had: ${namespaces.stderr}`;
}

export interface Result {
  status: number;
  stdout: string;
  stderr: string;
}

/** A running lab. Calls fail the test with the command and its output when the exit code is not 0. */
export interface Lab {
  readonly home: string;
  readonly kubeconfig: string;
  readonly env: NodeJS.ProcessEnv;
  weft(...args: string[]): Promise<string>;
  /** `cluster` is the cluster's name; the context is `weft-<cluster>`. */
  kubectl(cluster: string, ...args: string[]): Promise<string>;
  /** A client of the cluster in this process: for what is asked over and over, where kubectl would take its time. */
  client(cluster: string): KubeClient;
  /** The same without judging the exit code, and with standard input. */
  tryKubectl(cluster: string, args: string[], input?: string): Promise<Result>;
  /** Where Services of type LoadBalancer are reached from this machine. */
  balancers(): Promise<BalancerStatus[]>;
  down(): Promise<void>;
}

export function run(
  command: string,
  args: string[],
  env: NodeJS.ProcessEnv,
  input?: string,
  timeout = 90_000,
): Promise<Result> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { env, cwd: root, stdio: ["pipe", "pipe", "pipe"], timeout });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text) => {
      stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text) => {
      stderr += text;
    });
    child.on("error", reject);
    child.on("close", (status) => resolve({ status: status ?? -1, stdout, stderr }));
    child.stdin.on("error", () => {}); // the program may end without reading what it is given
    child.stdin.end(input);
  });
}

async function succeed(
  command: string,
  args: string[],
  env: NodeJS.ProcessEnv,
  input?: string,
  timeout?: number,
): Promise<string> {
  const result = await run(command, args, env, input, timeout);
  if (result.status !== 0) {
    throw new Error(
      `${command} ${args.join(" ")} ended with ${result.status}\n${result.stdout}\n${result.stderr}`,
    );
  }
  return result.stdout;
}

/** What starts the clusters, what tells of them, and what ends them; and how long the first may take (ms). */
function setting(clusters: string[], flags: string[]) {
  const names = ["--clusters", clusters.join(",")];
  if (realNodes) {
    if (flags.length > 0 && flags[0] !== "--proxy") {
      throw new Error(`not to be had with real nodes: ${flags.join(" ")}`);
    }
    const real = [process.execPath, join(root, "scripts/real.ts")];
    return {
      up: [...real, "up", ...names, ...flags],
      status: [...real, "status"],
      down: [...real, "down"],
      patience: 240_000,
    };
  }
  const programs = process.env.WEFT_REAL_KUBERNETES;
  const real = join(root, "test/real/control-plane.ts");
  const controlPlane = programs ? ["--control-plane", process.execPath, real, programs] : [];
  const up = [weftBin, "up", ...names, ...flags, ...controlPlane];
  return { up, status: [weftBin, "status"], down: [weftBin, "down"], patience: 90_000 };
}

/** Starts a lab with the given clusters. */
export async function startLab(clusters = ["c1", "c2"], ...flags: string[]): Promise<Lab> {
  const home = mkdtempSync(join(tmpdir(), "weft-test-"));
  const kubeconfig = join(home, "kubeconfig");
  const env = { ...process.env, WEFT_HOME: home, KUBECONFIG: kubeconfig };
  const { up, status, down, patience } = setting(clusters, flags);
  const clients = new Map<string, KubeClient>();
  const closing: { close(): void }[] = [];
  const lab: Lab = {
    home,
    kubeconfig,
    env,
    weft: (...args) => succeed(weftBin, args, env),
    client(cluster) {
      let client = clients.get(cluster);
      if (!client) {
        const transport = transportFor(loadKubeconfig(kubeconfig).credentials(`weft-${cluster}`));
        client = new KubeClient({ transport, world: realWorld(), cluster });
        clients.set(cluster, client);
        closing.push(transport);
      }
      return client;
    },
    kubectl: (cluster, ...args) => succeed("kubectl", ["--context", `weft-${cluster}`, ...args], env),
    tryKubectl: (cluster, args, input) =>
      run("kubectl", ["--context", `weft-${cluster}`, ...args], env, input),
    async balancers() {
      const said = await succeed(status[0]!, [...status.slice(1), "-o", "json"], env);
      return (JSON.parse(said) as { balancers: BalancerStatus[] }).balancers;
    },
    async down() {
      for (const transport of closing) transport.close();
      await run(down[0]!, down.slice(1), env);
      rmSync(home, { recursive: true, force: true });
    },
  };
  try {
    await succeed(up[0]!, up.slice(1), env, undefined, patience);
  } catch (error) {
    await lab.down();
    throw error;
  }
  return lab;
}

/** The rows of a table that kubectl printed, by column title. */
export function tableRows(output: string): Record<string, string>[] {
  const [header = "", ...lines] = output.trimEnd().split("\n");
  const columns = [...header.matchAll(/\S+(?: \S+)*\s*/g)].map((match) => ({
    title: match[0].trim(),
    start: match.index,
    end: match.index + match[0].length,
  }));
  return lines.map((line) =>
    Object.fromEntries(
      columns.map(({ title, start, end }, i) => [
        title,
        line.slice(start, i === columns.length - 1 ? undefined : end).trim(),
      ]),
    ),
  );
}
