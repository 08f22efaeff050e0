/**
 * `weft proxy`: the process beside the application. It gets the pod its identity, runs the proxy with it, says whether
 * that serves, and ends it so that nobody notices. Nothing passes until there is a certificate and a configuration:
 * what is redirected meets a closed port, never a way around the proxy.
 */
import { readFile } from "node:fs/promises";
import { startWorkloadIdentity, type WorkloadCertificate } from "../identity/index.ts";
import { realWorld, sleep, type World } from "../world/index.ts";
import { discoveryOf, files, type Role, readSettings, type Settings } from "./environment.ts";
import { nodeOf } from "./node.ts";
import type { RunningProxy } from "./running.ts";
import { serveStatus } from "./status.ts";

/**
 * Runs until the pod ends it (SIGTERM, SIGINT, `/quitquitquit`) and exits the process: with 1 when it cannot go on, and
 * the kubelet starts it again.
 */
export async function runAgent(role: Role): Promise<never> {
  const world = realWorld();
  const log = (line: string) => console.log(`${new Date(world.now()).toISOString()} ${line}`);
  try {
    await run(role, world, log);
    log("the end");
  } catch (error) {
    log(`error: ${error instanceof Error ? error.message : String(error)}`);
    if (process.env.WEFT_DEBUG && error instanceof Error) console.error(error.stack);
    process.exit(1);
  }
  // Connections of probes that are kept alive do not hold us.
  process.exit(0);
}

async function run(role: Role, world: World, log: (line: string) => void): Promise<void> {
  const settings = await readSettings(role, process.env);
  const { promise: told, resolve: tell } = Promise.withResolvers<string>();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => tell(signal));

  const state: { proxy?: RunningProxy; ending?: boolean; waits: string } = {
    waits: "waits for a certificate",
  };
  const status = await serveStatus({
    async notReady() {
      if (state.ending) return "it is ending";
      return state.proxy ? state.proxy.notReady() : `it ${state.waits}`;
    },
    metrics: async () => (await state.proxy?.metrics()) ?? "",
    address: settings.pod.address,
    appProbes: settings.appProbes,
    ...(settings.appMetrics && { appMetrics: settings.appMetrics }),
    quit: () => tell("/quitquitquit"),
  });

  const discovery = discoveryOf(settings);
  const { pod, trustDomain } = settings;
  const identity = startWorkloadIdentity({
    world,
    url: discovery.certificates,
    tokenFile: files.token,
    rootFile: files.root,
    identity: { trustDomain, namespace: pod.namespace, serviceAccount: pod.serviceAccount },
    ...(settings.certificateLifetime && { lifetimeSeconds: settings.certificateLifetime }),
    log,
  });
  log(
    `${role} ${pod.name}.${pod.namespace} with the ${settings.implementation} proxy asks ${discovery.certificates}`,
  );
  const asked = world.monotonic();
  const proxyCode = loadProxy(settings.implementation); // while we wait
  proxyCode.catch(() => {}); // said below
  const first = await Promise.race([identity.ready, told]);
  const waited = world.monotonic() - asked;
  if (typeof first !== "string") {
    log(`it is ${first.id} until ${new Date(first.notAfter).toISOString()}`);
    state.waits = "waits for the proxy to start";
    const held: HeldIdentity = {
      current: () => identity.current ?? first,
      onChange: identity.onChange,
    };
    state.proxy = await startProxy(await proxyCode, settings, world, held, log);
    const ready = new AbortController();
    void sayWhenReady(world, state.proxy, waited, log, ready.signal).catch(() => {});
    const reason = await Promise.race([told, state.proxy.ended.then((why) => new Error(why))]);
    ready.abort();
    if (reason instanceof Error) throw reason;
    log(`${reason}: no new connections are asked for, those that there are come to their end`);
    state.ending = true;
    await drained(world, settings, state.proxy, log);
    await state.proxy.stop();
  }
  identity.stop();
  status.close();
}

/** What the proxy needs of the identity: there is a certificate from the start. */
export interface HeldIdentity {
  current(): WorkloadCertificate;
  onChange(listener: (certificate: WorkloadCertificate) => void): () => void;
}

type ProxyCode = Awaited<ReturnType<typeof loadProxy>>;

async function loadProxy(implementation: Settings["implementation"]) {
  return implementation === "envoy" ? import("./envoy.ts") : import("./embedded.ts");
}

async function startProxy(
  code: ProxyCode,
  settings: Settings,
  world: World,
  identity: HeldIdentity,
  log: (line: string) => void,
): Promise<RunningProxy> {
  const common = {
    node: nodeOf(settings),
    ads: discoveryOf(settings).ads,
    bindAddress: settings.bindAddress,
    identity,
    log,
  };
  if ("startEnvoy" in code) {
    return code.startEnvoy({
      ...common,
      discoveryRoots: () => readFile(files.root, "utf8"),
      sds: files.sds,
      bootstrapFile: files.bootstrap,
      concurrency: settings.concurrency,
      logLevel: "warning",
      drainSeconds: Math.ceil(settings.maximumDrain / 1000),
    });
  }
  return code.startEmbedded({ ...common, world, drainTime: settings.maximumDrain });
}

/** How long it took, Node's own start and the wait for the certificate aside. */
async function sayWhenReady(
  world: World,
  proxy: RunningProxy,
  waited: number,
  log: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const start = world.monotonic();
  for (let said = ""; ; ) {
    const reason = await proxy.notReady();
    if (reason === undefined) break;
    // What it waits for, once; a pod that hangs says why.
    if (reason !== said && world.monotonic() - start > 2000) {
      log(`not ready: ${reason}`);
      said = reason;
    }
    await sleep(world, 10, signal);
  }
  const own = world.monotonic() - performance.nodeTiming.bootstrapComplete - waited;
  log(`ready in ${Math.round(own)} ms, and ${Math.round(waited)} ms for its certificate`);
}

/**
 * The time between being told and ending: others go on calling us until they heard that we go, and the application may
 * still be ending with calls of its own. So at least `minimumDrain`, then until nobody is connected any more.
 */
async function drained(
  world: World,
  { minimumDrain, maximumDrain }: Settings,
  proxy: RunningProxy,
  log: (line: string) => void,
): Promise<void> {
  const start = world.monotonic();
  await proxy.drain();
  await sleep(world, minimumDrain);
  for (;;) {
    const left = await proxy.connections();
    if (left === 0) return;
    if (world.monotonic() - start >= maximumDrain) return log(`${left} connections did not end in time`);
    await sleep(world, 100);
  }
}
