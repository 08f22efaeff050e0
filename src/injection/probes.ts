/**
 * Probes and HTTP lifecycle hooks of the application go by the agent: the kubelet has no certificate of the mesh, so under
 * strict mTLS its HTTP, TCP and gRPC probes and its HTTP hooks would fail, and a TCP probe would find the proxy's port open
 * whatever the application does. The agent asks on their behalf. What is exec runs in the container and stays as it is.
 * Source: Istio `pkg/kube/inject/app_probe.go` (hooks since 1.25), docs "Health Checking of Istio Services".
 */
import type { Container, Probe } from "../api/index.ts";
import { ports, proxyContainerName } from "./names.ts";

/** What the agent is told of a probe (JSON in ISTIO_KUBE_APP_PROBERS, keyed by path). */
export interface Prober {
  httpGet?: {
    path?: string;
    port: number;
    host?: string;
    scheme?: string;
    httpHeaders?: { name: string; value: string }[];
  };
  tcpSocket?: { port: number; host?: string };
  grpc?: { port: number; service?: string | null };
  /** 0: as long as it takes. */
  timeoutSeconds?: number;
}

export const probersVariable = "ISTIO_KUBE_APP_PROBERS";

const kinds = { livenessProbe: "livez", readinessProbe: "readyz", startupProbe: "startupz" } as const;
type ProbeKind = keyof typeof kinds;
const hooks = { postStart: "poststartz", preStop: "prestopz" } as const;
type HookKind = keyof typeof hooks;
type Hook = NonNullable<NonNullable<Container["lifecycle"]>[HookKind]>;

export interface RewrittenProbes {
  probers: Record<string, Prober>;
  /** What stands in each container in place of the probe or hook that it had; `path`: where, below the container. */
  rewritten: { container: string; path: string; value: Probe | Hook }[];
  warnings: string[];
}

/** Of all containers but the proxy's. */
export function rewriteProbes(containers: readonly Container[]): RewrittenProbes {
  const result: RewrittenProbes = { probers: {}, rewritten: [], warnings: [] };
  for (const container of containers) {
    if (container.name === proxyContainerName) continue;
    for (const [kind, path] of Object.entries(kinds) as [ProbeKind, string][]) {
      const probe = container[kind];
      if (!probe) continue;
      const prober = proberOf(container, kind, probe, result.warnings);
      if (!prober) continue;
      const at = `/app-health/${container.name}/${path}`;
      result.probers[at] = prober;
      const { httpGet: _h, tcpSocket: _t, grpc: _g, ...timing } = probe;
      result.rewritten.push({ container: container.name, path: kind, value: { ...timing, ...byAgent(at) } });
    }
    for (const [kind, path] of Object.entries(hooks) as [HookKind, string][]) {
      const httpGet = container.lifecycle?.[kind]?.httpGet;
      if (!httpGet || httpGet.host) continue;
      const port = portOf(container, httpGet.port);
      if (port === undefined) {
        result.warnings.push(unknownPort(kind, container, httpGet.port));
        continue;
      }
      const at = `/app-lifecycle/${container.name}/${path}`;
      // A hook has all the time that the kubelet gives it: the pod's grace period.
      result.probers[at] = { httpGet: { ...httpGet, port }, timeoutSeconds: 0 };
      result.rewritten.push({ container: container.name, path: `lifecycle/${kind}`, value: byAgent(at) });
    }
  }
  return result;
}

const byAgent = (path: string) => ({ httpGet: { path, port: ports.agent, scheme: "HTTP" } });

const unknownPort = (kind: string, container: Container, port: string | number) =>
  `${kind} of container ${container.name} names port '${port}', which it does not have`;

/** Undefined for probes that are left alone: exec, somebody else's host, a port that has no such name. */
function proberOf(
  container: Container,
  kind: ProbeKind,
  probe: Probe,
  warnings: string[],
): Prober | undefined {
  const { httpGet, tcpSocket, grpc, timeoutSeconds } = probe;
  const timeout = timeoutSeconds === undefined ? {} : { timeoutSeconds };
  const asked = httpGet ?? tcpSocket;
  // The kubelet calls another host than the pod: that has nothing to do with the pod's proxy.
  if (asked?.host) return undefined;
  if (grpc) {
    const service = grpc.service ? { service: grpc.service } : {};
    return { grpc: { port: grpc.port, ...service }, ...timeout };
  }
  if (!asked) return undefined;
  const port = portOf(container, asked.port);
  if (port === undefined) {
    warnings.push(unknownPort(kind, container, asked.port));
    return undefined;
  }
  return httpGet ? { httpGet: { ...httpGet, port }, ...timeout } : { tcpSocket: { port }, ...timeout };
}

function portOf(container: Container, port: string | number): number | undefined {
  if (typeof port === "number") return port;
  return /^\d+$/.test(port)
    ? Number(port)
    : container.ports?.find(({ name }) => name === port)?.containerPort;
}
