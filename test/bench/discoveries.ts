/** The discoveries that are measured beside each other, each a process of its own over the same API server. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { configMaps, type MeshSettings } from "../../src/api/index.ts";
import { makeRequest } from "../../src/identity/index.ts";
import { type KubeClient, kubeconfigText } from "../../src/kube/index.ts";
import { bundleImage } from "../../src/lab/index.ts";
import { discoveryEnvironment } from "../../src/mesh/objects.ts";
import { makeCa } from "../../src/xds/testing/certificates.ts";
import { goProgram, NotToBeHad } from "../real/programs.ts";
import { eventually } from "../support/eventually.ts";
import { freePort } from "../support/ports.ts";
import type { Server } from "./api.ts";
import { monotonic } from "./observe.ts";
import type { Tls } from "./xds-client.ts";

export interface Discovery {
  name: string;
  start(): Promise<RunningDiscovery>;
}

export interface RunningDiscovery {
  pid: number;
  /** Where proxies connect, with mTLS: `host:port`. */
  target: string;
  /** Milliseconds from its start until it served. */
  took: number;
  /** What a proxy of `scale0/default` shows and trusts. */
  tls(): Promise<Tls>;
  /** Where proxies connect without TLS. */
  plain(): Promise<string>;
  /** What makes up its memory; undefined where it cannot be asked. */
  memory?(): Promise<NodeJS.MemoryUsage>;
  stop(): Promise<void>;
}

/** More of them, to look inside: `BENCH_NODE_FLAGS="--cpu-prof --cpu-prof-dir=/tmp/profile"`. */
const moreFlags = (process.env.BENCH_NODE_FLAGS ?? "").split(" ").filter((flag) => flag !== "");

