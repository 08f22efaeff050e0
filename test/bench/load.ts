/** Load on a port of this machine, by programs of others pinned to core 0: wrk, h2load and curl. */
import { spawnSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { percentile } from "./figures.ts";

export interface Load {
  requests: number;
  /** Bytes of bodies; 0 where nobody counts them. */
  bytes: number;
  /** Milliseconds; NaN where nobody measures them. */
  p50: number;
  p99: number;
  bad: boolean;
}

/** Connections of HTTP/1.1. */
const connections = 32;

function run(program: string, ...args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync("taskset", ["-c", "0", program, ...args], {
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`${program}: ${stderr || error}`);
  return stdout;
}

/** HTTP/1.1, the next request as soon as the last is answered, for `time` seconds. */
export function wrk(port: number, time: number): Load {
  const said = run("wrk", "-t1", `-c${connections}`, `-d${time}s`, "--latency", `http://127.0.0.1:${port}/`);
  const ms = (share: string) => {
    const [, value, unit] = new RegExp(`${share}%\\s+([\\d.]+)(us|ms|s)`).exec(said)!;
    return Number(value) * { us: 0.001, ms: 1, s: 1000 }[unit as "ms"];
  };
  return {
    requests: Number(/(\d+) requests in/.exec(said)![1]),
    bytes: 0,
    p50: ms("50"),
    p99: ms("99"),
    bad: /Non-2xx|Socket errors/.test(said),
  };
}

/** HTTP/2, or what `more` says, for `time` seconds; `directory` takes its log for a moment. */
export function h2load(port: number, time: number, directory: string, ...more: string[]): Load {
  const log = join(directory, "requests");
  run("h2load", `-D${time}`, `--log-file=${log}`, ...more, `http://127.0.0.1:${port}/`);
  // Begun at (µs), status, duration (µs) on each line.
  const lines = readFileSync(log, "utf8").split("\n").filter(Boolean);
  rmSync(log);
  const times = lines.map((line) => Number(line.split("\t")[2])).sort((a, b) => a - b);
  return {
    requests: lines.length,
    bytes: 0,
    p50: percentile(times, 0.5) / 1000,
    p99: percentile(times, 0.99) / 1000,
    bad: lines.some((line) => line.split("\t")[1] !== "200"),
  };
}

/** Fetches a file again and again, one connection at a time, for at least `time` seconds. */
export function download(port: number, time: number): Load {
  const load = { requests: 0, bytes: 0, p50: Number.NaN, p99: Number.NaN, bad: false };
  const until = performance.now() + time * 1000;
  while (performance.now() < until) {
    const args = ["-s", "-o", "/dev/null", "-w", "%{http_code} %{size_download}"];
    const [code, bytes] = run("curl", ...args, `http://127.0.0.1:${port}/file`).split(" ");
    load.requests++;
    load.bytes += Number(bytes);
    load.bad ||= code !== "200";
  }
  return load;
}
