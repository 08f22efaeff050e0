/**
 * The image `jeremyot/request`: asks `--address` (HOST or HOST:PORT) once a second, on a new connection each
 * time, for as long as `--duration` says, and prints each answer with the time. A failed request is printed in
 * the words of Go's client, and the next one follows. Without a duration it goes on until it is stopped.
 */
import { request } from "node:http";
import { parseDuration, readFlags } from "../flags.ts";

const tick = 1000;
const patience = 5000;

const flags = readFlags({ address: "127.0.0.1", duration: "0" });
const duration = parseDuration(flags.duration);
if (duration === undefined) {
  process.stderr.write(`invalid value "${flags.duration}" for flag -duration: parse error\n`);
  process.exit(2);
}
const target = flags.address.includes("://") ? flags.address : `http://${flags.address}`;
const url = new URL(target);

/** `2022/06/23 01:56:21`, as Go's log package stamps a line. */
function stamp(at: Date): string {
  const two = (value: number) => String(value).padStart(2, "0");
  const date = `${at.getFullYear()}/${two(at.getMonth() + 1)}/${two(at.getDate())}`;
  return `${date} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

function print(text: string): void {
  process.stdout.write(`${stamp(new Date())} ${text.replace(/\n$/, "")}\n`);
}

function ask(): Promise<void> {
  return new Promise((resolve) => {
    const fail = (error: NodeJS.ErrnoException) => {
      print(`Get "${target}": ${explain(error)}`);
      resolve();
    };
    const asked = request(url, { agent: false, timeout: patience }, (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        body += chunk;
      });
      response.on("end", () => {
        print(body);
        resolve();
      });
      response.on("error", fail);
    });
    asked.on("timeout", () => asked.destroy(Object.assign(new Error(), { code: "ETIMEDOUT" })));
    asked.on("error", fail);
    asked.end();
  });
}

function explain(error: NodeJS.ErrnoException): string {
  const { hostname, port } = url;
  const dial = `dial tcp ${(error as { address?: string }).address ?? hostname}:${port || "80"}`;
  switch (error.code) {
    case "ENOTFOUND":
      return `dial tcp: lookup ${hostname}: no such host`;
    case "EAI_AGAIN":
      return `dial tcp: lookup ${hostname}: server misbehaving`;
    case "ECONNREFUSED":
      return `${dial}: connect: connection refused`;
    case "EHOSTUNREACH":
      return `${dial}: connect: no route to host`;
    case "ENETUNREACH":
      return `${dial}: connect: network is unreachable`;
    case "ETIMEDOUT":
      return `${dial}: i/o timeout`;
    case "ECONNRESET":
      return "EOF";
    default:
      return error.message;
  }
}

// As the first process of its container it gets no default action for signals.
for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => process.exit(0));

const start = performance.now();
const elapsed = () => performance.now() - start;
let second = 0;
while (duration === 0 || elapsed() < duration) {
  // Seconds that a slow answer took are left out, not caught up with.
  second = Math.max(second + 1, Math.floor(elapsed() / tick));
  const wait = second * tick - elapsed();
  if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
  await ask();
}
