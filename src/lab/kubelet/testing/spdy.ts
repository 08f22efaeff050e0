/** A client of the kubelet over SPDY/3.1, as kube-apiserver is one. */
import assert from "node:assert/strict";
import type { IncomingMessage } from "node:http";
import { request } from "node:https";
import type { Duplex } from "node:stream";
import { createWebSocketStream, WebSocket } from "ws";
import { SpdySession } from "../spdy/index.ts";
import type { Harness } from "./harness.ts";

/** What a request to upgrade was answered with; `session` when it was granted. */
export interface Upgraded {
  status: number;
  headers: IncomingMessage["headers"];
  text: string;
  session?: SpdySession;
}

const tlsOf = ({ pki }: Harness) => ({
  ca: pki.ca.cert,
  cert: pki.kubeletClient.cert,
  key: pki.kubeletClient.key,
});

export function upgradeToSpdy(h: Harness, path: string, protocols: string[]): Promise<Upgraded> {
  return new Promise((resolve, reject) => {
    const asked = request({
      host: h.node.address,
      port: 10250,
      path,
      method: "POST",
      agent: false,
      headers: {
        connection: "Upgrade",
        upgrade: "SPDY/3.1",
        ...(protocols.length > 0 && { "x-stream-protocol-version": protocols }),
      },
      ...tlsOf(h),
    });
    asked.on("upgrade", ({ statusCode, headers }, socket: Duplex, head: Buffer) => {
      if (head.length > 0) socket.unshift(head);
      const session = new SpdySession(socket, { role: "client" });
      resolve({ status: statusCode ?? 0, headers, text: "", session });
    });
    asked.on("response", (response) => {
      let text = "";
      response.on("data", (chunk) => {
        text += chunk;
      });
      response.on("end", () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text }),
      );
    });
    asked.on("error", reject);
    asked.end();
  });
}

/** SPDY in a WebSocket, as kubectl does it first. */
export function tunnelSpdy(h: Harness, path: string): Promise<SpdySession> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`wss://${h.node.address}:10250${path}`, {
      ...tlsOf(h),
      headers: { "sec-websocket-protocol": "SPDY/3.1+portforward.k8s.io" },
    });
    socket.on("upgrade", ({ headers }) => {
      assert.equal(headers["sec-websocket-protocol"], "SPDY/3.1+portforward.k8s.io");
      // The client of `ws` would have none of a name with a slash.
      delete headers["sec-websocket-protocol"];
    });
    socket.on("error", reject);
    socket.on("open", () => resolve(new SpdySession(createWebSocketStream(socket), { role: "client" })));
  });
}
