/**
 * Measures what the figures in test/bench/ say, each against what was agreed. A few minutes for all of them.
 *
 *   npm run bench                     everything
 *   npm run bench -- NAME ...         up, idle, propagation, control-plane, api, traffic, proxy, sidecar, xds
 *   npm run bench -- --json           the figures as JSON instead of a table
 *
 * Exit code 1 when a figure misses what was agreed. The programs of a lab must be installed.
 */
import { availableParallelism, loadavg } from "node:os";
import {
  asTable,
  type Benchmark,
  type Figure,
  isMet,
  percentile,
  type Report,
} from "../test/bench/figures.ts";

const benchmarks: Record<string, () => Promise<Benchmark>> = {
  up: async () => (await import("../test/bench/up.ts")).up,
  idle: async () => (await import("../test/bench/up.ts")).idle,
  propagation: async () => (await import("../test/bench/scale.ts")).propagation,
  "control-plane": async () => (await import("../test/bench/scale.ts")).controlPlane,
  api: async () => (await import("../test/bench/api.ts")).api,
  traffic: async () => (await import("../test/bench/traffic.ts")).trafficModel,
  proxy: async () => (await import("../test/bench/proxy.ts")).proxy,
  sidecar: async () => (await import("../test/bench/sidecar.ts")).sidecar,
  xds: async () => (await import("../test/bench/xds.ts")).xds,
};

const args = process.argv.slice(2);
const json = args.includes("--json");
const named = args.filter((arg) => arg !== "--json");
const unknown = named.filter((name) => !(name in benchmarks));
if (unknown.length > 0) {
  console.error(`error: no benchmark ${unknown.join(", ")}\n  fix: ${Object.keys(benchmarks).join(", ")}`);
  process.exit(1);
}

const figures: Figure[] = [];
for (const bench of named.length > 0 ? named : Object.keys(benchmarks)) {
  const report: Report = {
    figure: (what, value, unit, more = {}) => figures.push({ bench, what, value, unit, ...more }),
    spread(what, samples, unit, limits = {}) {
      for (const [name, share, limit] of [
        ["p50", 0.5, limits.p50],
        ["p99", 0.99, limits.p99],
      ] as const) {
        const more = { ...(limit !== undefined && { limit }), note: `${samples.length} samples` };
        report.figure(`${what}, ${name}`, percentile(samples, share), unit, more);
      }
    },
    step: (text) => console.error(`${bench}: ${text}`),
  };
  const run = await benchmarks[bench]!();
  await run(report);
}

const machine = { cores: availableParallelism(), load: loadavg()[0]!, node: process.version };
if (json) {
  const all = figures.map((figure) => ({ ...figure, met: isMet(figure) }));
  console.log(JSON.stringify({ machine, figures: all }, undefined, 2));
} else {
  console.log(asTable(figures));
  console.log(`${machine.cores} cores, load ${machine.load.toFixed(1)}, Node ${machine.node}`);
}
if (figures.some((figure) => isMet(figure) === false)) process.exitCode = 1;
