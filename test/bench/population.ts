/** Many services, each with a slice of endpoints, made by hand: nothing runs behind them. */
import { type EndpointSlice, endpointSlices, serviceNameLabel, services } from "../../src/api/index.ts";
import type { Draft, KubeClient } from "../../src/kube/index.ts";

export const serviceCount = 1_000;
export const endpointsEach = 10;
export const callers = 16;

/** Services and slices `s0`, `s1`, … in the namespace `scale`. */
export async function populate(client: KubeClient): Promise<void> {
  await inParallel(serviceCount, callers, async (i) => {
    const metadata = { namespace: "scale", name: `s${i}` };
    await client.create(services, { metadata, spec: { ports: [{ port: 80, targetPort: 8080 }] } });
    await client.create(endpointSlices, sliceOf(i));
  });
}

/** The slice of the i-th service; its last address can be given. */
export function sliceOf(i: number, lastAddress?: string): Draft<EndpointSlice> {
  const addresses = Array.from(
    { length: endpointsEach },
    (_, n) =>
      `10.12.${100 + Math.floor((i * endpointsEach + n) / 250)}.${1 + ((i * endpointsEach + n) % 250)}`,
  );
  if (lastAddress) addresses[endpointsEach - 1] = lastAddress;
  return {
    metadata: {
      namespace: "scale",
      name: `s${i}-1`,
      labels: { [serviceNameLabel]: `s${i}`, "endpointslice.kubernetes.io/managed-by": "bench" },
    },
    addressType: "IPv4",
    ports: [{ name: "", protocol: "TCP", port: 8080 }],
    endpoints: addresses.map((address) => ({
      addresses: [address],
      conditions: { ready: true, serving: true, terminating: false },
      nodeName: "c2-control-plane",
    })),
  };
}

/** Calls `act` with 0 to `count` - 1, `width` calls under way at one time. */
export async function inParallel(
  count: number,
  width: number,
  act: (i: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  await Promise.all(
    Array.from({ length: width }, async () => {
      while (next < count) await act(next++);
    }),
  );
}
