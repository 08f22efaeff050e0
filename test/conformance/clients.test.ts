/**
 * Programs made with Kubernetes' own client libraries find the API server to be one: client-go's informers (typed in
 * protobuf, dynamic, metadata only; beginning by WatchList and by list), two controller-runtime managers of which one
 * leads, and the informers of @kubernetes/client-node. On the embedded server, and on a real kube-apiserver where
 * `WEFT_CONFORMANCE_KUBECONFIG` names one. The Go programs are built by `npm run test:real`.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import type { Informer, KubernetesObject, ObjectCache } from "@kubernetes/client-node";
import {
  type ConfigMap,
  configMaps,
  customResourceDefinitions,
  namespaces,
  resource,
} from "../../src/api/index.ts";
import { KubeClient, loadKubeconfig, transportFor } from "../../src/kube/index.ts";
import { listeningServer } from "../../src/lab/apiserver/testing/listening.ts";
import { realWorld } from "../../src/world/index.ts";
import { goProgramFile } from "../real/programs.ts";
import { eventually } from "../support/eventually.ts";

const program = goProgramFile("clients");
const reason = existsSync(program) ? false : "they are not built; 'npm run test:real' builds them";
if (reason) console.log(`skipped: client-go and controller-runtime: ${reason}`);

const world = realWorld();
const real = process.env.WEFT_CONFORMANCE_KUBECONFIG;
const servers: [name: string, start: () => Promise<{ kubeconfig: string; end(): Promise<void> }>][] = [
  [
    "the embedded API server",
    async () => {
      const server = await listeningServer();
      return { kubeconfig: server.kubeconfig(), end: () => server[Symbol.asyncDispose]() };
    },
  ],
];
if (real) servers.push(["a real kube-apiserver", async () => ({ kubeconfig: real, end: async () => {} })]);

const widgets = resource<ConfigMap>("example.com", "v1", "Widget", "widgets");
const widgetDefinition = {
  metadata: { name: "widgets.example.com" },
  spec: {
    group: "example.com",
    scope: "Namespaced" as const,
    names: { kind: "Widget", plural: "widgets" },
    versions: [
      {
        name: "v1",
        served: true,
        storage: true,
        schema: { openAPIV3Schema: { type: "object", "x-kubernetes-preserve-unknown-fields": true } },
      },
    ],
  },
};

/** What a program printed, a JSON object a line. */
interface Line {
  informer?: string;
  manager?: string;
  event: string;
  name?: string;
  version?: string;
  items?: number;
  data?: Record<string, string>;
  owned?: boolean;
  error?: string;
}

/** Waits until `check` no longer throws. */
const holds = (what: string, check: () => unknown) =>
  eventually(what, async () => {
    await check();
    return true;
  });

