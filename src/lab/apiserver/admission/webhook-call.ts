/**
 * Asking a webhook over HTTPS, with the words of Go's HTTP client and of client-go for what goes wrong. Source:
 * apiserver `pkg/util/webhook/client.go`, `pkg/util/proxy/proxy.go`; client-go `rest/request.go`.
 */
import type { IncomingMessage } from "node:http";
import { Agent, request as httpsRequest } from "node:https";
import { isIP } from "node:net";
import type { Core } from "../core.ts";
import { jsonProblem } from "../json.ts";
import { asRecord } from "../object.ts";
import type { ClientConfig } from "./webhook-rules.ts";

interface Target {
  url: URL;
  host: string;
  port: number;
  /** The name that the certificate has to be for. */
  serverName: string;
}

/** The largest answer that is read, in bytes. */
const answerLimit = 3 * 1024 * 1024;

const agents = new WeakMap<Core, Agent>();

/** Connections are kept between requests, as kube-apiserver keeps them. */
function agentOf(core: Core): Agent {
  let agent = agents.get(core);
  if (!agent) {
    agent = new Agent({ keepAlive: true, maxFreeSockets: 8, timeout: 30_000 });
    agents.set(core, agent);
  }
  return agent;
}

/** Closes the connections to webhooks. */
export function closeWebhooks(core: Core): void {
  agents.get(core)?.destroy();
}

/**
 * Posts an AdmissionReview and returns the JSON that comes back. Throws an Error whose message is what kube-apiserver
 * says after `failed to call webhook: `.
 */
export async function post(
  core: Core,
  config: ClientConfig,
  body: string,
  timeoutSeconds: number,
): Promise<unknown> {
  const { service } = config;
  const path = service && `${service.path.startsWith("/") ? "" : "/"}${service.path}`;
  // Go's client shows a service's port even where it is the scheme's own.
  const origin = service && `https://${service.name}.${service.namespace}.svc:${service.port}`;
  const url = new URL(service ? `${origin}${path}` : config.url!);
  url.searchParams.set("timeout", `${timeoutSeconds}s`);
  const shown = origin ? `${origin}${url.pathname}${url.search}` : url.href;
  const failed = (why: string) => new Error(`Post ${JSON.stringify(shown)}: ${why}`);
  const abort = new AbortController();
  const timer = core.world.after(timeoutSeconds * 1000, () => abort.abort());
  let target: Target;
  try {
    target = service ? resolve(core, url, service) : direct(url);
  } catch (error) {
    timer.cancel();
    throw failed((error as Error).message);
  }
  try {
    const answer = await exchange(core, target, config.ca, body, abort.signal);
    return readAnswer(answer.code, answer.text);
  } catch (error) {
    if (error instanceof Refusal) throw error;
    if (abort.signal.aborted) throw failed("context deadline exceeded");
    throw failed(inGo(error as NodeJS.ErrnoException, target));
  } finally {
    timer.cancel();
  }
}

/** An answer that is none: its message says all. */
class Refusal extends Error {}

function direct(url: URL): Target {
  const host = url.hostname.replace(/^\[|\]$/g, "");
  return { url, host, port: Number(url.port || 443), serverName: host };
}

/** A ready endpoint of the service: nothing translates ClusterIPs where the API server runs. */
function resolve(core: Core, url: URL, service: NonNullable<ClientConfig["service"]>): Target {
  const { namespace, name, port } = service;
  const found = core.store.bucket("/services").objects.get(`${namespace}/${name}`);
  if (!found) throw new Error(`service ${JSON.stringify(name)} not found`);
  const spec = asRecord(found.spec) ?? {};
  if (spec.type === "ExternalName") throw new Error('unsupported service type "ExternalName"');
  const ports = (spec.ports ?? []) as { name?: string; port: number }[];
  const wanted = ports.find((one) => one.port === port);
  if (!wanted) throw new Error(`no service port ${port} found for service ${JSON.stringify(name)}`);
  const open: { host: string; port: number }[] = [];
  const slices = core.store.bucket("discovery.k8s.io/endpointslices");
  for (const key of slices.keys(namespace)) {
    const slice = slices.objects.get(key)!;
    if (slice.metadata.labels?.["kubernetes.io/service-name"] !== name) continue;
    const at = ((slice.ports ?? []) as { name?: string; port?: number }[]).find(
      (one) => (one.name ?? "") === (wanted.name ?? ""),
    )?.port;
    if (at === undefined) continue;
    for (const endpoint of (slice.endpoints ?? []) as {
      addresses: string[];
      conditions?: { ready?: boolean };
    }[]) {
      if (endpoint.conditions?.ready !== false) open.push({ host: endpoint.addresses[0]!, port: at });
    }
  }
  const chosen = open[Math.floor(core.world.random() * open.length)];
  if (!chosen) throw new Error(`no endpoints available for service ${JSON.stringify(name)}`);
  return { url, ...chosen, serverName: `${name}.${namespace}.svc` };
}