/** As pods run it: from a bundle, with code that was compiled before. */
export async function weft({ credentials, client }: Server, settings: MeshSettings): Promise<Discovery> {
  const root = fileURLToPath(new URL("../..", import.meta.url));
  const bundle = join(root, "build/bench");
  rmSync(bundle, { recursive: true, force: true });
  await bundleImage(root, bundle, "test/bench/xds-discovery.ts");
  const start = async (): Promise<RunningDiscovery> => {
    const ports = { xds: await freePort(), webhook: await freePort() };
    const began = monotonic();
    const child: ChildProcess = spawn(process.execPath, [...moreFlags, join(bundle, "xds-discovery.js")], {
      env: {
        ...process.env,
        ...discoveryEnvironment,
        NODE_COMPILE_CACHE: join(bundle, "compiled"),
        BENCH_CREDENTIALS: JSON.stringify(credentials),
        BENCH_PORTS: JSON.stringify(ports),
      },
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    await new Promise<void>((resolve, reject) => {
      child.once("message", () => resolve());
      child.once("exit", (code) => reject(new Error(`discovery ended with ${code}`)));
    });
    const tls = () => certificateOf(client, settings, ports.webhook);
    const ask = (what: "memory" | { certificate: string }) =>
      new Promise<unknown>((resolve) => {
        child.once("message", resolve);
        child.send(what);
      });
    return {
      pid: child.pid!,
      target: `127.0.0.1:${ports.xds}`,
      took: monotonic() - began,
      tls,
      plain: async () => `127.0.0.1:${await ask({ certificate: (await tls()).cert })}`,
      memory: () => ask("memory") as Promise<NodeJS.MemoryUsage>,
      stop: () =>
        new Promise<void>((resolve) => {
          child.removeAllListeners("exit");
          child.once("exit", () => resolve());
          child.disconnect(); // it ends by itself: compiled code and profiles are written
        }),
    };
  };
  return { name: "Weft", start };
}

/** A certificate for `scale0/default`, asked for as an agent does. */
async function certificateOf(
  client: KubeClient,
  { namespace, discoveryHost: serverName }: MeshSettings,
  port: number,
): Promise<Tls> {
  const ca = await eventually("whoever leads publishes the roots", async () => {
    const roots = await client.get(configMaps, { namespace, name: "istio-ca-root-cert" });
    return roots?.data?.["root-cert.pem"];
  });
  const { status } = await client.json<{ status: { token: string } }>(
    "POST",
    "/api/v1/namespaces/scale0/serviceaccounts/default/token",
    {
      body: {
        apiVersion: "authentication.k8s.io/v1",
        kind: "TokenRequest",
        spec: { audiences: ["istio-ca"] },
      },
    },
  );
  const { keyPem, csrPem } = makeRequest();
  const answer = await new Promise<string>((resolve, reject) => {
    const headers = { authorization: `Bearer ${status.token}` };
    const at = { host: "127.0.0.1", port, servername: serverName, path: "/certificates" };
    request({ ...at, method: "POST", ca, headers, agent: false }, (incoming) => {
      let text = "";
      incoming.on("data", (chunk) => (text += chunk));
      incoming.on("end", () => resolve(text));
    })
      .on("error", reject)
      .end(JSON.stringify({ csr: csrPem }));
  });
  const { certificateChain } = JSON.parse(answer) as { certificateChain: string };
  return { ca, cert: certificateChain, key: keyPem, serverName };
}

/**
 * Istio's, with its defaults but for the addresses it listens on and without webhooks (the ports of neither matter
 * here); built once. Undefined, and said so, where it cannot be.
 */
export async function istiod(
  { credentials }: Server,
  say: (line: string) => void,
): Promise<(Discovery & Disposable) | undefined> {
  let program: string;
  try {
    program = goProgram("istiod", say);
  } catch (error) {
    if (!(error instanceof NotToBeHad)) throw error;
    say(`skipped: istiod: ${error.message}`);
    return undefined;
  }
  const directory = mkdtempSync(join(tmpdir(), "weft-istiod-"));
  const file = (name: string, content: string) => {
    const path = join(directory, name);
    writeFileSync(path, content, { mode: 0o600 });
    return path;
  };
  // The API server is called through a UNIX socket, which client-go does not know.
  const relay = createServer((socket) => {
    const server = connect(credentials.socketPath!);
    for (const [one, other] of [
      [socket, server],
      [server, socket],
    ] as const) {
      one.pipe(other);
      one.on("error", () => other.destroy());
    }
  });
  await new Promise<void>((resolve) => relay.listen(0, "127.0.0.1", resolve));
  const { port } = relay.address() as { port: number };
  const reached = {
    ...credentials,
    server: `https://127.0.0.1:${port}`,
    tlsServerName: new URL(credentials.server).hostname,
  };
  const kubeconfig = file("kubeconfig", kubeconfigText([{ name: "c1", credentials: reached }]));
  const { ca, issue } = await makeCa();
  const serverName = "istiod.istio-system.svc";
  const own = await issue({ dns: [serverName] });
  const workload = await issue({ uri: "spiffe://cluster.local/ns/scale0/sa/default" });
  const flags = {
    kubeconfig,
    clusterID: "c1",
    tlsCertFile: file("cert.pem", own.cert),
    tlsKeyFile: file("key.pem", own.key),
    caCertFile: file("ca.pem", ca),
    httpsAddr: "",
    ctrlz_port: 0,
    log_target: join(directory, "log"),
  };
  const told = () => readFileSync(flags.log_target, "utf8").split("\n").slice(-10).join("\n");
  const start = async (): Promise<RunningDiscovery> => {
    const [xds, plain] = [await freePort(), await freePort()];
    const [http, monitoring] = [await freePort(), await freePort()];
    const addresses = {
      grpcAddr: `127.0.0.1:${plain}`,
      secureGRPCAddr: `127.0.0.1:${xds}`,
      httpAddr: `127.0.0.1:${http}`,
      monitoringAddr: `127.0.0.1:${monitoring}`,
    };
    const args = Object.entries({ ...flags, ...addresses }).map(([flag, value]) => `--${flag}=${value}`);
    const began = monotonic();
    const child = spawn("setpriv", ["--pdeathsig", "KILL", "--", program, "discovery", ...args], {
      cwd: directory,
      env: {
        ...process.env,
        POD_NAMESPACE: "istio-system",
        POD_NAME: "istiod",
        // Waits for HorizontalPodAutoscalers, which the embedded API server does not serve.
        PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER: "false",
      },
      stdio: "ignore",
    });
    const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    while (!(await listens(xds))) {
      if (child.exitCode !== null) throw new Error(`istiod ended with ${child.exitCode}:\n${told()}`);
      if (monotonic() - began > 60_000) throw new Error(`istiod does not listen after a minute:\n${told()}`);
      await sleep(5);
    }
    return {
      pid: child.pid!,
      target: `127.0.0.1:${xds}`,
      took: monotonic() - began,
      tls: async () => ({ ca, cert: workload.cert, key: workload.key, serverName }),
      plain: async () => `127.0.0.1:${plain}`,
      stop: () => {
        child.kill("SIGKILL");
        return ended;
      },
    };
  };
  return {
    name: "istiod",
    start,
    [Symbol.dispose]() {
      relay.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    const done = (found: boolean) => {
      socket.destroy();
      resolve(found);
    };
    socket.on("connect", () => done(true)).on("error", () => done(false));
  });
}
