/** Who decides that a request is traced: whoever came first. We carry W3C's and B3's headers on, and begin none ourselves. */
import type { World } from "../../world/index.ts";
import type { Exchange } from "./exchange.ts";
import type { Headers } from "./headers.ts";

/**
 * Marks in x-request-id whether the request is sampled (Envoy's UUID extension: the 15th character is 4 for no, 9 for
 * sampled, a for forced), unless it came with a mark: so the next proxy decides the same.
 */
export function decideTrace(
  exchange: Exchange,
  sampling: { client: number; random: number; overall: number },
  world: World,
): void {
  const { headers } = exchange.head;
  const id = headers.get("x-request-id");
  if (id === undefined || id.length !== 36 || id[14] !== "4") return;
  let mark = "4";
  if (headers.has("x-envoy-force-trace")) mark = "a";
  else if (headers.has("x-client-trace-id") && world.random() < sampling.client) mark = "b";
  else if (world.random() < sampling.random * sampling.overall) mark = "9";
  if (mark !== "4") headers.set("x-request-id", `${id.slice(0, 14)}${mark}${id.slice(15)}`);
}

const OPERATION = "x-envoy-decorator-operation";

/**
 * The name of the operation goes along with the request at its client's side; at its server's side it is taken off, and
 * goes back with the response where the client's side named none. Returns what the response is to say.
 */
export function tellOperation(headers: Headers, operation: string, outbound: boolean): string | undefined {
  if (outbound) {
    if (operation) headers.set(OPERATION, operation);
    return undefined;
  }
  const told = headers.get(OPERATION);
  if (told !== undefined) headers.remove(OPERATION);
  return told || operation === "" ? undefined : operation;
}

/** In the response. */
export function answerOperation(headers: Headers, operation: string | undefined, outbound: boolean): void {
  if (outbound) headers.remove(OPERATION);
  else if (operation !== undefined) headers.set(OPERATION, operation);
}
