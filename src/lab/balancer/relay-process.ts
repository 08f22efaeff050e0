/**
 * The process in the lab's network that carries connections from 127.0.0.1 to load balancers' addresses; see
 * `relays.ts`. It holds nothing else: when it ends, only what it carried breaks.
 */
import { connect, type Socket } from "node:net";
import { joinSockets } from "../sockets.ts";

/** Comes with the connection. */
export interface RelayTarget {
  address: string;
  port: number;
}

process.on("disconnect", () => process.exit());
process.on("message", (target: RelayTarget, client: Socket | undefined) => {
  if (client) carry(client, target);
});
process.send?.("ready");

/**
 * Each direction ends by itself, and of who is gone the other gets the last words; a connection that cannot be made is
 * reset, as a port that nobody listens on.
 */
function carry(client: Socket, { address, port }: RelayTarget): void {
  client.allowHalfOpen = true;
  const server = connect({ host: address, port, allowHalfOpen: true, noDelay: true });
  client.setNoDelay(true);
  const refused = () => client.resetAndDestroy();
  server.once("error", refused);
  server.once("connect", () => server.off("error", refused));
  joinSockets(client, server);
}