async function exchange(
  core: Core,
  target: Target,
  ca: string | undefined,
  body: string,
  signal: AbortSignal,
): Promise<{ code: number; text: string }> {
  for (;;) {
    const request = httpsRequest({
      method: "POST",
      host: target.host,
      port: target.port,
      ...(isIP(target.serverName) === 0 && { servername: target.serverName }),
      path: `${target.url.pathname}${target.url.search}`,
      headers: {
        host: target.url.host,
        "content-type": "application/json",
        "content-length": Buffer.byteLength(body),
        accept: "application/json, */*",
        "user-agent": "kube-apiserver-admission",
      },
      ...(ca && { ca }),
      agent: agentOf(core),
      signal,
    });
    try {
      const response = await new Promise<IncomingMessage>((resolve, reject) => {
        request.on("response", resolve).on("error", reject);
        request.end(body);
      });
      return { code: response.statusCode!, text: await textOf(response) };
    } catch (error) {
      // A connection that was kept, and that the other side has given up meanwhile: nobody has read the request.
      const isStale = request.reusedSocket && (error as NodeJS.ErrnoException).code === "ECONNRESET";
      if (!isStale || signal.aborted) throw error;
    }
  }
}

async function textOf(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > answerLimit) {
      response.destroy();
      throw new Refusal(`webhook response is larger than the limit of ${answerLimit} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

const statusTexts: Record<number, string> = {
  400: "the server rejected our request for an unknown reason",
  401: "the server has asked for the client to provide credentials",
  403: "",
  404: "the server could not find the requested resource",
  405: "the server does not allow this method on the requested resource",
  406: "the server was unable to respond with a content type that the client supports",
  409: "the server reported a conflict",
  410: "the resource is gone",
  413: "the request is too large",
  415: "the server responded with the status code 415 but did not return more information",
  422: "the server rejected our request due to an error in our request",
  429: "the server has received too many requests and has asked us to try again later",
  503: "the server is currently unable to handle the request",
  504: "the server was unable to return a response in the time allotted, but may still be processing the request",
};

function readAnswer(code: number, text: string): unknown {
  if (code < 200 || code > 206) {
    const said = text.trim() || "unknown";
    const known =
      code === 403
        ? said
        : (statusTexts[code] ??
          (code >= 500
            ? `an error on the server (${JSON.stringify(said)}) has prevented the request from succeeding`
            : `the server responded with the status code ${code} but did not return more information`));
    throw new Refusal(known);
  }
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new Refusal(
      `couldn't get version/kind; json parse error: ${jsonProblem(text) ?? (error as Error).message}`,
    );
  }
}

const syscalls: Record<string, string> = {
  ECONNREFUSED: "connect: connection refused",
  EHOSTUNREACH: "connect: no route to host",
  ENETUNREACH: "connect: network is unreachable",
  ETIMEDOUT: "i/o timeout",
};

const unverified: Record<string, string> = {
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "certificate signed by unknown authority",
  SELF_SIGNED_CERT_IN_CHAIN: "certificate signed by unknown authority",
  DEPTH_ZERO_SELF_SIGNED_CERT: "certificate signed by unknown authority",
  UNABLE_TO_GET_ISSUER_CERT: "certificate signed by unknown authority",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "certificate signed by unknown authority",
  CERT_SIGNATURE_FAILURE: "certificate signed by unknown authority",
  CERT_HAS_EXPIRED: "certificate has expired or is not yet valid",
  CERT_NOT_YET_VALID: "certificate has expired or is not yet valid",
};

/** What Go would say of the same failure. */
function inGo(error: NodeJS.ErrnoException & { cert?: { subjectaltname?: string } }, target: Target): string {
  const code = error.code ?? "";
  const at = `${target.host}:${target.port}`;
  if (syscalls[code]) return `dial tcp ${at}: ${syscalls[code]}`;
  if (code === "ENOTFOUND" || code === "EAI_AGAIN") return `dial tcp: lookup ${target.host}: no such host`;
  if (unverified[code]) return `tls: failed to verify certificate: x509: ${unverified[code]}`;
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") {
    const names = (error.cert?.subjectaltname ?? "")
      .split(", ")
      .map((name) => name.replace(/^(?:DNS|IP Address):/, ""))
      .filter((name) => name !== "");
    const says =
      names.length === 0
        ? "certificate is not valid for any names, but wanted to match"
        : `certificate is valid for ${names.join(", ")}, not`;
    return `tls: failed to verify certificate: x509: ${says} ${target.serverName}`;
  }
  if (code === "EPROTO" && /wrong version number|http request/i.test(error.message))
    return "http: server gave HTTP response to HTTPS client";
  if (code === "ECONNRESET") return "EOF";
  return error.message;
}
