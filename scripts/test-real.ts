/**
 * Runs the scenarios on real control planes, with the lab's nodes and with real ones, the conformance suites against
 * a real kube-apiserver, and what others' programs say of us. What is missing on this machine is said, and skipped.
 *
 *   npm run test:real                     everything
 *   npm run test:real -- PATH ...         the tests below these paths only
 *
 * `test/conformance/api` holds the embedded server to answers recorded from kube-apiserver in `npm test`; here the real
 * one is asked again, in two minutes.
 *
 * Kubernetes is built once from its Go modules, which takes minutes, and kept in ~/.cache/weft (or below
 * XDG_CACHE_HOME); WEFT_REAL_KUBERNETES names programs that are there already.
 */
import { spawn } from "node:child_process";
import { globSync, readFileSync } from "node:fs";
import { delimiter, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { startApiServer } from "../test/real/api-server.ts";
import { requirePrograms } from "../test/real/nodes/launch.ts";
import {
  envoyProgram,
  findProgram,
  goProgram,
  kubernetesPrograms,
  NotToBeHad,
  requirePackages,
  kubernetesVersion as version,
} from "../test/real/programs.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const begun = performance.now();
let failed = false;
const skipped: string[] = [];

await unlessNotToBeHad("everything on real control planes", async () => {
  requirePackages({ "etcd-server": () => findProgram("etcd") }, say);
  await runAll(resolve(kubernetesPrograms(say)));
});
await unlessNotToBeHad("what Helm and CoreDNS say", async () => {
  const files = wantedFiles("test/install/**/*.test.ts");
  if (files.length === 0) return;
  for (const name of ["coredns", "helm"] as const) goProgram(name, say);
  await runTests("Helm and CoreDNS", files, process.env);
});
await unlessNotToBeHad("what h2spec says of our HTTP/2", async () => {
  const files = wantedFiles("test/conformance/http2.test.ts");
  if (files.length === 0) return;
  goProgram("h2spec", say);
  await runTests("HTTP/2", files, process.env);
});
await unlessNotToBeHad("the scenarios on real nodes", async () => {
  const scenarios = wantedFiles("test/scenarios/**/*.test.ts").filter(startsLab);
  const files = [...scenarios, ...wantedFiles("test/real/nodes/*.test.ts")];
  if (files.length === 0) return;
  const { kubernetes } = requirePrograms(say);
  const env = {
    ...process.env,
    PATH: `${process.env.PATH ?? ""}${delimiter}${kubernetes}`,
    WEFT_REAL_NODES: "1",
  };
  const on = `real nodes of Kubernetes ${version}`;
  await runTests(on, files, env, "--test-concurrency=1");
  await runWithEnvoy(on, scenarios.filter(isMesh), env);
});
for (const what of skipped) say(`skipped: ${what}`);
say(`${minutes(begun)} in all`);
process.exitCode = failed ? 1 : 0;

/** Notes what is skipped when a part of it cannot be had here. */
async function unlessNotToBeHad(what: string, run: () => Promise<void>): Promise<void> {
  try {
    await run();
  } catch (error) {
    if (!(error instanceof NotToBeHad)) throw error;
    skipped.push(`${what}: ${error.message}`);
  }
}

/** Test files of a pattern that the command line asks for: all of them when it names none. */
function wantedFiles(pattern: string): string[] {
  const wanted = process.argv.slice(2).map((path) => relative(root, resolve(path)));
  const isWanted = (file: string) => wanted.length === 0 || wanted.some((path) => file.startsWith(path));
  return globSync(pattern, { cwd: root }).filter(isWanted).sort();
}

function startsLab(file: string): boolean {
  return /start(Mesh)?Lab/.test(readFileSync(join(root, file), "utf8"));
}

/** Whether its lab has proxies, which may be Envoy: seed 002's. */
function isMesh(file: string): boolean {
  return file.startsWith("test/scenarios/002-");
}

async function runAll(programs: string): Promise<void> {
  const files = wantedFiles("test/{scenarios,conformance}/**/*.test.ts");
  // A test that starts a lab starts it with real control planes; the others ask a server that stands alone.
  const inLabs = files.filter(startsLab);
  const alone = files.filter((file) => file.startsWith("test/conformance/") && !inLabs.includes(file));
  // The Kubernetes that was built has a kubectl too, for machines without one.
  const env = {
    ...process.env,
    PATH: `${process.env.PATH ?? ""}${delimiter}${programs}`,
    WEFT_KUBECTL_136: join(programs, "kubectl"),
  };
  if (alone.some((file) => file.includes("clients"))) goProgram("clients", say);
  if (alone.length > 0) {
    const server = await startApiServer(programs).catch((error: Error) => {
      failed = true;
      say(`kube-apiserver does not start: ${error.message}`);
    });
    if (server) {
      // What compares whole lists wants nobody else at work there.
      const isApi = (file: string) => file.startsWith("test/conformance/api/");
      for (const some of [alone.filter((file) => !isApi(file)), alone.filter(isApi)]) {
        if (some.length === 0) continue;
        await runTests(`kube-apiserver ${version}`, some, {
          ...env,
          WEFT_CONFORMANCE_KUBECONFIG: server.kubeconfig,
        });
      }
      await server.close();
    }
  }
  // The machine's kubectl, which may be older, is asked in `npm test`.
  const byKubectl = files.filter((file) => file.startsWith("test/conformance/kubectl/"));
  if (byKubectl.length > 0) await runTests(`the embedded server, kubectl ${version} too`, byKubectl, env);
  if (inLabs.length > 0) {
    // One file at a time: every lab has control planes of its own, of 500 MB each.
    const on = `control planes of Kubernetes ${version}`;
    const real = { ...env, WEFT_REAL_KUBERNETES: programs };
    const others = inLabs.filter((file) => !isMesh(file));
    if (others.length > 0) await runTests(on, others, real, "--test-concurrency=1");
    // The embedded proxy is on the lab's nodes in `npm test`, and on real ones below.
    await runWithEnvoy(on, inLabs.filter(isMesh), real);
  }
}

async function runWithEnvoy(on: string, files: string[], env: NodeJS.ProcessEnv): Promise<void> {
  if (files.length === 0) return;
  await unlessNotToBeHad(`the mesh with Envoy on ${on}`, async () => {
    await envoyProgram(say);
    await runTests(`${on}, with Envoy`, files, { ...env, WEFT_PROXY: "envoy" }, "--test-concurrency=1");
  });
}

async function runTests(
  on: string,
  files: string[],
  env: NodeJS.ProcessEnv,
  ...flags: string[]
): Promise<void> {
  say(`${files.join(" ")} on ${on}`);
  const start = performance.now();
  const child = spawn(process.execPath, ["--test", "--test-reporter=spec", ...flags, ...files], {
    cwd: root,
    env,
    stdio: "inherit",
  });
  const stop = (signal: NodeJS.Signals) => {
    child.kill(signal);
    child.on("exit", () => process.exit(1)); // nothing of what would follow
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, stop);
  const code = await new Promise<number>((done) => child.on("exit", (status) => done(status ?? 1)));
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.off(signal, stop);
  if (code !== 0) failed = true;
  say(`${code === 0 ? "good" : "FAILED"} on ${on}, ${minutes(start)}`);
}

function minutes(since: number): string {
  return `${((performance.now() - since) / 60_000).toFixed(1)} minutes`;
}

function say(text: string): void {
  console.log(`real: ${text}`);
}
