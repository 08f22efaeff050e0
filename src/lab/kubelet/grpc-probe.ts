/**
 * The health check of gRPC (`grpc.health.v1.Health/Check`) over plain HTTP/2. Two fields of protobuf are no reason for
 * a gRPC library. Source: grpc `doc/health-checking.md`, `doc/PROTOCOL-HTTP2.md`.
 */
import { connect } from "node:http2";
import type { Verdict } from "./probe-actions.ts";

const statusNames = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

/** Undefined when the service is SERVING. `timeout` in milliseconds. */
export function grpcProbe(address: string, port: number, service: string, timeout: number): Promise<Verdict> {
  return new Promise((resolve) => {
    const session = connect(`http://${address}:${port}`);
    const end = (verdict: Verdict) => {
      clearTimeout(timer);
      session.destroy();
      resolve(verdict);
    };
    const timer = setTimeout(
      () => end(`timeout: failed to connect service "${address}:${port}" within ${timeout / 1000}s`),
      timeout,
    );
    session.on("error", (error) => end(`failed to connect service "${address}:${port}": ${error.message}`));
    const stream = session.request({
      ":method": "POST",
      ":path": "/grpc.health.v1.Health/Check",
      "content-type": "application/grpc",
      te: "trailers",
      "user-agent": "kube-probe/1.36",
    });
    stream.on("error", (error) => end(error.message));
    const chunks: Buffer[] = [];
    let grpcStatus: string | undefined;
    const note = (headers: Record<string, unknown>) => {
      if (headers["grpc-status"] !== undefined) grpcStatus = String(headers["grpc-status"]);
    };
    stream.on("response", note);
    stream.on("trailers", note);
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("end", () => {
      if (grpcStatus !== "0") return end(`the health rpc failed with gRPC status ${grpcStatus ?? "none"}`);
      const status = servingStatus(Buffer.concat(chunks));
      end(status === 1 ? undefined : `service unhealthy (responded with "${statusNames[status] ?? status}")`);
    });
    stream.end(message(service));
  });
}

/** HealthCheckRequest { string service = 1 }, with the five bytes that gRPC puts before a message. */
export function message(service: string): Buffer {
  const name = Buffer.from(service);
  // Names of services are short: their length is one byte, or two.
  const length = name.length < 128 ? [name.length] : [(name.length & 0x7f) | 0x80, name.length >> 7];
  const body = name.length === 0 ? Buffer.alloc(0) : Buffer.concat([Buffer.from([0x0a, ...length]), name]);
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(body.length, 1);
  return Buffer.concat([prefix, body]);
}

/** HealthCheckResponse { ServingStatus status = 1 }; an empty message is UNKNOWN (0). */
function servingStatus(response: Buffer): number {
  return response[5] === 0x08 ? (response[6] ?? 0) : 0;
}
