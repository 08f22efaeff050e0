/** `weft link cut|heal|latency`: what lies between two clusters of the lab. */
import type { Command } from "commander";
import { WeftError } from "../api/index.ts";
import { parseLatency, requireLatency } from "../lab/index.ts";
import { order, requireCluster, runningLab } from "./faults.ts";

export function define(command: Command): void {
  const onLink = (name: string, description: string) =>
    command
      .command(name)
      .description(description)
      .argument("<cluster>", "one end, as in 'weft status'")
      .argument("<cluster>", "the other end");

  onLink("cut", "let nothing pass between two clusters, as if a cable broke").action(
    async (a: string, b: string) => {
      const between = await ends(a, b);
      await order({ do: "cut", between });
      console.log(`the link between ${a} and ${b} is cut`);
    },
  );
  onLink("heal", "let pass again what a cut link held up").action(async (a: string, b: string) => {
    const between = await ends(a, b);
    await order({ do: "heal", between });
    console.log(`the link between ${a} and ${b} is whole`);
  });
  onLink("latency", "let every packet between two clusters take longer")
    .argument("<latency>", "each way: 50ms, 1.5s, 200us; 0ms is none")
    .action(async (a: string, b: string, text: string) => {
      const latency = parseLatency(text);
      if (latency === undefined) throw new WeftError("LATENCY_INVALID", { value: text });
      const between = await ends(a, b);
      if (latency > 0) requireLatency();
      await order({ do: "latency", between, latency });
      const round = latency > 0 ? `${text} each way` : "no added latency";
      console.log(`the link between ${a} and ${b} has ${round}`);
    });
}

async function ends(a: string, b: string): Promise<[string, string]> {
  const status = await runningLab();
  for (const name of [a, b]) requireCluster(status, name);
  if (a === b) throw new Error(`a link is between two clusters, not between ${a} and itself`);
  return [a, b];
}
