/** Asking a container once how it is. Source: kubernetes `pkg/probe`. */
import { request as httpRequest, type RequestOptions } from "node:http";
import { connect } from "node:net";
import type { Container, Probe } from "../../api/index.ts";
import { execInContainer } from "./exec.ts";
import type { RunningContainer } from "./runtime.ts";

/** Undefined when all is well, else what went wrong, in the kubelet's words. */
export type Verdict = string | undefined;

/** The number of a port that is given by number or by the name it has in the container's spec. */
export function portNumber(port: number | string, ports: NonNullable<Container["ports"]>): number {
  const named = ports.find(({ name }) => name === port)?.containerPort;
  return named ?? Number(port);
}

/** Runs one probe. `address` is the pod's. */
export async function runProbe(
  probe: Probe,
  spec: Container,
  instance: RunningContainer,
  address: string,
): Promise<Verdict> {
  const timeout = (probe.timeoutSeconds ?? 1) * 1000;
  if (probe.exec) {
    const { code, output } = await execInContainer(instance, probe.exec.command ?? [], timeout);
    if (code === 0) return undefined;
    return code === undefined ? `command timed out after ${probe.timeoutSeconds ?? 1}s` : output;
  }
  if (probe.httpGet) {
    const port = portNumber(probe.httpGet.port, spec.ports ?? []);
    return httpProbe({ ...probe.httpGet, port }, address, timeout);
  }
  if (probe.tcpSocket) {
    const port = portNumber(probe.tcpSocket.port, spec.ports ?? []);
    return tcpProbe(probe.tcpSocket.host || address, port, timeout);
  }
  if (probe.grpc) {
    const { grpcProbe } = await import("./grpc-probe.ts");
    return grpcProbe(address, probe.grpc.port, probe.grpc.service ?? "", timeout);
  }
  return "the probe has no handler";
}

interface HttpGet {
  host?: string;
  path?: string;
  port: number;
  scheme?: string;
  httpHeaders?: { name: string; value: string }[];
}

async function httpProbe(get: HttpGet, address: string, timeout: number): Promise<Verdict> {
  const secure = get.scheme?.toUpperCase() === "HTTPS";
  const path = get.path?.startsWith("/") ? get.path : `/${get.path ?? ""}`;
  const host = get.host || address;
  const url = `${secure ? "https" : "http"}://${host}:${get.port}${path}`;
  const headers: Record<string, string> = {
    "User-Agent": "kube-probe/1.36",
    Accept: "*/*",
    Connection: "close",
  };
  for (const { name, value } of get.httpHeaders ?? []) headers[name] = value;
  const send = secure ? (await import("node:https")).request : httpRequest;
  const options: RequestOptions & { rejectUnauthorized?: boolean } = {
    host,
    port: get.port,
    path,
    headers,
    agent: false,
    rejectUnauthorized: false,
  };
  return new Promise((resolve) => {
    const asked = send(options, (response) => {
      response.resume();
      clearTimeout(timer);
      asked.destroy();
      const code = response.statusCode ?? 0;
      resolve(code >= 200 && code < 400 ? undefined : `HTTP probe failed with statuscode: ${code}`);
    });
    const timer = setTimeout(
      () =>
        asked.destroy(
          new Error("context deadline exceeded (Client.Timeout exceeded while awaiting headers)"),
        ),
      timeout,
    );
    asked.on("error", (error: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      resolve(`Get "${url}": ${explain(error, host, get.port)}`);
    });
    asked.end();
  });
}

function tcpProbe(host: string, port: number, timeout: number): Promise<Verdict> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout });
    const end = (verdict: Verdict) => {
      socket.destroy();
      resolve(verdict);
    };
    socket.on("connect", () => end(undefined));
    socket.on("timeout", () => end(`dial tcp ${host}:${port}: i/o timeout`));
    socket.on("error", (error: NodeJS.ErrnoException) => end(explain(error, host, port)));
  });
}

function explain(error: NodeJS.ErrnoException, host: string, port: number): string {
  if (error.code === "ECONNREFUSED") return `dial tcp ${host}:${port}: connect: connection refused`;
  if (error.code === "EHOSTUNREACH") return `dial tcp ${host}:${port}: connect: no route to host`;
  if (error.code === "ECONNRESET") return "EOF";
  return error.message;
}
