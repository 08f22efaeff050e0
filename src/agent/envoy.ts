/** Envoy beside the application: its bootstrap, its secrets as files, its process, and what its admin port tells. */
import { spawn } from "node:child_process";
import { rename, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { join } from "node:path";
import { SdsFiles, type WorkloadCertificate } from "../identity/index.ts";
import {
  adminPort,
  type BootstrapOptions,
  bootstrap,
  discoveryRoots,
  discoveryRootsFile,
} from "./bootstrap.ts";
import type { RunningProxy } from "./running.ts";

export interface EnvoyOptions extends BootstrapOptions {
  /** Where the bootstrap goes. */
  bootstrapFile: string;
  /** `envoy`, found in PATH, unless told. */
  program?: string;
  /** Threads; 0: one for each CPU. */
  concurrency: number;
  /** Envoy's words: `warning`. */
  logLevel: string;
  /** Seconds over which connections are told to close while it drains. */
  drainSeconds: number;
  identity: {
    current(): WorkloadCertificate;
    onChange(listener: (certificate: WorkloadCertificate) => void): () => void;
  };
  /** Roots of discovery's certificate; PEM. */
  discoveryRoots(): Promise<string>;
  log(line: string): void;
}

/** Starts it, with its first certificate in place. Throws Error when the program does not start. */
export async function startEnvoy(options: EnvoyOptions): Promise<RunningProxy> {
  const { identity, log } = options;
  const secrets = new SdsFiles(options.sds);
  let roots = "";
  const write = async (certificate: WorkloadCertificate) => {
    const now = await options.discoveryRoots();
    await secrets.write(certificate);
    if (now === roots) return;
    roots = now;
    const file = join(options.sds, `${discoveryRoots}.json`);
    await writeFile(`${file}.new`, discoveryRootsFile(roots), { mode: 0o600 });
    await rename(`${file}.new`, file);
  };
  await write(identity.current());
  // One after the other, so that an older one never lands on a newer.
  let writing = Promise.resolve();
  const stopWriting = identity.onChange((certificate) => {
    writing = writing
      .then(() => write(certificate))
      .catch((error: unknown) => log(`the new certificate cannot be written: ${String(error)}`));
  });
  await writeFile(options.bootstrapFile, `${JSON.stringify(bootstrap(options))}\n`);

  const flags = ["--config-path", options.bootstrapFile, "--disable-hot-restart"];
  flags.push("--drain-time-s", String(options.drainSeconds), "--drain-strategy", "immediate");
  flags.push("--log-level", options.logLevel, "--log-format", "%Y-%m-%dT%T.%fZ\t%l\tenvoy %n %g:%#\t%v");
  if (options.concurrency > 0) flags.push("--concurrency", String(options.concurrency));
  const child = spawn(options.program ?? "envoy", flags, { stdio: ["ignore", "inherit", "inherit"] });
  let stopping = false;
  const exited = new Promise<string>((resolve) => {
    child.once("error", (error) => resolve(`Envoy cannot be started: ${error.message}`));
    child.once("exit", (code, signal) => resolve(`Envoy ended with ${signal ?? `exit code ${code}`}`));
  });
  const { promise: ended, resolve: hasEnded } = Promise.withResolvers<string>();
  void exited.then((reason) => {
    if (!stopping) hasEnded(reason);
  });

  return {
    ended,
    async notReady() {
      const { status, text } = await ask("GET", "/ready").catch((error: Error) => ({
        status: 0,
        text: error.message,
      }));
      return status === 200 ? undefined : `Envoy is ${text.trim() || "not up"}`;
    },
    async drain() {
      await ask("POST", "/healthcheck/fail");
      await ask("POST", "/drain_listeners?graceful&skip_exit&inboundonly");
    },
    async connections() {
      const { text } = await ask("GET", "/stats?filter=%5Elistener%5C..*downstream_cx_active%24&usedonly");
      const own = /^listener\.(admin|127\.0\.0\.1)/;
      return text
        .split("\n")
        .filter((line) => line !== "" && !own.test(line) && !line.includes(".worker_"))
        .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
    },
    metrics: async () => (await ask("GET", "/stats/prometheus")).text,
    async stop() {
      stopping = true;
      stopWriting();
      child.kill("SIGTERM");
      await exited;
    },
  };
}

/** A request to the admin port; it answers at once or is not well. */
function ask(method: string, path: string): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const asked = request(
      { host: "127.0.0.1", port: adminPort, method, path, agent: false, timeout: 5000 },
      (response) => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (chunk: string) => {
          text += chunk;
        });
        response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
        response.on("error", reject);
      },
    );
    asked.on("timeout", () => asked.destroy(new Error("Envoy's admin port does not answer")));
    asked.on("error", reject);
    asked.end();
  });
}
