/**
 * Asks the application what the kubelet would have asked: with strict mTLS it could not ask itself, so injection sends
 * its probes here. The connection goes to the pod's own address, as the kubelet's would, from 127.0.0.6, which
 * redirection lets through. Source: istio `pilot/cmd/pilot-agent/status/server.go`.
 */
import { request as plain } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { request as secure } from "node:https";
import { connect } from "node:net";
import type { AppProbe } from "./environment.ts";
import { inboundSource } from "./redirection.ts";

export interface ProbeResult {
  status: number;
  text: string;
}

/** 200, or what the application answered; 500 with a reason where it did not. Never throws. */
export async function askApplication(
  probe: AppProbe,
  address: string,
  headers: Readonly<Record<string, string | string[] | undefined>>,
): Promise<ProbeResult> {
  const timeout = (probe.timeoutSeconds ?? 1) * 1000;
  try {
    if (probe.httpGet) return await overHttp(probe.httpGet, address, headers, timeout);
    if (probe.tcpSocket) return await overTcp(probe.tcpSocket.port, address, timeout);
    if (probe.grpc) return await overGrpc(probe.grpc, address, timeout);
    return { status: 500, text: "the probe asks nothing\n" };
  } catch (error) {
    return { status: 500, text: `${error instanceof Error ? error.message : String(error)}\n` };
  }
}

function overHttp(
  get: NonNullable<AppProbe["httpGet"]>,
  address: string,
  incoming: Readonly<Record<string, string | string[] | undefined>>,
  timeout: number,
): Promise<ProbeResult> {
  const wanted = Object.fromEntries(
    (get.httpHeaders ?? []).map(({ name, value }) => [name.toLowerCase(), value]),
  );
  const headers: Record<string, string> = {
    "user-agent": String(incoming["user-agent"] ?? "kube-probe/1"),
    accept: "*/*",
    connection: "close",
    ...wanted,
  };
  headers.host ??= `${address}:${get.port}`;
  const options = {
    host: address,
    port: get.port,
    path: (get.path ?? "/").startsWith("/") ? (get.path ?? "/") : `/${get.path}`,
    headers,
    localAddress: inboundSource,
    agent: false,
    timeout,
    // The kubelet does not check either.
    rejectUnauthorized: false,
  } as const;
  return new Promise((resolve, reject) => {
    const asked = (get.scheme === "HTTPS" ? secure : plain)(options, (response) => {
      response.resume();
      response.on("end", () => resolve({ status: response.statusCode ?? 500, text: "" }));
      response.on("error", reject);
    });
    asked.on("timeout", () => asked.destroy(new Error(`no answer within ${timeout} ms`)));
    asked.on("error", reject);
    asked.end();
  });
}

function overTcp(port: number, address: string, timeout: number): Promise<ProbeResult> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: address, port, localAddress: inboundSource, timeout });
    socket.on("connect", () => {
      socket.destroy();
      resolve({ status: 200, text: "" });
    });
    socket.on("timeout", () => socket.destroy(new Error(`no connection within ${timeout} ms`)));
    socket.on("error", reject);
  });
}

/** `grpc.health.v1.Health/Check`: HealthCheckRequest has `service = 1`, HealthCheckResponse `status = 1` (1: SERVING). */
function overGrpc(
  { port, service = "" }: NonNullable<AppProbe["grpc"]>,
  address: string,
  timeout: number,
): Promise<ProbeResult> {
  const name = Buffer.from(service);
  if (name.length > 127) throw new Error("the name of the service is too long");
  const message = service === "" ? Buffer.alloc(0) : Buffer.concat([Buffer.of(0x0a, name.length), name]);
  const frame = Buffer.concat([Buffer.of(0, 0, 0, 0, message.length), message]);
  return new Promise((resolve, reject) => {
    const session = connectHttp2(`http://${address}:${port}`, {
      createConnection: () => connect({ host: address, port, localAddress: inboundSource }),
    });
    const finish = (done: () => void) => {
      session.destroy();
      done();
    };
    session.on("error", (error) => finish(() => reject(error)));
    const stream = session.request({
      ":method": "POST",
      ":path": "/grpc.health.v1.Health/Check",
      "content-type": "application/grpc",
      te: "trailers",
    });
    const chunks: Buffer[] = [];
    let status: string | undefined;
    stream.setTimeout(timeout, () => finish(() => reject(new Error(`no answer within ${timeout} ms`))));
    stream.on("response", (headers) => {
      status = headers["grpc-status"] as string | undefined;
    });
    stream.on("trailers", (trailers) => {
      status = trailers["grpc-status"] as string | undefined;
    });
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("error", (error) => finish(() => reject(error)));
    stream.on("end", () =>
      finish(() => {
        const body = Buffer.concat(chunks).subarray(5);
        const serving = status === "0" && body.length >= 2 && body[0] === 0x08 && body[1] === 1;
        if (serving) resolve({ status: 200, text: "" });
        else resolve({ status: 500, text: `gRPC status ${status ?? "none"}, not serving\n` });
      }),
    );
    stream.end(frame);
  });
}
