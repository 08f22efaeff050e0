/** TLS through real Envoy and through the embedded proxy: who is let in, what is negotiated, who is believed. */
import assert from "node:assert/strict";
import { createServer, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import {
  type ConnectionOptions,
  connect as connectTls,
  createServer as createTlsServer,
  type TLSSocket,
} from "node:tls";
import { SPIFFECertValidatorConfig } from "#protocols/envoy/extensions/transport_sockets/tls/v3/tls_spiffe_validator_config.ts";
import {
  clientTls,
  endpoint,
  listenerFilter,
  pack,
  serverTls,
  socketAddress,
  tcpFilter,
} from "../../src/proxy/testing/resources.ts";
import { makeCa, type TestCa } from "../../src/xds/testing/certificates.ts";
import { listening, type Resources, startBoth } from "./harness.ts";

const any = socketAddress("127.0.0.1", 0);
const text = (value: string) => ({ specifier: { $case: "inlineString" as const, value } });
const spiffe = (account: string, domain = "cluster.local") => ({
  uri: `spiffe://${domain}/ns/demo/sa/${account}`,
});

const certificate = ({ cert, key }: { cert: string; key: string }) => ({
  certificateChain: text(cert),
  privateKey: text(key),
});

/** Trusts each domain's own roots, as the mesh does. */
const bundles = (domains: Record<string, string>) => ({
  $case: "validationContext" as const,
  value: {
    customValidatorConfig: {
      name: "envoy.tls.cert_validator.spiffe",
      typedConfig: pack(
        "envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig",
        SPIFFECertValidatorConfig,
        { trustDomains: Object.entries(domains).map(([name, ca]) => ({ name, trustBundle: text(ca) })) },
      ),
    },
  },
});

const cluster = (name: string, port: number, more: object = {}) => ({
  name,
  clusterDiscoveryType: { $case: "type" as const, value: 0 as const },
  loadAssignment: { clusterName: name, endpoints: [{ lbEndpoints: [endpoint("127.0.0.1", port)] }] },
  ...more,
});

async function startEcho(t: TestContext, name = "echo") {
  const server = createServer({ allowHalfOpen: true }, (socket: Socket) => {
    socket.on("error", () => undefined);
    socket.write(`${name}:`);
    socket.pipe(socket);
  });
  return listening(t, server);
}

interface Seen {
  said: string;
  alpn: string | false | null;
  version: string | null;
  subject: string;
}

/** Shakes hands, says hello, and tells what it saw. Refusals, at whatever moment, are `refused`. */
function greet(to: { ip: string; port: number }, options: ConnectionOptions): Promise<Seen | "refused"> {
  return new Promise((resolve) => {
    const socket: TLSSocket = connectTls({
      host: to.ip,
      port: to.port,
      rejectUnauthorized: false,
      ...options,
    });
    let said = "";
    socket.setEncoding("latin1");
    socket.on("secureConnect", () => socket.write("hello"));
    socket.on("data", (chunk: string) => {
      said += chunk;
      if (!said.endsWith("hello")) return;
      resolve({
        said,
        alpn: socket.alpnProtocol,
        version: socket.getProtocol(),
        subject: socket.getPeerX509Certificate()?.subjectAltName ?? "",
      });
      socket.destroy();
    });
    socket.on("error", () => resolve("refused"));
    socket.on("close", () => resolve("refused"));
    socket.setTimeout(3_000, () => socket.destroy());
  });
}

test("server names choose chains and certificates; what matches none falls back or is closed", async (t) => {
  const ca = await makeCa();
  const echo = await startEcho(t);
  const chain = async (name: string, serverNames: string[], dns: string) => {
    const issued = await ca.issue({ dns: [dns] });
    return {
      name,
      filterChainMatch: { serverNames, transportProtocol: "tls" },
      transportSocket: serverTls({
        commonTlsContext: { tlsCertificates: [certificate(issued)], alpnProtocols: ["h2", "http/1.1"] },
      }),
      filters: [tcpFilter("echo")],
    };
  };
  const filterChains = [
    await chain("exact", ["a.example.com"], "a.example.com"),
    await chain("wild", ["*.example.com"], "*.example.com"),
    await chain("wider", ["*.com"], "*.com"),
  ];
  const both = await startBoth(t, () => ({
    clusters: [cluster("echo", echo.port)],
    listeners: [
      { name: "l", address: any, listenerFilters: [listenerFilter("tls_inspector")], filterChains },
    ],
  }));
  for (const servername of [
    "a.example.com",
    "A.Example.COM",
    "b.example.com",
    "x.b.example.com",
    "other.com",
    "other.org",
    "",
  ]) {
    for (const ALPNProtocols of [["http/1.1", "h2"], ["spdy"], undefined]) {
      await both.same(async (proxy) => [
        servername,
        ALPNProtocols,
        await greet(proxy.address("l"), { servername, ...(ALPNProtocols ? { ALPNProtocols } : {}) }),
      ]);
    }
  }
});

test("TLS is passed through by its server name and its ALPN, without being ended", async (t) => {
  const ca = await makeCa();
  const issued = await ca.issue({ dns: ["inside.example"] });
  const server = createTlsServer({ ...issued, ALPNProtocols: ["istio", "h2"] }, (socket) => {
    socket.on("error", () => undefined);
    socket.write("inside:");
    socket.pipe(socket);
  });
  const inside = await listening(t, server);
  const plain = await startEcho(t, "plain");
  const both = await startBoth(t, () => ({
    clusters: [cluster("inside", inside.port), cluster("plain", plain.port)],
    listeners: [
      {
        name: "l",
        address: any,
        listenerFilters: [listenerFilter("tls_inspector")],
        filterChains: [
          {
            name: "p",
            filterChainMatch: { serverNames: ["inside.example"] },
            filters: [tcpFilter("inside")],
          },
          {
            name: "q",
            filterChainMatch: { transportProtocol: "tls", applicationProtocols: ["istio"] },
            filters: [tcpFilter("inside")],
          },
        ],
        defaultFilterChain: { name: "d", filters: [tcpFilter("plain")] },
      },
    ],
  }));
  for (const options of [
    { servername: "inside.example", ALPNProtocols: ["h2"] },
    { servername: "other.example", ALPNProtocols: ["http/1.1", "istio"] },
    { servername: "other.example", ALPNProtocols: ["h2"] },
  ]) {
    await both.same((proxy) => greet(proxy.address("l"), options));
  }
});

/** A listener that terminates TLS with a client certificate asked for. */
async function asking(t: TestContext, ca: TestCa, context: object): Promise<Resources> {
  const echo = await startEcho(t);
  const issued = await ca.issue(spiffe("server"));
  return {
    clusters: [cluster("echo", echo.port)],
    listeners: [
      {
        name: "l",
        address: any,
        filterChains: [
          {
            name: "c",
            transportSocket: serverTls({
              ...context,
              commonTlsContext: {
                tlsCertificates: [certificate(issued)],
                ...(context as { commonTlsContext?: object }).commonTlsContext,
              },
            }),
            filters: [tcpFilter("echo")],
          },
        ],
      },
    ],
  };
}

for (const [what, required] of [
  ["required", true],
  ["optional", false],
] as const) {
  test(`client certificates that are ${what} must come from a root of the trust domain that they name`, async (t) => {
    const [own, other, unknown] = [await makeCa(), await makeCa(), await makeCa()];
    const resources = await asking(t, own, {
      requireClientCertificate: required,
      commonTlsContext: {
        validationContextType: bundles({ "cluster.local": own.ca, "other.local": other.ca }),
      },
    });
    const both = await startBoth(t, () => resources);
    const clients = {
      none: {},
      own: await own.issue(spiffe("a")),
      other: await other.issue(spiffe("a", "other.local")),
      "the other's, with our name": await other.issue(spiffe("a")),
      "ours, with the other's name": await own.issue(spiffe("a", "other.local")),
      "of a domain that nobody knows": await own.issue(spiffe("a", "third.local")),
      unknown: await unknown.issue(spiffe("a")),
      "no SPIFFE id": await own.issue({ dns: ["a.example"] }),
    };
    for (const [name, client] of Object.entries(clients)) {
      const { cert, key } = client as { cert?: string; key?: string };
      await both.same(async (proxy) => [
        name,
        await greet(proxy.address("l"), cert ? { cert, key: key! } : {}),
      ]);
    }
  });
}

test("client certificates may be held to a CA and to names", async (t) => {
  const ca = await makeCa();
  const exact = (value: string) => ({
    sanType: 3 as const,
    matcher: { matchPattern: { $case: "exact" as const, value } },
  });
  const resources = await asking(t, ca, {
    requireClientCertificate: true,
    commonTlsContext: {
      validationContextType: {
        $case: "validationContext",
        value: { trustedCa: text(ca.ca), matchTypedSubjectAltNames: [exact(spiffe("a").uri)] },
      },
    },
  });
  const both = await startBoth(t, () => resources);
  for (const names of [spiffe("a"), spiffe("b"), { dns: ["a.example"] }]) {
    const { cert, key } = await ca.issue(names);
    await both.same(async (proxy) => [names, await greet(proxy.address("l"), { cert, key })]);
  }
});

test("upstream TLS believes the names it is told to, and shows our certificate", async (t) => {
  const [ca, stranger] = [await makeCa(), await makeCa()];
  const us = await ca.issue(spiffe("us"));
  const exact = (value: string) => ({
    sanType: 3 as const,
    matcher: { matchPattern: { $case: "exact" as const, value } },
  });
  const serve = async (issuer: TestCa, account: string) => {
    const issued = await issuer.issue(spiffe(account));
    const server = createTlsServer(
      { ...issued, ca: ca.ca, requestCert: true, rejectUnauthorized: true, ALPNProtocols: ["istio"] },
      (socket) => {
        socket.on("error", () => undefined);
        socket.end(
          `${socket.getPeerX509Certificate()?.subjectAltName} ${String((socket as TLSSocket & { servername?: string }).servername)} ${String(socket.alpnProtocol)}`,
        );
      },
    );
    server.on("tlsClientError", () => undefined);
    return (await listening(t, server)).port;
  };
  const servers = {
    good: await serve(ca, "server"),
    misnamed: await serve(ca, "else"),
    stranger: await serve(stranger, "server"),
  };
  const transport = clientTls({
    sni: "outbound_.80_._.server",
    commonTlsContext: {
      tlsCertificates: [certificate(us)],
      alpnProtocols: ["istio"],
      validationContextType: {
        $case: "validationContext",
        value: { trustedCa: text(ca.ca), matchTypedSubjectAltNames: [exact(spiffe("server").uri)] },
      },
    },
  });
  const names = Object.keys(servers) as (keyof typeof servers)[];
  const both = await startBoth(t, () => ({
    clusters: names.map((name) => cluster(name, servers[name], { transportSocket: transport })),
    listeners: names.map((name) => ({ name, address: any, filterChains: [{ filters: [tcpFilter(name)] }] })),
  }));
  for (const name of names) {
    const said = await both.same(async (proxy) => {
      const { connect } = await import("node:net");
      const to = proxy.address(name);
      return new Promise<string>((resolve) => {
        let got = "";
        const socket = connect({ host: to.ip, port: to.port });
        socket.on("data", (chunk) => {
          got += String(chunk);
        });
        socket.on("error", () => undefined);
        socket.on("close", () => resolve(got));
      });
    });
    assert.equal(said !== "", name === "good");
  }
});

for (const maxVersion of ["TLSv1.2", "TLSv1.3"] as const) {
  test(`a client that comes back with its session is let in, with ${maxVersion}`, async (t) => {
    const ca = await makeCa();
    const { cert, key } = await ca.issue(spiffe("a"));
    const resources = await asking(t, ca, {
      requireClientCertificate: true,
      commonTlsContext: { validationContextType: bundles({ "cluster.local": ca.ca }) },
    });
    const both = await startBoth(t, () => resources);
    await both.same(async (proxy) => {
      const to = proxy.address("l");
      const said: string[] = [];
      let session: Buffer | undefined;
      for (let i = 0; i < 3; i++) {
        said.push(
          await new Promise<string>((resolve) => {
            const socket = connectTls({
              host: to.ip,
              port: to.port,
              cert,
              key,
              maxVersion,
              rejectUnauthorized: false,
              ...(session ? { session } : {}),
            });
            let got = "";
            socket.on("session", (given) => {
              session = given;
            });
            socket.on("secureConnect", () => socket.write("hello"));
            socket.on("data", (data) => {
              got += String(data);
              if (!got.endsWith("hello")) return;
              resolve(got);
              socket.destroy();
            });
            socket.on("error", (error) => resolve(error.message));
            socket.on("close", () => resolve("closed"));
          }),
        );
      }
      return said;
    });
  });
}