for (const [name, start] of servers) {
  describe(`clients of ${name}`, () => {
    let server: Awaited<ReturnType<typeof start>>;
    let client: KubeClient;
    let close: () => void;
    const children: ChildProcess[] = [];
    const home = mkdtempSync(join(tmpdir(), "weft-clients-"));

    before(async () => {
      server = await start();
      const credentials = loadKubeconfig(server.kubeconfig).credentials();
      const transport = transportFor(credentials);
      close = () => transport.close();
      client = new KubeClient({ transport, world, cluster: name, server: credentials.server });
      await client.apply(customResourceDefinitions, widgetDefinition, { manager: "test" });
      await holds("the Widgets are served", () => client.list(widgets));
    });
    after(async () => {
      for (const child of children) child.kill("SIGKILL");
      await client.delete(customResourceDefinitions, { name: "widgets.example.com" });
      close();
      await server.end();
      rmSync(home, { recursive: true });
    });

    async function namespace(given: string): Promise<string> {
      await client.create(namespaces, { metadata: { name: given } });
      return given;
    }

    function run(args: string[], env: Record<string, string> = {}): { lines: Line[]; child: ChildProcess } {
      mkdirSync(home, { recursive: true });
      const child = spawn(program, args, {
        env: { HOME: home, ...env },
        stdio: ["ignore", "pipe", process.env.WEFT_VERBOSE ? "inherit" : "ignore"],
      });
      children.push(child);
      const lines: Line[] = [];
      createInterface({ input: child.stdout! }).on("line", (line) => lines.push(JSON.parse(line) as Line));
      return { lines, child };
    }

    const configMap = (
      ns: string,
      of: string,
      data: Record<string, string>,
      labels?: Record<string, string>,
    ) => ({
      metadata: { namespace: ns, name: of, ...(labels && { labels }) },
      data,
    });

    for (const watchList of ["true", "false"]) {
      test(`client-go's informers follow all that happens, WatchList ${watchList}`, {
        skip: reason,
      }, async () => {
        const ns = await namespace(`informers-${watchList}`);
        for (const each of ["a", "b"]) await client.create(configMaps, configMap(ns, each, { n: "1" }));
        const { lines } = run(["informers", server.kubeconfig, ns], {
          KUBE_FEATURE_WatchListClient: watchList,
        });
        const informers = ["typed", "dynamic", "metadata", "widgets"];
        await holds("all are synced", () => {
          for (const informer of informers) {
            assert.ok(
              lines.some((line) => line.informer === informer && line.event === "synced"),
              informer,
            );
          }
        });
        await client.create(configMaps, configMap(ns, "c", { n: "1" }));
        await client.patch(configMaps, { namespace: ns, name: "a" }, { data: { n: "2" } });
        await client.delete(configMaps, { namespace: ns, name: "b" });
        await client.create(widgets, { metadata: { namespace: ns, name: "w" } } as ConfigMap);
        const seen = (informer: string) =>
          lines
            .filter(
              (line) =>
                line.informer === informer && line.event !== "synced" && line.name !== "kube-root-ca.crt",
            )
            .map((line) => `${line.event} ${line.name ?? line.error}`);
        const expected = ["add a", "add b", "add c", "update a", "delete b"];
        for (const informer of ["typed", "dynamic", "metadata"]) {
          await holds(`${informer} has seen it all`, () => {
            const [first, second, ...rest] = seen(informer);
            assert.deepEqual([...[first, second].sort(), ...rest], expected);
          });
        }
        await holds("the Widget was seen", () => assert.deepEqual(seen("widgets"), ["add w"]));
      });
    }

    test("of two controller-runtime managers one leads; it is replaced when it ends", {
      skip: reason,
    }, async () => {
      const ns = await namespace("manager");
      const first = run(["manager", server.kubeconfig, ns, "one"]);
      await holds("one leads", () => assert.ok(first.lines.some(({ event }) => event === "elected")));
      const second = run(["manager", server.kubeconfig, ns, "two"]);
      await client.create(configMaps, configMap(ns, "a", { n: "1" }, { copy: "wanted" }));
      await holds("the copy stands", () => {
        assert.deepEqual(first.lines.at(-1), {
          manager: "one",
          event: "copied",
          name: "a",
          data: { n: "1" },
          owned: true,
        });
      });
      await client.patch(configMaps, { namespace: ns, name: "a" }, { data: { n: "2" } });
      await holds("the copy follows", () => assert.equal(first.lines.at(-1)?.data?.n, "2"));
      const managers = (await client.get(configMaps, { namespace: ns, name: "a-copy" }))?.metadata
        .managedFields;
      assert.deepEqual(
        managers?.map(({ manager, operation }) => [manager, operation]),
        [["copies", "Apply"]],
      );
      assert.deepEqual(second.lines, [], "the other one waits");
      first.child.kill("SIGTERM");
      await holds("two leads", () => assert.ok(second.lines.some(({ event }) => event === "elected")));
      await client.patch(configMaps, { namespace: ns, name: "a" }, { data: { n: "3" } });
      await holds("the copy follows again", () => assert.equal(second.lines.at(-1)?.data?.n, "3"));
    });

    test("@kubernetes/client-node's informer follows all that happens", async () => {
      const { CoreV1Api, KubeConfig, makeInformer } = await import("@kubernetes/client-node");
      const ns = await namespace("client-node");
      await client.create(configMaps, configMap(ns, "a", { n: "1" }));
      const config = new KubeConfig();
      config.loadFromFile(server.kubeconfig);
      const api = config.makeApiClient(CoreV1Api);
      const informer: Informer<KubernetesObject> & ObjectCache<KubernetesObject> = makeInformer(
        config,
        `/api/v1/namespaces/${ns}/configmaps`,
        () => api.listNamespacedConfigMap({ namespace: ns }),
      );
      const seen: string[] = [];
      for (const event of ["add", "update", "delete"] as const) {
        informer.on(event, ({ metadata }) => {
          if (metadata?.name !== "kube-root-ca.crt") seen.push(`${event} ${metadata?.name}`);
        });
      }
      await informer.start();
      await holds("it is synced", () => assert.deepEqual(seen, ["add a"]));
      await client.create(configMaps, configMap(ns, "b", { n: "1" }));
      await client.patch(configMaps, { namespace: ns, name: "a" }, { data: { n: "2" } });
      await client.delete(configMaps, { namespace: ns, name: "b" });
      await holds("it has seen it all", () =>
        assert.deepEqual(seen, ["add a", "add b", "update a", "delete b"]),
      );
      await informer.stop();
    });
  });
}
