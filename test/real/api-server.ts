/**
 * A real kube-apiserver that stands alone, with its etcd, for the conformance suites: no controllers, no nodes. It
 * listens on 127.0.0.1 and keeps everything in a directory that goes with it.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KubeClient, transportFor } from "../../src/kube/index.ts";
import { makeClusterPki } from "../../src/lab/pki.ts";
import { defaultCluster } from "../../src/lab/spec.ts";
import { realWorld, sleep } from "../../src/world/index.ts";
import { freePort } from "../support/ports.ts";
import { findProgram } from "./programs.ts";

export interface RealApiServer {
  /** Its current context may do everything. */
  kubeconfig: string;
  /** Of etcd and kube-apiserver. */
  pids: number[];
  /** Seconds from their start until they were ready. */
  ready: number;
  close(): Promise<void>;
}

/** How long it may take until it is ready. Milliseconds. */
const patience = 120_000;

/** `programs` is what `build-kubernetes.mjs` made; `fsync`: etcd syncs each write to the disk. Rejects with what the programs said when they do not come up. */
export async function startApiServer(programs: string, { fsync = false } = {}): Promise<RealApiServer> {
  const world = realWorld();
  const directory = mkdtempSync(join(tmpdir(), "weft-real-"));
  const file = (name: string, content: string) => {
    const path = join(directory, name);
    writeFileSync(path, content, { mode: 0o600 });
    return path;
  };
  const { cluster: pki } = await makeClusterPki(world, defaultCluster("real", 0));
  const [clients, peers, port] = await Promise.all([freePort(), freePort(), freePort()]);
  const log = join(directory, "log");
  const etcdProgram = findProgram("etcd") ?? "etcd";
  const children: ChildProcess[] = [];
  const ended: Promise<unknown>[] = [];
  let failed: string | undefined;
  const start = (program: string, flags: Record<string, string | number | boolean>) => {
    const args = Object.entries(flags).map(([flag, value]) => `--${flag}=${value}`);
    const output = openSync(log, "a");
    // They end with this process, however that ends.
    const child = spawn("setpriv", ["--pdeathsig", "KILL", "--", program, ...args], {
      stdio: ["ignore", output, output],
    });
    closeSync(output);
    children.push(child);
    ended.push(once(child, "exit").catch(() => {}));
    child.on("error", (error) => {
      failed ??= `${program}: ${error.message}`;
    });
    child.on("exit", (code, signal) => {
      failed ??= `${program} ended (${signal ?? code})`;
    });
  };
  const close = async () => {
    for (const child of children) child.kill("SIGKILL");
    await Promise.all(ended);
    rmSync(directory, { recursive: true, force: true });
  };
  const etcd = `http://127.0.0.1:${clients}`;
  const etcdPeers = `http://127.0.0.1:${peers}`;
  const begun = world.monotonic();
  start(etcdProgram, {
    name: "real",
    "data-dir": join(directory, "etcd"),
    "listen-client-urls": etcd,
    "advertise-client-urls": etcd,
    "listen-peer-urls": etcdPeers,
    "initial-advertise-peer-urls": etcdPeers,
    "initial-cluster": `real=${etcdPeers}`,
    ...(!fsync && { "unsafe-no-fsync": true }),
    "log-level": "error",
  });
  start(join(programs, "kube-apiserver"), {
    "etcd-servers": etcd,
    "bind-address": "127.0.0.1",
    "secure-port": port,
    "tls-cert-file": file("server.crt", pki.serving.cert),
    "tls-private-key-file": file("server.key", pki.serving.key),
    "client-ca-file": file("ca.crt", pki.ca.cert),
    "service-cluster-ip-range": "10.96.0.0/16",
    "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
    "service-account-signing-key-file": file("sa.key", pki.serviceAccount.privateKey),
    "service-account-key-file": file("sa.pub", pki.serviceAccount.publicKey),
    "authorization-mode": "RBAC",
    "endpoint-reconciler-type": "none",
    "allow-privileged": true,
    v: 0,
  });
  const server = `https://127.0.0.1:${port}`;
  const transport = transportFor({ server, ca: pki.ca.cert, cert: pki.admin.cert, key: pki.admin.key });
  const client = new KubeClient({ transport, world, cluster: "real", server });
  let ready = 0;
  try {
    for (const end = world.monotonic() + patience; !(await isReady(client)); await sleep(world, 100)) {
      if (failed) throw new Error(`${failed}\n${tail(log)}`);
      if (world.monotonic() > end) throw new Error(`kube-apiserver does not become ready\n${tail(log)}`);
    }
    ready = (world.monotonic() - begun) / 1000;
  } catch (error) {
    await close();
    throw error;
  } finally {
    transport.close();
  }
  const base64 = (pem: string) => Buffer.from(pem).toString("base64");
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "real", cluster: { server, "certificate-authority-data": base64(pki.ca.cert) } }],
    users: [
      {
        name: "admin",
        user: {
          "client-certificate-data": base64(pki.admin.cert),
          "client-key-data": base64(pki.admin.key),
        },
      },
    ],
    contexts: [{ name: "real", context: { cluster: "real", user: "admin" } }],
    "current-context": "real",
  };
  return {
    kubeconfig: file("kubeconfig", JSON.stringify(config)),
    pids: children.map(({ pid }) => pid!),
    ready,
    close,
  };
}

async function isReady(client: KubeClient): Promise<boolean> {
  try {
    const response = await client.request({ method: "GET", path: "/readyz" });
    for await (const _ of response.body);
    return response.status === 200;
  } catch {
    return false;
  }
}

const tail = (path: string) => readFileSync(path, "utf8").split("\n").slice(-20).join("\n");
