import assert from "node:assert/strict";
import { test } from "node:test";
import { Fleet } from "../../test/support/fleet.ts";
import { SimulatedWorld } from "../world/index.ts";
import { metrics } from "./metrics.ts";

test("metrics are what Prometheus reads, and count work and writes", async () => {
  const fleet = await Fleet.start(new SimulatedWorld(1), ["c1"]);
  const plane = await fleet.startPlane("c1");
  await fleet.pass(5);
  const before = parse(metrics(plane));
  assert.equal(before.get("weft_ready"), 1);
  assert.equal(before.get('weft_sink_writes_total{sink="serviceoffers",kind="created"}'), 0);

  await fleet.makeService("c1", "serve");
  await fleet.exportService("c1", "serve");
  await fleet.pass(5);
  const after = parse(metrics(plane));
  assert.equal(after.get('weft_sink_writes_total{sink="serviceoffers",kind="created"}'), 1);
  assert.ok(after.get("weft_engine_evaluated_total")! > before.get("weft_engine_evaluated_total")!);
  assert.equal(after.get("weft_engine_bugs_total"), 0);
  assert.ok(after.get("process_resident_memory_bytes")! > 1e6);
  await fleet.close();
});

/** Samples by name and labels. Every line must be one of the format, every metric told in one place. */
function parse(text: string): Map<string, number> {
  assert.ok(text.endsWith("\n"));
  const samples = new Map<string, number>();
  const told = new Set<string>();
  let metric = "";
  for (const line of text.trimEnd().split("\n")) {
    const help = /^# HELP (\w+) \S/.exec(line);
    if (help) {
      metric = help[1]!;
      assert.equal(told.has(metric), false, `${metric} is told twice`);
      told.add(metric);
      continue;
    }
    if (/^# TYPE (\w+) (counter|gauge)$/.exec(line)?.[1] === metric) continue;
    const sample = /^(\w+)(\{\w+="[^"]*"(?:,\w+="[^"]*")*\})? (\d+(?:\.\d+)?(?:e-?\d+)?)$/.exec(line);
    assert.equal(sample?.[1], metric, line);
    samples.set(`${sample![1]}${sample![2] ?? ""}`, Number(sample![3]));
  }
  return samples;
}
