/** What must be right between two clusters. */
import type { KubeClient } from "../../kube/index.ts";
import { clusterName } from "../install.ts";
import { peersOf } from "../join.ts";
import { reach, skewFinding } from "./cluster.ts";
import { firstOverlap, rangesOf } from "./ranges.ts";
import { type Check, check, failed, ok, warning } from "./result.ts";

export interface Named {
  client: KubeClient;
  context: string;
}

/** All checks of two clusters together; those of each alone are `checkCluster`'s. */
export async function checkPair(a: Named, b: Named): Promise<Check[]> {
  const about = `${a.context} and ${b.context}`;
  const names = Promise.all([clusterName(a.client), clusterName(b.client)]);
  const ranges = Promise.all([rangesOf(a.client), rangesOf(b.client)]);
  for (const asked of [names, ranges]) asked.catch(() => {});
  return Promise.all([
    check(about, "their names differ", async () => {
      const [x, y] = await names;
      return x !== y
        ? ok()
        : failed(`both are called '${x}'`, `weft uninstall --context ${b.context}, then weft install --name`);
    }),
    check(about, "each has a credential for the other", async () => {
      const [x, y] = await names;
      const [ofA, ofB] = await Promise.all([peersOf(a.client), peersOf(b.client)]);
      const fix = `weft join ${a.context} ${b.context}`;
      if (!y || !ofA.includes(y)) return failed(`${a.context} has none for ${y}`, fix);
      if (!x || !ofB.includes(x)) return failed(`${b.context} has none for ${x}`, fix);
      return ok();
    }),
    check(about, "their pods have different addresses", async () => {
      const [x, y] = await ranges;
      const fix =
        "one of the clusters must be made anew with another pod range: addresses of pods cross clusters";
      const overlap = firstOverlap(x.pods, y.pods);
      if (overlap) {
        const [a, b] = overlap;
        return failed(a === b ? `both have a pod at ${a}` : `${a} and ${b} overlap`, fix);
      }
      if (x.pods.length === 0 || y.pods.length === 0) {
        return ok("not known: the nodes do not say which addresses pods get, and there are no pods");
      }
      return ok(x.sampled || y.sampled ? "as far as their pods show; the nodes do not say" : undefined);
    }),
    check(about, "pods' addresses are not the other's services'", async () => {
      const [x, y] = await ranges;
      const overlap = firstOverlap(x.pods, y.services) ?? firstOverlap(y.pods, x.services);
      if (!overlap) return ok();
      return failed(
        `the pod range ${overlap[0]} and the service range ${overlap[1]} overlap`,
        "one of the clusters must be made anew with other ranges",
      );
    }),
    check(about, "their nodes have different addresses", async () => {
      const [x, y] = await ranges;
      const overlap = firstOverlap(x.nodes, y.nodes);
      if (!overlap) return ok();
      return warning(
        `${overlap[0]} is a node of both`,
        "are both contexts the same cluster? pods must reach pods of the other",
      );
    }),
    check(about, "their clocks agree", async () => {
      const [x, y] = await Promise.all([reach(a.client), reach(b.client)]);
      return y.clock === undefined ? ok() : skewFinding(x.clock, y.clock, b.context);
    }),
  ]);
}
