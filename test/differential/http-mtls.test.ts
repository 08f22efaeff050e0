/** What HTTP knows of TLS on real Envoy and on the embedded proxy: who the client is, upstreams that prove nothing, tracing marks. */
import { connect as connectHttp2, createSecureServer } from "node:http2";
import { request as httpsRequest } from "node:https";
import { type TestContext, test } from "node:test";
import { createServer as createTlsServer, type TLSSocket } from "node:tls";
import { RBAC } from "#protocols/envoy/extensions/filters/http/rbac/v3/rbac.ts";
import { clientTls, serverTls } from "../../src/proxy/testing/resources.ts";
import { type Issued, makeCa } from "../../src/xds/testing/certificates.ts";
import { type TestProxy as EitherProxy, listening, startBackend, startBoth } from "./harness.ts";
import { ask, cluster, counters, filter, http, router, seconds, text, to } from "./http.ts";

const inline = (value: string) => ({ specifier: { $case: "inlineString" as const, value } });
const certificate = ({ cert, key }: Issued) => ({ certificateChain: inline(cert), privateKey: inline(key) });
const trust = (ca: string, more: object = {}) => ({
  $case: "validationContext" as const,
  value: { trustedCa: inline(ca), ...more },
});

/** One request over TLS; the backend's echo. */
function askTls(
  proxy: EitherProxy,
  listener: string,
  path: string,
  client: Issued | undefined,
  headers = {},
) {
  return new Promise<object>((resolve, reject) => {
    const { ip, port } = proxy.address(listener);
    const request = httpsRequest(
      { host: ip, port, path, headers, rejectUnauthorized: false, agent: false, ...(client ? { cert: client.cert, key: client.key } : {}) },
      (response) => {
        let body = "";
        response.setEncoding("utf8");
        response.on("data", (data: string) => {
          body += data;
        });
        response.on("end", () => {
          if (!body.startsWith("{")) return resolve({ status: response.statusCode, body });
          const echo = JSON.parse(body) as { headers: Record<string, string> };
          delete echo.headers["x-request-id"];
          delete echo.headers.host;
          resolve({ status: response.statusCode, echo });
        });
      },
    ); // biome-ignore format: one line
    request.on("error", reject).end();
  });
}

test("x-forwarded-client-cert in every mode, and access by identity", async (t) => {
  const ca = await makeCa();
  const server = await ca.issue({ uri: "spiffe://cluster.local/ns/demo/sa/server" });
  const client = await ca.issue({ uri: "spiffe://cluster.local/ns/demo/sa/client" });
  const named = await ca.issue({ dns: ["a.example", "b.example"] });
  const a = await startBackend(t, "a");
  const only = filter("envoy.filters.http.rbac", "rbac.v3.RBAC", RBAC, {
    rules: {
      action: 0,
      policies: {
        clients: {
          permissions: [{ rule: { $case: "any", value: true } }],
          principals: [
            {
              identifier: {
                $case: "authenticated",
                value: { principalName: text("exact", "spiffe://cluster.local/ns/demo/sa/client") },
              },
            },
          ],
        },
      },
    },
  });
  const both = await startBoth(t, ({ log }) => {
    const listener = (name: string, mode: number, more: object = {}) => {
      const made = http(
        name,
        log,
        [{ name: "v", domains: ["*"], routes: [to("/", "a", { timeout: seconds(0) })] }],
        {
          forwardClientCertDetails: mode as 0,
          setCurrentClientCertDetails: { subject: true, dns: true, uri: true },
          ...more,
        },
      );
      const transportSocket = serverTls({
        requireClientCertificate: false,
        commonTlsContext: {
          tlsCertificates: [certificate(server)],
          validationContextType: trust(ca.ca),
          alpnProtocols: ["http/1.1"],
        },
      });
      return { ...made, filterChains: made.filterChains.map((chain) => ({ ...chain, transportSocket })) };
    };
    return {
      clusters: [cluster("a", [a.port])],
      listeners: [
        listener("sanitize", 0),
        listener("forward", 1),
        listener("append", 2),
        listener("set", 3),
        listener("always", 4),
        listener("full", 2, { setCurrentClientCertDetails: { cert: true, uri: true } }),
        listener("rbac", 2, { httpFilters: [only, router] }),
      ],
    };
  });
  for (const name of ["sanitize", "forward", "append", "set", "always", "full", "rbac"]) {
    for (const who of [client, named, undefined]) {
      for (const headers of [{}, { "x-forwarded-client-cert": "By=x;Hash=y" }]) {
        await both.same((proxy) => askTls(proxy, name, "/", who, headers));
      }
    }
  }
  await both.same((proxy) => counters(proxy, /_bytes_total$/));
});

