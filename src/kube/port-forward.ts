/**
 * HTTP requests to a pod's port through the API server, as `kubectl port-forward` reaches it: `pods/NAME/portforward`
 * over WebSocket (subprotocol `v4.channel.k8s.io`: channel 0 is data, 1 is the error; each begins with the port).
 */
import { request as httpRequest } from "node:http";
import { Duplex } from "node:stream";
import { WebSocket } from "ws";
import type { Credentials } from "./https.ts";

export interface PodAnswer {
  status: number;
  body: string;
}

/** GETs `path` from a port of a pod. Rejects when the pod cannot be reached; `timeout` in ms, 10 s unless told. */
export async function getFromPod(
  credentials: Credentials,
  pod: { namespace: string; name: string; port: number },
  path: string,
  timeout = 10_000,
): Promise<PodAnswer> {
  const connection = await connectToPod(credentials, pod, timeout);
  try {
    return await new Promise<PodAnswer>((resolve, reject) => {
      const outgoing = httpRequest(
        {
          path,
          headers: { host: "localhost", connection: "close" },
          createConnection: () => connection,
          timeout,
        },
        (incoming) => {
          const chunks: Buffer[] = [];
          incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
          incoming.on("error", reject);
          incoming.on("end", () =>
            resolve({ status: incoming.statusCode ?? 0, body: Buffer.concat(chunks).toString("utf8") }),
          );
        },
      );
      outgoing.on("timeout", () => outgoing.destroy(new Error(`no answer within ${timeout / 1000} s`)));
      outgoing.on("error", reject);
      outgoing.end();
    });
  } finally {
    connection.destroy();
  }
}

const dataChannel = 0;
const errorChannel = 1;

/** A connection to the port; it ends with the pod's. */
function connectToPod(
  credentials: Credentials,
  { namespace, name, port }: { namespace: string; name: string; port: number },
  timeout: number,
): Promise<Duplex> {
  const base = credentials.server.replace(/\/$/, "").replace(/^http/, "ws");
  const { token, basic } = credentials;
  const bearer = typeof token === "function" ? token() : token;
  const authorization = bearer
    ? `Bearer ${bearer}`
    : basic && `Basic ${Buffer.from(`${basic.username}:${basic.password}`).toString("base64")}`;
  const socket = new WebSocket(
    `${base}/api/v1/namespaces/${namespace}/pods/${name}/portforward?ports=${port}`,
    ["v4.channel.k8s.io"],
    {
      ca: credentials.ca as Buffer | undefined,
      cert: credentials.cert as Buffer | undefined,
      key: credentials.key as Buffer | undefined,
      rejectUnauthorized: !credentials.insecure,
      ...(credentials.tlsServerName && { servername: credentials.tlsServerName }),
      ...(authorization && { headers: { authorization } }),
      handshakeTimeout: timeout,
    },
  );
  // The first message of each channel says which port it is for.
  const begun = new Set<number>();
  const connection = new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, done) {
      socket.send(Buffer.concat([Buffer.from([dataChannel]), chunk]), done);
    },
    destroy(error, done) {
      socket.close();
      done(error);
    },
  });
  socket.on("message", (message: Buffer) => {
    const channel = message[0] ?? 0;
    const data = message.subarray(1);
    if (!begun.has(channel)) begun.add(channel);
    else if (channel === errorChannel && data.length > 0)
      connection.destroy(new Error(data.toString("utf8")));
    else if (channel === dataChannel) connection.push(data);
  });
  socket.on("close", () => connection.push(null));
  return new Promise((resolve, reject) => {
    socket.on("error", (error) => {
      reject(error);
      connection.destroy(error);
    });
    socket.once("unexpected-response", (_request, response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () =>
        reject(new Error(reasonOf(response.statusCode, Buffer.concat(chunks).toString()))),
      );
    });
    socket.once("open", () => resolve(connection));
  });
}

function reasonOf(code: number | undefined, body: string): string {
  try {
    return (JSON.parse(body) as { message?: string }).message ?? body;
  } catch {
    return `HTTP ${code}: ${body.slice(0, 200)}`;
  }
}
