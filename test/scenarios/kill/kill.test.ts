/**
 * Any process of a lab may be killed at any time, also while people make changes, and all is well again by itself:
 * two clusters, rounds of random changes during which a random process gets SIGKILL. Each must end with exports,
 * imports, slices, rules, containers and answers as they should be.
 *
 * WEFT_KILL_ROUNDS=100 for more rounds, WEFT_KILL_SEED=<n> for the same choices again (not the same timing).
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { pods } from "../../../src/api/index.ts";
import { SimulatedWorld } from "../../../src/world/index.ts";
import { eventually } from "../../support/eventually.ts";
import { type Lab, labUnavailable, startLab } from "../../support/lab.ts";
import {
  change,
  chooseVictim,
  makeNamespace,
  replaceRestarted,
  setExported,
  setReplicas,
} from "./history.ts";
import {
  type Cluster,
  exportsOf,
  namespace,
  podsOf,
  problemsInApis,
  problemsOnNodes,
  restartsOf,
} from "./state.ts";

const rounds = Number(process.env.WEFT_KILL_ROUNDS ?? 20);
const seed = Number(process.env.WEFT_KILL_SEED ?? Math.floor(Math.random() * 2 ** 31));
/** Milliseconds in which all must be well again, on a machine that is busy with other things. */
const patience = 60_000;

const reason = labUnavailable("lab");
if (reason) console.log(`skipped: killing processes of a lab: ${reason}`);

describe("processes are killed", { skip: reason, timeout: 120_000 + rounds * patience }, () => {
  let lab: Lab;
  let labDir: string;
  let clusters: Cluster[];

  before(async () => {
    lab = await startLab(["c1", "c2"]);
    labDir = join(lab.home, "lab");
    clusters = ["c1", "c2"].map((name) => ({
      name,
      node: `${name}-control-plane`,
      client: lab.client(name),
      wanted: new Map(),
    }));
    for (const cluster of clusters) {
      await makeNamespace(cluster);
      await setReplicas(cluster, "a", 2);
      await setExported(cluster, "a", true);
      await setReplicas(cluster, "b", 1);
      const ask = { name: "ask", image: "busybox", command: ["sleep", "100000"] };
      await cluster.client.create(pods, {
        metadata: { namespace, name: "ask" },
        spec: { containers: [ask], terminationGracePeriodSeconds: 0 },
      });
    }
    await allIsWell();
  });
  after(async () => {
    await lab?.down();
  });

  test(`${rounds} rounds from seed ${seed}`, async () => {
    const world = new SimulatedWorld(seed);
    const random = () => world.random();
    const record: string[] = [];
    const say = (text: string) => record.push(text);
    try {
      for (let round = 1; round <= rounds; round++) {
        const began = performance.now();
        record.length = 0;
        const restarts = await restartsOf(clusters);
        const victim = chooseVictim(random, clusters, labDir);
        say(`round ${round}, seed ${seed}: kill ${victim.what}`);
        const delay = random() * 300;
        const killing = new Promise((resolve) => setTimeout(resolve, delay)).then(victim.kill);
        const count = 1 + Math.floor(random() * 3);
        const changing = (async () => {
          for (let i = 0; i < count; i++) await change(random, clusters, say);
        })();
        const [killed] = await Promise.all([killing, changing]);
        say(`killed after ${Math.round(delay)} ms: ${killed.what}`);
        if (killed.pod) restarts.set(killed.pod, (restarts.get(killed.pod) ?? 0) + 1);
        await eventually("the killed container's restart, or its pod's end", async () => {
          const count = (await restartsOf(clusters)).get(killed.pod ?? "");
          return count === undefined || count >= restarts.get(killed.pod!)!;
        });
        await allIsWell();
        for (const [container, count] of await restartsOf(clusters)) {
          assert.equal(count, restarts.get(container) ?? 0, `restarts of ${container}`);
        }
        await replaceRestarted(clusters);
        console.log(`${record.join("; ")} (${Math.round(performance.now() - began)} ms)`);
      }
    } catch (error) {
      const history = record.map((line) => `  ${line}`).join("\n");
      throw new Error(`WEFT_KILL_SEED=${seed} makes the same choices; this round was:\n${history}`, {
        cause: error,
      });
    }
  });

  async function allIsWell(): Promise<void> {
    await none("problems in the APIs", () => problemsInApis(clusters));
    await Promise.all([
      none("problems on the nodes", () => problemsOnNodes(labDir, clusters)),
      ...clusters.map((cluster) => none(`answers in ${cluster.name}`, () => problemsOfAnswers(cluster))),
    ]);
  }

  async function none(what: string, find: () => Promise<string[]>): Promise<void> {
    let last: string[] = [];
    try {
      await eventually(
        what,
        async () => {
          last = await find();
          return last.length === 0;
        },
        patience,
      );
    } catch (error) {
      throw new Error([`${what}:`, ...last].join("\n  "), { cause: (error as Error).cause });
    }
  }

  /** Who answers for the exported services when a pod of the cluster asks. */
  async function problemsOfAnswers({ name }: Cluster): Promise<string[]> {
    const expected = new Map<string, string[]>();
    for (const [service, exporters] of exportsOf(clusters)) {
      const all: string[] = [];
      for (const exporter of exporters) {
        const { client } = clusters.find((cluster) => cluster.name === exporter)!;
        const { items } = await client.list(pods, { namespace });
        all.push(...podsOf(items, service).map(({ metadata }) => metadata.name));
      }
      if (all.length > 0) expected.set(service, all.sort());
    }
    // Enough that a pod of six is left out once in 100,000 times.
    const asks = [...expected].map(([service, { length }]) => {
      const count = length === 1 ? 3 : Math.ceil(-11.5 / Math.log(1 - 1 / length));
      const url = `http://${service}.${namespace}.svc.clusterset.local/?[1-${count}]`;
      return `(curl -sf --max-time 3 -w '\\n' '${url}' || echo failed) | sort -u | sed 's/^/${service} /'`;
    });
    if (asks.length === 0) return [];
    const said = await lab.tryKubectl(name, [
      "-n",
      namespace,
      "exec",
      "ask",
      "--",
      "sh",
      "-c",
      asks.join(";"),
    ]);
    const answered = new Set(said.stdout.split("\n").filter((line) => /^\S+ \S/.test(line)));
    const right = new Set([...expected].flatMap(([service, all]) => all.map((pod) => `${service} ${pod}`)));
    return [
      ...[...right].filter((each) => !answered.has(each)).map((each) => `${name}: no answer from ${each}`),
      ...[...answered].filter((each) => !right.has(each)).map((each) => `${name}: an answer from ${each}`),
      ...(said.status === 0 ? [] : [`${name}: ${said.stderr.trim()}`]),
    ];
  }
});