async function startTls(t: TestContext, issued: Issued): Promise<number> {
  const server = createTlsServer(
    { cert: issued.cert, key: issued.key, ALPNProtocols: ["http/1.1"] },
    (socket) => {
      socket.on("error", () => undefined);
      socket.on("data", () => socket.write("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret"));
    },
  );
  server.on("tlsClientError", () => undefined);
  return (await listening(t, server)).port;
}

test("upstreams over TLS: proven, not proven, and not TLS at all", async (t) => {
  const ca = await makeCa();
  const other = await makeCa();
  const port = await startTls(t, await ca.issue({ uri: "spiffe://cluster.local/ns/demo/sa/server" }));
  const plain = await startBackend(t, "plain");
  const secured = (name: string, to: number, ca: string, identity: string) =>
    cluster(name, [to], {
      transportSocket: clientTls({
        sni: "app",
        commonTlsContext: {
          validationContextType: trust(ca, {
            matchTypedSubjectAltNames: [{ sanType: 3, matcher: text("exact", identity) }],
          }),
        },
      }),
    });
  const good = "spiffe://cluster.local/ns/demo/sa/server";
  const both = await startBoth(t, ({ log }) => ({
    clusters: [
      secured("good", port, ca.ca, good),
      secured("identity", port, ca.ca, "spiffe://cluster.local/ns/demo/sa/other"),
      secured("root", port, other.ca, good),
      secured("plain", plain.port, ca.ca, good),
    ],
    listeners: [
      http("l", log, [
        {
          name: "v",
          domains: ["*"],
          routes: ["good", "identity", "root", "plain"].map((name) => to(`/${name}`, name)),
        },
      ]),
    ],
  }));
  for (const name of ["good", "identity", "root", "plain"]) {
    await both.same(async (proxy) => {
      const { status, headers, body } = await ask(proxy, "l", `/${name}`);
      // What OpenSSL and BoringSSL say of the same mistake differs: the words up to there do not.
      return {
        status,
        type: headers["content-type"],
        body: String(body).replace(/TLS_error.*/s, "TLS_error"),
      };
    });
  }
  await both.same(async (proxy) =>
    (await proxy.logged(4)).slice(0, 4).map((line) =>
      line
        .replace(/TLS_error[^}"]*/g, "TLS_error")
        .split(" ")
        .slice(0, 5),
    ),
  );
  await both.same((proxy) => counters(proxy, /_bytes_total$/));
});

test("sampling is decided once, and marked in the request's id; tracing headers are carried on", async (t) => {
  const a = await startBackend(t, "a");
  const sampled = (value: number) => ({
    tracing: { clientSampling: { value: 100 }, randomSampling: { value }, overallSampling: { value: 100 } },
  });
  const routes = [
    { name: "v", domains: ["*"], routes: [to("/", "a", {}, { decorator: { operation: "app:8080/*" } })] },
  ];
  const both = await startBoth(t, ({ log }) => ({
    clusters: [cluster("a", [a.port])],
    listeners: [http("all", log, routes, sampled(100)), http("none", log, routes, sampled(0))],
  }));
  const heads: Record<string, string>[] = [
    {},
    { "x-request-id": "6e4c1c5a-0a05-4b9e-8e2b-1f1f1f1f1f1f" },
    { "x-request-id": "6e4c1c5a-0a05-9b9e-8e2b-1f1f1f1f1f1f" },
    { "x-request-id": "not a uuid" },
    { "x-client-trace-id": "mine" },
    { "x-envoy-force-trace": "true" },
    { traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", tracestate: "a=b" },
    { b3: "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-0" },
    {
      "x-b3-traceid": "80f198ee56343ba864fe8b2a57d3eff7",
      "x-b3-sampled": "1",
      "x-b3-spanid": "e457b5a2e4d86bd1",
    },
  ];
  for (const name of ["all", "none"]) {
    for (const headers of heads) {
      await both.same(async (proxy) => {
        a.requests.length = 0;
        const answer = await ask(proxy, name, "/", headers);
        const sent = a.requests[0]!.headers;
        const id = sent[sent.indexOf("x-request-id") + 1]!;
        return { answer, mark: id.length === 36 ? id[14] : id };
      });
    }
  }
  await both.same((proxy) => counters(proxy, /_bytes_total$/));
});

test("HTTP/2 over TLS, chosen by ALPN, with the client's certificate; HTTP/1.1 where it is all the client speaks", async (t) => {
  const ca = await makeCa();
  const server = await ca.issue({ uri: "spiffe://cluster.local/ns/demo/sa/server" });
  const client = await ca.issue({ uri: "spiffe://cluster.local/ns/demo/sa/client" });
  const a = await startBackend(t, "a");
  const both = await startBoth(t, ({ log }) => {
    const made = http("l", log, [{ name: "v", domains: ["*"], routes: [to("/", "a")] }], {
      forwardClientCertDetails: 2,
      setCurrentClientCertDetails: { uri: true },
    });
    const transportSocket = serverTls({
      requireClientCertificate: true,
      commonTlsContext: {
        tlsCertificates: [certificate(server)],
        validationContextType: trust(ca.ca),
        alpnProtocols: ["h2", "http/1.1"],
      },
    });
    return {
      clusters: [cluster("a", [a.port])],
      listeners: [
        { ...made, filterChains: made.filterChains.map((chain) => ({ ...chain, transportSocket })) },
      ],
    };
  });
  for (const ALPNProtocols of [["h2"], ["h2", "http/1.1"]]) {
    await both.same(async (proxy) => {
      const { ip, port } = proxy.address("l");
      const session = connectHttp2(`https://${ip}:${port}`, {
        cert: client.cert,
        key: client.key,
        rejectUnauthorized: false,
        ALPNProtocols,
      });
      const answers = await Promise.all(
        ["/1", "/2"].map(
          (path) =>
            new Promise<object>((resolve, reject) => {
              const stream = session.request({
                ":path": path,
                ":authority": "app.example",
                ":method": "POST",
              });
              let body = "";
              let status: number | undefined;
              stream.on("response", (headers) => {
                status = headers[":status"];
              });
              stream.setEncoding("utf8").on("data", (data: string) => {
                body += data;
              });
              stream.on("error", reject);
              stream.on("end", () => {
                const echo = JSON.parse(body) as { headers: Record<string, string> };
                delete echo.headers["x-request-id"];
                resolve({ status, echo });
              });
              stream.end("x".repeat(100_000));
            }),
        ),
      );
      session.destroy();
      return answers;
    });
  }
  await both.same((proxy) => askTls(proxy, "l", "/", client));
  await both.same(async (proxy) =>
    (await proxy.logged(5))
      .slice(0, 5)
      .map((line) => line.replace(/127\.0\.0\.1:\d+/, "…"))
      .sort(),
  );
  await both.same((proxy) => counters(proxy, /_bytes_total$/));
});

test("HTTP/2 to an upstream over mTLS", async (t) => {
  const ca = await makeCa();
  const server = await ca.issue({ uri: "spiffe://cluster.local/ns/demo/sa/server" });
  const client = await ca.issue({ uri: "spiffe://cluster.local/ns/demo/sa/client" });
  const backend = createSecureServer({ cert: server.cert, key: server.key, ca: [ca.ca], requestCert: true });
  backend.on("session", (session) => t.after(() => session.destroy()));
  backend.on("stream", (stream, headers) => {
    const { authorized } = stream.session!.socket as TLSSocket;
    stream.respond({ ":status": 200, "x-authorized": String(authorized) }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "x-end": "1" }));
    stream.end(`${headers[":method"]} ${headers[":path"]} ${headers[":scheme"]}`);
  });
  const { port } = await listening(t, backend as never);
  const transportSocket = clientTls({
    sni: "app",
    commonTlsContext: {
      tlsCertificates: [certificate(client)],
      validationContextType: trust(ca.ca),
      alpnProtocols: ["h2"],
    },
  });
  const both = await startBoth(t, ({ log }) => ({
    clusters: [cluster("a", [port], { transportSocket }, true)],
    listeners: [http("l", log, [{ name: "v", domains: ["*"], routes: [to("/", "a")] }])],
  }));
  for (const path of ["/1", "/2"]) await both.same((proxy) => ask(proxy, "l", path));
  await both.same((proxy) => counters(proxy, /_bytes_total$/));
});
