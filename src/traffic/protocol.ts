/**
 * What a port speaks, by its `appProtocol`, its name, or its well-known number. Sources: Istio
 * `pkg/config/protocol/instance.go`, `pkg/config/kube/conversion.go`.
 */

/** `auto`: nobody said; the proxy looks at the first bytes. */
export type Protocol =
  | "http"
  | "http2"
  | "grpc"
  | "grpc-web"
  | "https"
  | "tls"
  | "tcp"
  | "mongo"
  | "mysql"
  | "redis"
  | "udp"
  | "auto";

const known: Record<string, Protocol> = {
  tcp: "tcp",
  udp: "udp",
  grpc: "grpc",
  "grpc-web": "grpc-web",
  http: "http",
  http_proxy: "http",
  http2: "http2",
  https: "https",
  tls: "tls",
  mongo: "mongo",
  mysql: "mysql",
  redis: "redis",
};

/** Kubernetes' own words for `appProtocol` (KEP-3726). */
const kubernetes: Record<string, Protocol> = {
  "kubernetes.io/h2c": "http2",
  "kubernetes.io/ws": "http",
  "kubernetes.io/wss": "https",
};

/** Ports where the server speaks first, so that looking would only wait: SMTP, DNS, MySQL, MongoDB. */
const serverFirst = new Set([25, 53, 3306, 27017]);

/** As a Gateway or ServiceEntry writes it, in capitals; unknown words are undefined. */
export function namedProtocol(word: string): Protocol | undefined {
  return known[word.toLowerCase()];
}

/** `appProtocol` before the number before the name. */
export function portProtocol(port: {
  name?: string;
  protocol?: string;
  appProtocol?: string;
  number: number;
}): Protocol {
  if (port.protocol === "UDP") return "udp";
  if (port.appProtocol !== undefined) {
    const app = kubernetes[port.appProtocol] ?? known[port.appProtocol.toLowerCase()];
    if (app) return app;
  }
  if (serverFirst.has(port.number)) return "tcp";
  const name = (port.name ?? "").toLowerCase();
  if (name === "grpc-web" || name.startsWith("grpc-web-")) return "grpc-web";
  return known[name.split("-")[0]!] ?? "auto";
}

/** Requests can be told apart. */
export function isHttp(protocol: Protocol): boolean {
  return protocol === "http" || isHttp2(protocol) || protocol === "grpc-web";
}

/** HTTP/2 to the endpoints. */
export function isHttp2(protocol: Protocol): boolean {
  return protocol === "http2" || protocol === "grpc";
}

/** The application speaks TLS itself. */
export function isTls(protocol: Protocol): boolean {
  return protocol === "https" || protocol === "tls";
}

/** Carried as it is, without looking. */
export function isTcp(protocol: Protocol): boolean {
  return !isHttp(protocol) && !isTls(protocol) && protocol !== "auto" && protocol !== "udp";
}
