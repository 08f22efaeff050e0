/**
 * `npm start -- coolapp`: seed 002 in the lab, a step at a time: a mesh, its member, three applications with a proxy
 * beside each, and rules that say which version is called. Each step says what it does, the command that does it, and
 * what came of it.
 */
import { Agent, request } from "node:http";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  deployments,
  pods,
  serviceMeshControlPlanes,
  serviceMeshMemberRolls,
  virtualServices,
} from "../api/index.ts";
import { KubeClient, loadKubeconfig, transportFor } from "../kube/index.ts";
import { realWorld } from "../world/index.ts";
import { applyFiles, applyObject, getTable, rolledOut } from "./kubectl.ts";
import { Shown, type TourOptions, until } from "./tour-shown.ts";

const folder = fileURLToPath(new URL("../../samples/coolapp", import.meta.url));
const cluster = "c1";

export interface CoolappOptions extends TourOptions {
  /** Where this machine reaches port 80 of the ingress gateway of the mesh in istio-system; undefined: not yet. */
  gatewayUrl(): Promise<string | undefined>;
}

/** Runs the tour to its end and gives the gateway's URL; throws what stopped it. */
export async function coolapp(options: CoolappOptions): Promise<string> {
  const world = realWorld();
  const shown = new Shown(world, options.print);
  const { signal } = options;

  await shown.step("Start a cluster", async () => {
    shown.command(`weft up --clusters ${cluster}`);
    await options.up([cluster], (text) => shown.output(`${text}\n`), signal);
  });
  const context = options.context(cluster);
  const credentials = loadKubeconfig(options.kubeconfig).credentials(context);
  const client = new KubeClient({ transport: transportFor(credentials), world, cluster });
  const kubectl = (namespace: string, rest: string) =>
    shown.command(`kubectl --context ${context} ${namespace && `-n ${namespace} `}${rest}`);
  const apply = async (namespace: string, ...files: string[]) => {
    kubectl(namespace, `apply ${files.map((file) => `-f samples/coolapp/${file}`).join(" ")}`);
    shown.output(
      await applyFiles(
        client,
        files.map((file) => join(folder, file)),
        namespace,
      ),
    );
  };
  const createNamespace = async (name: string) => {
    kubectl("", `create ns ${name}`);
    const namespace = { apiVersion: "v1", kind: "Namespace", metadata: { name } };
    shown.output(await applyObject(client, namespace));
  };

  await shown.step("A mesh: its control plane and its gateways, in a namespace of their own", async () => {
    await createNamespace("istio-system");
    await apply("istio-system", "service-mesh.yaml");
    await until(world, signal, async () => {
      const mesh = await client.get(serviceMeshControlPlanes, "istio-system/service-mesh-installation");
      return (
        mesh?.status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True") ||
        undefined
      );
    });
    kubectl("istio-system", "get smcp");
    shown.output((await getTable(client, serviceMeshControlPlanes, "istio-system")).text);
    kubectl("istio-system", "get pods");
    shown.output((await getTable(client, pods, "istio-system")).text);
  });

  await shown.step("Who is in it: the namespace coolapp", async () => {
    await createNamespace("coolapp");
    await apply("istio-system", "service-mesh-roll.yaml");
    await until(world, signal, async () => {
      const roll = await client.get(serviceMeshMemberRolls, "istio-system/default");
      return roll?.status?.configuredMembers?.includes("coolapp") || undefined;
    });
    kubectl("istio-system", "get smmr");
    shown.output((await getTable(client, serviceMeshMemberRolls, "istio-system")).text);
  });

  const deployed = async (...names: string[]) => {
    for (const name of names) await rolledOut(client, `coolapp/${name}`, signal);
    kubectl("coolapp", "get pods");
    shown.output((await getTable(client, pods, "coolapp")).text);
  };
  await shown.step(
    "Three applications: gateway calls partner, partner calls catalog. Each gets a proxy",
    async () => {
      await apply(
        "coolapp",
        ...["catalog", "partner", "gateway"].flatMap((app) => [
          `${app}/kubernetes/${app}-service-template.yml`,
          `${app}/kubernetes/Service.yml`,
        ]),
      );
      await deployed("catalog-v1", "partner-v1", "gateway");
    },
  );

  let url = "";
  const curl = async (times: number) => {
    for (let i = 0; i < times; i++) {
      shown.command("curl $GATEWAY_URL");
      const { status, text } = await ask(url);
      shown.output(status === 200 ? text : `HTTP ${status}\n${text}`);
    }
  };
  /** The rules have reached the proxies when an answer is as they say. */
  const answered = (wanted: (answer: { status: number; text: string }) => boolean) =>
    until(world, signal, async () => {
      const answer = await ask(url).catch(() => undefined);
      return answer && wanted(answer) ? answer : undefined;
    });

  await shown.step("Let requests in: a Gateway and a VirtualService", async () => {
    await apply("coolapp", "service-mesh-gw.yaml");
    url = await until(world, signal, options.gatewayUrl);
    shown.command(`export GATEWAY_URL=${url}     # weft status shows it`);
    // On a path that has no route, so that catalog is not asked: the gateway has its routes when it says 404.
    await until(world, signal, async () => {
      const { status } = await ask(`${url}/none`).catch(() => ({ status: 0 }));
      return status === 404 || undefined;
    });
    await curl(3);
  });

  await shown.step("A second version of catalog, behind the same service: they take turns", async () => {
    await apply("coolapp", "catalog-v2/kubernetes/catalog-service-template.yml");
    await deployed("catalog-v2");
    await answered(({ text }) => text.includes("catalog v2"));
    await curl(4);
  });

  await shown.step(
    "A rule: all to version-v2. Nobody has said what version-v2 is, so it is an error",
    async () => {
      await apply("coolapp", "istiofiles/virtual-service-catalog-v2.yml");
      await answered(({ status }) => status === 503);
      await curl(1);
      const said = await until(world, signal, async () => {
        const { status } = (await client.get(virtualServices, "coolapp/catalog")) ?? {};
        return status?.conditions?.find(({ message }) => message?.includes("version-v2"));
      });
      kubectl("coolapp", "get virtualservice catalog -o jsonpath={.status.conditions}");
      shown.output(`${said.type}=${said.status} ${said.reason ?? ""}: ${said.message}\n`);
    },
  );

  await shown.step("A DestinationRule says it, and all goes to v2", async () => {
    await apply("coolapp", "istiofiles/destination-rule-catalog-v1-v2.yml");
    await answered(({ status }) => status === 200);
    await curl(2);
  });

  await shown.step("The rule replaced: all to v1", async () => {
    await apply("coolapp", "istiofiles/virtual-service-catalog-v1.yml");
    await answered(({ text }) => text.includes("catalog v1"));
    await curl(2);
  });

  await shown.step("And 70 to v1, 30 to v2", async () => {
    await apply("coolapp", "istiofiles/virtual-service-catalog-v1_and_v2_70_30.yml");
    await answered(({ text }) => text.includes("catalog v2"));
    const seen: Record<string, number> = { v1: 0, v2: 0 };
    shown.command(
      "for i in $(seq 1000); do curl -s $GATEWAY_URL; done | grep -o 'catalog v.' | sort | uniq -c",
    );
    for (let left = 1000; left > 0; left--) {
      signal.throwIfAborted();
      const [, version = "?"] = /catalog (v\d)/.exec((await ask(url)).text) ?? [];
      seen[version] = (seen[version] ?? 0) + 1;
    }
    for (const [version, count] of Object.entries(seen)) {
      shown.output(`${String(count).padStart(7)} catalog ${version}\n`);
    }
    kubectl("coolapp", "get deployments");
    shown.output((await getTable(client, deployments, "coolapp")).text);
  });

  shown.end();
  return url;
}

const agent = new Agent({ keepAlive: true });

function ask(url: string): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const asked = request(url, { agent, timeout: 15_000 }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        text += chunk;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
      response.on("error", reject);
    });
    asked.on("timeout", () => asked.destroy(new Error("no answer in time")));
    asked.on("error", reject);
    asked.end();
  });
}
