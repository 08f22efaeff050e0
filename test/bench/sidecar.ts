/**
 * What a sidecar costs: that of seed 002's partner in the lab, through which requests come and go, the embedded proxy
 * and then Envoy. Its own (anonymous) memory after its start and after 1,000 requests, and how long until it is ready,
 * Node's own start and the wait for the certificate aside.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { implementationAnnotation } from "../../src/injection/index.ts";
import { findEnvoy } from "../../src/xds/testing/envoy.ts";
import {
  call,
  callMany,
  deployCoolapp,
  gatewayUrl,
  inCoolapp,
  podOf,
  rolledOut,
} from "../scenarios/002-openshift-service-mesh/coolapp.ts";
import { eventually } from "../support/eventually.ts";
import { startLab } from "../support/lab.ts";
import { anonymousOf, processesOf } from "../support/processes.ts";
import type { Report } from "./figures.ts";

const requests = 1000;
/** ms after which what was free has been given back (src/agent/memory.ts looks every 10 s). */
const rest = 15_000;

export async function sidecar(report: Report): Promise<void> {
  const lab = await startLab(["c1"]);
  try {
    report.step("seed 002 in the lab");
    await deployCoolapp(lab);
    const url = await gatewayUrl(lab);
    const answers = () => eventually("an answer", async () => (await call(url)).status === 200);
    for (const kind of findEnvoy() ? ["embedded", "envoy"] : ["embedded"]) {
      const annotations = { [implementationAnnotation]: kind };
      const patch = JSON.stringify({ spec: { template: { metadata: { annotations } } } });
      await inCoolapp(lab, "patch", "deployment", "partner-v1", "-p", patch);
      await rolledOut(lab, "partner-v1");
      const pod = await eventually("one pod of partner-v1", () =>
        podOf(lab, "partner-v1").catch(() => undefined),
      );
      await answers();

      const embedded = kind === "embedded";
      const name = embedded ? "embedded proxy" : "Envoy";
      const memory = (when: string, limits = {}) => {
        const sizes = ownMemory(join(lab.home, "lab"), pod);
        report.figure(`${name}: own memory ${when}`, sizes.proxy, "MB", embedded ? limits : {});
        if (!embedded) report.figure(`${name}: that of its agent ${when}`, sizes.agent, "MB");
      };
      memory("after its start", { limit: 40 });
      report.step(`${name}: ${requests} requests`);
      const all = await callMany(url, requests);
      const bad = all.filter(({ status }) => status !== 200).length;
      if (bad > 0) throw new Error(`${name}: ${bad} of ${requests} answers were not good`);
      memory(`at the end of ${requests} requests`);
      await new Promise((resolve) => setTimeout(resolve, rest));
      memory(`${rest / 1000} s after ${requests} requests`, { limit: 40 });
      const log = await inCoolapp(lab, "logs", pod, "-c", "istio-proxy");
      const [, own] = /ready in (\d+) ms/.exec(log) ?? [];
      if (!own) throw new Error(`${pod} does not say when it was ready:\n${log}`);
      report.figure(`${name}: until it is ready`, Number(own), "ms", embedded ? { limit: 150 } : {});
    }
  } finally {
    await lab.down();
  }
}

/** MB of what runs in a pod's container istio-proxy: Envoy and its agent, or both in one. */
function ownMemory(lab: string, pod: string): { proxy: number; agent: number } {
  const ours = processesOf(lab).filter(({ pid, command }) => {
    const variables = readFileSync(`/proc/${pid}/environ`, "utf8").split("\0");
    return variables.includes(`POD_NAME=${pod}`) && command.some((word) => /^proxy$|envoy$/.test(word));
  });
  const agent = ours.find(({ command }) => command.includes("sidecar"));
  const envoy = ours.find(({ command }) => command[0]!.endsWith("envoy"));
  if (!agent) throw new Error(`no sidecar of ${pod} is running`);
  return { proxy: anonymousOf((envoy ?? agent).pid) / 2 ** 20, agent: anonymousOf(agent.pid) / 2 ** 20 };
}
