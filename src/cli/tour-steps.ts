/**
 * `npm start`: seed 001 in the lab, a step at a time: each step says what it does, the kubectl command that
 * does it, and what came of it. The clusters stay for the user, except with `--once`. Ctrl-C takes all down.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  endpointSlices,
  mcsServiceNameLabel,
  serviceExports,
  serviceImports,
  services,
} from "../api/index.ts";
import { KubeClient, loadKubeconfig, transportFor } from "../kube/index.ts";
import { realWorld } from "../world/index.ts";
import { applyFiles, applyObject, getTable, rolledOut, runPod } from "./kubectl.ts";
import { Shown, type TourOptions, until } from "./tour-shown.ts";

const demo = fileURLToPath(new URL("../../samples/mcs-demo", import.meta.url));
const requestImage = "jeremyot/request:0a40de8";

/** Runs the tour to its end; throws what stopped it. */
export async function tour(options: TourOptions): Promise<void> {
  const world = realWorld();
  const shown = new Shown(world, options.print);
  const { signal } = options;

  await shown.step("Start two clusters, c1 and c2, and join them", async () => {
    shown.command("weft up --clusters c1,c2");
    await options.up(["c1", "c2"], (text) => shown.output(`${text}\n`), signal);
  });
  const kubeconfig = loadKubeconfig(options.kubeconfig);
  const clientOf = (cluster: string) =>
    new KubeClient({
      transport: transportFor(kubeconfig.credentials(options.context(cluster))),
      world,
      cluster,
    });
  const clients = { c1: clientOf("c1"), c2: clientOf("c2") };
  const kubectl = (cluster: string, rest: string) =>
    shown.command(`kubectl --context ${options.context(cluster)} ${rest}`);
  const each = async (run: (cluster: "c1" | "c2") => Promise<void>) => {
    await run("c1");
    await run("c2");
  };

  await shown.step("A namespace in each cluster", () =>
    each(async (cluster) => {
      kubectl(cluster, "create ns demo");
      const namespace = { apiVersion: "v1", kind: "Namespace", metadata: { name: "demo" } };
      shown.output(await applyObject(clients[cluster], namespace));
    }),
  );

  await shown.step("The same service in each: a Deployment and a Service", () =>
    each(async (cluster) => {
      const files = [cluster === "c1" ? "dep1.yaml" : "dep2.yaml", "svc.yaml"];
      kubectl(cluster, `apply ${files.map((file) => `-f samples/mcs-demo/${file}`).join(" ")}`);
      shown.output(
        await applyFiles(
          clients[cluster],
          files.map((file) => join(demo, file)),
        ),
      );
    }),
  );

  await shown.step("Wait until both are up", () =>
    each(async (cluster) => {
      kubectl(cluster, "-n demo rollout status deployment serve");
      shown.output(await rolledOut(clients[cluster], "demo/serve", signal));
    }),
  );

  const request = async (duration: number, address: string) => {
    const flags = `--duration=${duration}s --address=${address}`;
    kubectl("c1", `-n demo run -i --rm --restart=Never --image=${requestImage} request -- ${flags}`);
    const pod = { namespace: "demo", name: "request", image: requestImage, args: flags.split(" ") };
    await runPod(clients.c1, pod, (text) => shown.output(text), signal);
  };

  await shown.step("Ask the service from c1: only cluster 1 answers", () =>
    request(5, "serve.demo.svc.cluster.local"),
  );

  await shown.step("Export it from both clusters", () =>
    each(async (cluster) => {
      kubectl(cluster, "apply -f samples/mcs-demo/export.yaml");
      shown.output(await applyFiles(clients[cluster], [join(demo, "export.yaml")]));
    }),
  );

  let vip = "";
  await shown.step("Each cluster now has a ServiceImport, made of both exports", async () => {
    await each(async (cluster) => {
      const found = await until(world, signal, async () => {
        const found = await clients[cluster].get(serviceImports, "demo/serve");
        return found?.spec.ips?.length && found.status?.clusters?.length === 2 ? found : undefined;
      });
      if (cluster === "c1") vip = found.spec.ips![0]!;
      kubectl(cluster, "-n demo get serviceimports");
      shown.output((await getTable(clients[cluster], serviceImports, "demo")).text);
    });
    kubectl("c1", "-n demo get serviceexports");
    shown.output((await getTable(clients.c1, serviceExports, "demo")).text);
  });

  await shown.step("Behind it: a derived Service, and an EndpointSlice from each cluster", async () => {
    await until(world, signal, async () => {
      const slices = await clients.c1.list(endpointSlices, {
        namespace: "demo",
        labelSelector: mcsServiceNameLabel,
      });
      return slices.items.filter((slice) => slice.endpoints.length > 0).length === 2 ? true : undefined;
    });
    kubectl("c1", "-n demo get services");
    shown.output((await getTable(clients.c1, services, "demo")).text);
    kubectl("c1", `-n demo get endpointslices -l ${mcsServiceNameLabel}=serve`);
    const labelSelector = `${mcsServiceNameLabel}=serve`;
    shown.output((await getTable(clients.c1, endpointSlices, "demo", { labelSelector })).text);
  });

  await shown.step("Ask the clusterset address from c1: both clusters answer", () => request(10, vip));

  shown.end();
}
