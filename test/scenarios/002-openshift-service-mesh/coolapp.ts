/** What the scenarios of seed 002 share: a lab with the seed's mesh, its applications, and calls from this machine. */
import assert from "node:assert/strict";
import { Agent, type IncomingHttpHeaders, request } from "node:http";
import { join } from "node:path";
import { eventually } from "../../support/eventually.ts";
import { type Lab, samples, startLab, tableRows } from "../../support/lab.ts";

export const coolapp = join(samples, "coolapp");
export const cluster = "c1";

/** Which proxy the lab runs: the embedded one unless WEFT_PROXY says `envoy`. */
export const proxy = process.env.WEFT_PROXY || "embedded";

/** A lab of one cluster. */
export function startMeshLab(): Promise<Lab> {
  return startLab([cluster], ...(proxy === "embedded" ? [] : ["--proxy", proxy]));
}

export const file = (path: string) => join(coolapp, path);

/** kubectl in the namespace of the applications. */
export const inCoolapp = (lab: Lab, ...args: string[]) => lab.kubectl(cluster, "-n", "coolapp", ...args);

/** The mesh, its member, and what the member runs, all ready; for tests that begin after that. */
export async function deployCoolapp(lab: Lab): Promise<void> {
  await lab.kubectl(cluster, "create", "ns", "istio-system");
  await lab.kubectl(cluster, "create", "ns", "coolapp");
  const inSystem = (...args: string[]) => lab.kubectl(cluster, "-n", "istio-system", ...args);
  await inSystem("apply", "-f", file("service-mesh.yaml"), "-f", file("service-mesh-roll.yaml"));
  await memberReady(lab);
  for (const app of ["catalog", "partner", "gateway"]) {
    const kubernetes = file(`${app}/kubernetes`);
    const template = join(kubernetes, `${app}-service-template.yml`);
    await inCoolapp(lab, "create", "-f", template, "-f", join(kubernetes, "Service.yml"));
  }
  await inCoolapp(lab, "apply", "-f", file("service-mesh-gw.yaml"));
  for (const deployment of ["catalog-v1", "partner-v1", "gateway"]) await rolledOut(lab, deployment);
}

/** Pods of coolapp get sidecars from when this returns. */
export async function memberReady(lab: Lab): Promise<void> {
  await lab.kubectl(
    cluster,
    ...["-n", "istio-system", "wait", "--for=condition=Ready", "--timeout=90s"],
    ...["smcp/service-mesh-installation", "smmr/default"],
  );
}

export async function rolledOut(lab: Lab, deployment: string): Promise<void> {
  await inCoolapp(lab, "rollout", "status", "deployment", deployment, "--timeout=90s");
}

/** `kubectl get pods` of the applications, by name. */
export async function podRows(lab: Lab, ...args: string[]): Promise<Record<string, string>[]> {
  return tableRows(await inCoolapp(lab, "get", "pods", ...args));
}

/** The pod of a Deployment, by what its name begins with. */
export async function podOf(lab: Lab, deployment: string): Promise<string> {
  const names = (await podRows(lab))
    .map((row) => row.NAME!)
    .filter((name) => name.startsWith(`${deployment}-`));
  assert.equal(names.length, 1, `pods of ${deployment}: ${names.join(", ")}`);
  return names[0]!;
}

/** Where this machine reaches port 80 of the ingress gateway. */
export async function gatewayUrl(lab: Lab): Promise<string> {
  return eventually("the gateway's URL", async () => {
    const balancers = await lab.balancers();
    return balancers.find(({ name, port }) => name === "istio-ingressgateway" && port === 80)?.url;
  });
}

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
}

const agent = new Agent({ keepAlive: true, maxSockets: 8 });

/** One request; kept connections are used again unless told. Rejects when there is no answer. */
export function call(
  url: string,
  {
    headers = {},
    method = "GET",
    fresh = false,
  }: { headers?: Record<string, string>; method?: string; fresh?: boolean } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request(
      url,
      { method, headers, agent: fresh ? false : agent, timeout: 15_000 },
      (response) => {
        let body = "";
        response.setEncoding("utf8");
        response.on("data", (chunk: string) => {
          body += chunk;
        });
        response.on("end", () =>
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body }),
        );
        response.on("error", reject);
      },
    );
    asked.on("timeout", () => asked.destroy(new Error(`no answer from ${url} in time`)));
    asked.on("error", reject);
    asked.end();
  });
}

/** Calls until the answer is as wanted, and gives it; fails with the last one. */
export async function callUntil(
  what: string,
  url: string,
  wanted: (answer: Answer) => boolean,
): Promise<Answer> {
  let last: Answer | undefined;
  try {
    return await eventually(what, async () => {
      last = await call(url);
      return wanted(last) && last;
    });
  } catch (error) {
    throw new Error(`${(error as Error).message}; the last answer: ${last?.status} ${last?.body}`, {
      cause: error,
    });
  }
}

/** `count` requests, eight at a time. */
export async function callMany(url: string, count: number): Promise<Answer[]> {
  const answers: Answer[] = [];
  let left = count;
  const caller = async () => {
    while (left-- > 0) answers.push(await call(url));
  };
  await Promise.all(Array.from({ length: 8 }, caller));
  return answers;
}

/** `gateway => partner => catalog v1 from '6d6b478456-9vsm2': 1` in its parts; undefined for any other body. */
export function readAnswer(body: string): { version: string; pod: string; count: number } | undefined {
  const found = /^gateway => partner => catalog (v\d) from '([a-z0-9]+-[a-z0-9]+)': (\d+)\n$/.exec(body);
  return found ? { version: found[1]!, pod: found[2]!, count: Number(found[3]) } : undefined;
}

/** The version that answered; fails where none did. */
export function versionOf(answer: Answer): string {
  const read = readAnswer(answer.body);
  assert.ok(read, `${answer.status} ${answer.body}`);
  return read.version;
}
