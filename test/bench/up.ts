/** From nothing to the first answer from the other cluster, and what two clusters cost that do nothing. */
import { spawn } from "node:child_process";
import {
  type Deployment,
  deployments,
  namespaces,
  type Pod,
  pods,
  type Service,
  serviceExports,
  services,
} from "../../src/api/index.ts";
import type { Draft, KubeClient } from "../../src/kube/index.ts";
import { cpuOf, memoryOf, processesOf } from "../support/processes.ts";
import type { Report } from "./figures.ts";
import { labHome, weftBin } from "./lab.ts";
import { isControlPlane } from "./observe.ts";

/**
 * `weft up` with a warm cache, then namespaces, deployments, services and exports of both clusters at once through
 * the API, and a pod in c1 that asks for the clusterset name all the time.
 */
export async function up(report: Report): Promise<void> {
  await using home = labHome();
  report.step("warming the compile cache");
  await home.weft("up");
  await home.weft("down");

  report.step("weft up");
  const began = performance.now();
  const since = () => (performance.now() - began) / 1000;
  const steps = await upTimed(home.env);
  const stands = since();
  const clients = [home.client("c1"), home.client("c2")] as const;
  await Promise.all(clients.map((client, i) => deploy(client, i + 1)));
  const applied = since();
  const answers = await firstAnswers(clients[0], began, ["cluster 1", "cluster 2"]);
  report.figure("until the first answer from the other cluster", answers["cluster 2"]!, "s", {
    limit: 5,
    goal: 3,
  });
  for (const [what, seconds] of steps) report.figure(`  after: ${what}`, seconds, "s");
  report.figure("  after: weft up has ended", stands, "s");
  report.figure("  after: deployments and exports are applied", applied, "s");
  report.figure("  after: the first answer from its own cluster", answers["cluster 1"]!, "s");
  const cpu = processesOf(home.lab).reduce((sum, { pid }) => sum + cpuOf(pid), 0);
  report.figure("CPU time of the lab until then", cpu / 1000, "s");
}

/** Everything that runs when two clusters have nothing to do, shared pages counted in part. */
export async function idle(report: Report): Promise<void> {
  await using home = labHome();
  await home.weft("up");
  const cpu = () => processesOf(home.lab).reduce((sum, { pid }) => sum + cpuOf(pid), 0);
  const seconds = 30;
  report.step(`two clusters do nothing for ${seconds} s`);
  const before = cpu();
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  const used = (cpu() - before) / 1000;
  const all = processesOf(home.lab);
  const sum = (of: (command: string) => boolean) =>
    all.filter(({ command }) => of(command.join(" "))).reduce((total, { pid }) => total + memoryOf(pid), 0) /
    1e6;
  report.figure(
    "two idle clusters, PSS of all processes",
    sum(() => true),
    "MB",
    { limit: 500 },
  );
  for (const [what, program] of [
    ["daemon", "src/lab/daemon.ts"],
    ["API servers and controllers", "src/lab/cluster.ts"],
    ["nodes", "src/lab/node.ts"],
    ["control planes", isControlPlane],
    ["nft", "nft -i"],
  ] as const) {
    report.figure(
      `  ${what}`,
      sum((command) =>
        typeof program === "string"
          ? command.includes(program) && !command.startsWith("sh ")
          : program(command) && !/^(?:sh|unshare) /.test(command),
      ),
      "MB",
    );
  }
  report.figure("CPU time per second of doing nothing", (used / seconds) * 1000, "ms");
}

/** Runs `weft up`; what it said, with the seconds that it gave. */
async function upTimed(env: NodeJS.ProcessEnv): Promise<[string, number][]> {
  const child = spawn(weftBin, ["up"], { env, stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  const code = await new Promise((resolve) => child.on("exit", resolve));
  if (code !== 0) throw new Error(`weft up ended with ${code}\n${output}`);
  return [...output.matchAll(/^ +([\d.]+) s {2}(.*?)(?: at https.*| in \/.*)?$/gm)].map(
    ([, seconds, what]) => [what!, Number(seconds)],
  );
}

async function deploy(client: KubeClient, number: number): Promise<void> {
  const metadata = { namespace: "demo", name: "serve" };
  await client.create(namespaces, { metadata: { name: "demo" } });
  const labels = { app: "serve" };
  const message = `--message='hello from cluster ${number}'`;
  const deployment: Draft<Deployment> = {
    metadata,
    spec: {
      replicas: 1,
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: { containers: [{ name: "serve", image: "jeremyot/serve:0a40de8", args: [message] }] },
      },
    },
  };
  const service: Draft<Service> = {
    metadata,
    spec: { selector: labels, ports: [{ port: 80, targetPort: 8080 }] },
  };
  await Promise.all([
    client.create(deployments, deployment),
    client.create(services, service),
    client.create(serviceExports, { metadata }),
    number === 1 && client.create(pods, asker),
  ]);
}

/** Asks all the time, each answer on a line. */
const asker: Draft<Pod> = {
  metadata: { namespace: "demo", name: "ask" },
  spec: {
    restartPolicy: "Never",
    terminationGracePeriodSeconds: 0,
    containers: [
      {
        name: "ask",
        image: "curlimages/curl",
        command: [
          "sh",
          "-c",
          "while :; do curl -s --max-time 1 http://serve.demo.svc.clusterset.local/ && echo; sleep 0.02; done",
        ],
      },
    ],
  },
};

/** Seconds since `began` at which the asking pod got its first answer with each of the texts. */
async function firstAnswers(
  client: KubeClient,
  began: number,
  texts: string[],
): Promise<Record<string, number>> {
  const path = "/api/v1/namespaces/demo/pods/ask/log?timestamps=true";
  while (performance.now() - began < 60_000) {
    const { status, body } = await client.request({ method: "GET", path });
    let said = "";
    for await (const chunk of body) said += Buffer.from(chunk).toString();
    const first = texts.map((text) => said.split("\n").find((line) => line.includes(text)));
    if (status === 200 && first.every((line) => line !== undefined)) {
      const start = performance.timeOrigin + began;
      return Object.fromEntries(
        first.map((line, i) => [texts[i]!, (Date.parse(line!.split(" ")[0]!) - start) / 1000]),
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error("no answer from both clusters within a minute");
}
