/**
 * Peers whose Secrets or API servers are bad in every way that we know of, beside one that is good: the reason shows
 * in the PeerReport, the good peer notices nothing, requests and memory stay bounded. A minute of CPU, most of it the flood.
 */
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { endpointSlices, peerReports } from "../../src/api/index.ts";
import type { KubeRequest, KubeResponse, Transport } from "../../src/kube/index.ts";
import { SimulatedWorld, type Timer } from "../../src/world/index.ts";
import { Fleet } from "../support/fleet.ts";

const json = { "content-type": "application/json" };

function answer(status: number, ...chunks: string[]): KubeResponse {
  return {
    status,
    headers: json,
    body: (async function* () {
      for (const chunk of chunks) yield Buffer.from(chunk);
    })(),
  };
}

/** Says `chunks`, then nothing until the caller has enough. */
function hanging({ signal }: KubeRequest, ...chunks: string[]): KubeResponse {
  return {
    status: 200,
    headers: json,
    body: (async function* () {
      for (const chunk of chunks) yield Buffer.from(chunk);
      await silence(signal);
    })(),
  };
}

function silence(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    if (signal?.aborted) reject(signal.reason);
    signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

const isLease = ({ path }: KubeRequest) => path.includes("/leases");
const isWatch = ({ path }: KubeRequest) => /[?&]watch=/.test(path);
const refusal = (code: number, reason: string, message: string, details = {}) =>
  answer(
    code,
    JSON.stringify({ kind: "Status", apiVersion: "v1", status: "Failure", code, reason, message, details }),
  );
const emptyList = (resourceVersion = "1") =>
  answer(200, JSON.stringify({ kind: "List", apiVersion: "v1", metadata: { resourceVersion }, items: [] }));
const endOfList = (resourceVersion = "1") =>
  `${JSON.stringify({
    type: "BOOKMARK",
    object: {
      kind: "X",
      apiVersion: "v1",
      metadata: { resourceVersion, annotations: { "k8s.io/initial-events-end": "true" } },
    },
  })}\n`;
const reset = () => {
  throw Object.assign(new Error("read ECONNRESET"), { code: "ECONNRESET" });
};

let version = 1;
const offer = (spec: unknown) =>
  `${JSON.stringify({
    type: "ADDED",
    object: {
      apiVersion: "offer.weft.dev/v1alpha1",
      kind: "ServiceOffer",
      metadata: { namespace: "demo", name: "serve", resourceVersion: String(++version) },
      spec,
    },
  })}\n`;

/** Each bad server, and what people are to read of it. */
const servers: Record<string, { serve: Transport; says: RegExp }> = {
  expired: {
    serve: async () => refusal(401, "Unauthorized", "the token has expired"),
    says: /refuses us: .*the token has expired/,
  },
  wordy: {
    serve: async () => refusal(403, "Forbidden", "no ".repeat(50_000)),
    says: /refuses us: no no .*\.\.\./,
  },
  "wrong-ca": {
    serve: async () => {
      throw Object.assign(new Error("self-signed certificate in certificate chain"), {
        code: "SELF_SIGNED_CERT_IN_CHAIN",
      });
    },
    says: /not signed by the expected CA/,
  },
  resets: { serve: async () => reset(), says: /the connection was reset/ },
  silent: { serve: ({ signal }) => silence(signal), says: /no answer within/ },
  slow: { serve: async (request) => hanging(request), says: /no answer within|fell silent/ },
  website: {
    serve: async () => answer(200, "<html>hello</html>"),
    says: /ended before all initial events had come/,
  },
  "no-events": {
    serve: async (request) => (isWatch(request) ? answer(200, '{"what":1}\n[]\nnull\n') : emptyList()),
    says: /no watch event|not been seen/,
  },
  endless: {
    serve: async () => ({
      status: 200,
      headers: json,
      body: (async function* () {
        const chunk = Buffer.alloc(1024 * 1024, "a");
        for (let i = 0; i < 1_000; i++) yield chunk;
      })(),
    }),
    says: /more than \d+ MB/,
  },
  "gone-always": {
    serve: async (request) => (isWatch(request) ? refusal(410, "Expired", "too old") : emptyList()),
    says: /too old/,
  },
  "one-event-and-out": {
    serve: async (request) =>
      isLease(request)
        ? refusal(404, "NotFound", "no leases")
        : isWatch(request)
          ? answer(200, endOfList(String(++version)), offer({ cluster: "one-event-and-out" }))
          : emptyList(String(++version)),
    says: /no leases/,
  },
  "retry-now": {
    serve: async () => ({
      ...refusal(429, "TooManyRequests", "later"),
      headers: { ...json, "retry-after": "0" },
    }),
    says: /later/,
  },
  misshapen: {
    serve: async (request) =>
      isLease(request)
        ? refusal(404, "NotFound", "no leases")
        : isWatch(request)
          ? hanging(
              request,
              ...[
                undefined,
                null,
                {},
                { cluster: "misshapen" },
                { cluster: "misshapen", ports: [null], endpoints: 7 },
              ].map(offer),
              endOfList("99999999"),
            )
          : emptyList(),
    says: /no leases/,
  },
};

/** Requests of one peer's connection in a minute: three watches and their lists, each at most every few seconds. */
const mostPerMinute = 120;

/** Knows how many timers are set. */
class CountingWorld extends SimulatedWorld {
  timers = 0;

  override after(delay: number, wake: () => void): Timer {
    this.timers++;
    let isSet = true;
    const end = () => {
      if (isSet) this.timers--;
      isSet = false;
    };
    const timer = super.after(delay, () => {
      end();
      wake();
    });
    return {
      cancel() {
        end();
        timer.cancel();
      },
    };
  }
}

async function setUp(world = new SimulatedWorld(7)): Promise<Fleet> {
  const fleet = await Fleet.start(world, ["c1", "c2"]);
  await fleet.makeService("c2", "serve", { ports: [{ port: 80, name: "http" }] });
  await fleet.setEndpoints("c2", "serve", ["10.12.0.1"], { portName: "http" });
  await fleet.exportService("c2", "serve");
  return fleet;
}

async function condition(fleet: Fleet, peer: string) {
  const report = await fleet.of("c1").person.get(peerReports, `weft-system/${peer}`);
  return report?.status?.conditions?.find(({ type }) => type === "Reachable");
}

/** That c2 is live, and that what it changes is here in a second. */
async function goodPeerIsWell(fleet: Fleet, address: string): Promise<void> {
  await fleet.setEndpoints("c2", "serve", [address], { portName: "http" });
  await fleet.pass(1);
  const { items } = await fleet.of("c1").person.list(endpointSlices, {
    labelSelector: "multicluster.kubernetes.io/source-cluster=c2",
  });
  assert.deepEqual(
    items.flatMap(({ endpoints }) => endpoints.flatMap(({ addresses }) => addresses)),
    [address],
  );
  assert.equal((await condition(fleet, "c2"))?.status, "True");
}

describe("bad API servers of peers", () => {
  for (const [name, { serve, says }] of Object.entries(servers)) {
    test(name, async () => {
      const fleet = await setUp();
      after(() => fleet.close());
      let requests = 0;
      fleet.strangers.set(name, (request) => {
        requests++;
        return serve(request);
      });
      await fleet.introduce("c1", name);
      await fleet.startPlane("c1");
      await fleet.startPlane("c2");
      await fleet.pass(60);
      const found = await condition(fleet, name);
      assert.notEqual(found?.status, "True");
      assert.match(found?.message ?? "", says);
      assert.ok(found!.message.length < 1500);
      await goodPeerIsWell(fleet, "10.12.0.2");
      const before = requests;
      await fleet.pass(60);
      assert.ok(requests - before <= mostPerMinute, `${requests - before} requests in a minute`);
      assert.ok(requests > before, "it is asked again, for it may come back");
      await goodPeerIsWell(fleet, "10.12.0.3");
      assert.equal(fleet.of("c1").plane!.engine.work.bugs, 0);
    });
  }
});

describe("bad Secrets", () => {
  const bad: [name: string, text: string, says: RegExp][] = [
    ["no-yaml", "{{{", /Secret weft-system\/weft-peer-no-yaml/],
    ["empty", "", /no data\.kubeconfig|no context/],
    ["a-list", "- 1\n- 2\n", /not a mapping/],
    [
      "no-server",
      '{"current-context":"x","contexts":[{"name":"x","context":{"cluster":"x"}}],"clusters":[{"name":"x","cluster":{}}]}',
      /no server/,
    ],
    [
      "a-file",
      '{"current-context":"x","contexts":[{"name":"x","context":{"cluster":"x","user":"x"}}],"clusters":[{"name":"x","cluster":{"server":"https://c2:6443"}}],"users":[{"name":"x","user":{"tokenFile":"/var/run/secrets/kubernetes.io/serviceaccount/token"}}]}',
      /tokenFile names a file/,
    ],
  ];

  test("show what is wrong with them, and go on showing it; mending them is enough", async () => {
    const fleet = await setUp();
    for (const [name, text] of bad) await fleet.introduce("c1", name, name, text);
    await fleet.startPlane("c1");
    await fleet.startPlane("c2");
    await fleet.pass(30);
    for (const [name, , says] of bad) {
      const found = await condition(fleet, name);
      assert.deepEqual([found?.status, found?.reason], ["False", "SecretInvalid"], name);
      assert.match(found!.message, says);
    }
    await goodPeerIsWell(fleet, "10.12.0.2");
    await fleet.introduce("c1", "no-yaml", "c2");
    await fleet.pass(30);
    assert.doesNotMatch((await condition(fleet, "no-yaml"))?.message ?? "", /Secret/);
    await fleet.close();
  });

  test("a good Secret that is spoilt: the connection stands, and both are said", async () => {
    const fleet = await setUp();
    await fleet.startPlane("c1");
    await fleet.startPlane("c2");
    await fleet.pass(5);
    await fleet.introduce("c1", "c2", "c2", "{{{");
    await fleet.pass(2);
    const found = await condition(fleet, "c2");
    assert.equal(found?.status, "True");
    assert.match(found.message, /Its Secret as it is now cannot be used, what it said before is/);
    await goodPeerIsWell(fleet, "10.12.0.9");
    await fleet.introduce("c1", "c2");
    await fleet.pass(2);
    assert.doesNotMatch((await condition(fleet, "c2"))!.message, /Secret/);
    fleet.strangers.set("wrong-ca", servers["wrong-ca"]!.serve);
    await fleet.introduce("c1", "c2", "wrong-ca");
    await fleet.pass(5);
    const distrusted = await condition(fleet, "c2");
    assert.equal(distrusted?.status, "True");
    assert.match(
      distrusted.message,
      /Its Secret as it is now cannot be used, .*not signed by the expected CA/,
    );
    await fleet.introduce("c1", "c2");
    await fleet.pass(15); // what changes often is used at a slower pace
    assert.doesNotMatch((await condition(fleet, "c2"))!.message, /Secret/);
    await fleet.close();
  });
});

describe("a flood of Secrets", () => {
  const peers = Number(process.env.WEFT_FLOOD_PEERS ?? 1_000);
  /** Of the clusters' time. */
  const seconds = Number(process.env.WEFT_FLOOD_SECONDS ?? 60);

  test(`${peers} peers, each changed every second for ${seconds} s: work is bounded and nothing is left behind`, async () => {
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as () => void;
    const world = new CountingWorld(7);
    const fleet = await setUp(world);
    let open = 0;
    let requests = 0;
    for (let i = 0; i < peers; i++) {
      fleet.strangers.set(`p${i}`, async (request) => {
        requests++;
        if (!isWatch(request)) return refusal(404, "NotFound", "no");
        open++;
        request.signal?.addEventListener("abort", () => open--, { once: true });
        return hanging(request, endOfList());
      });
    }
    await fleet.startPlane("c1");
    await fleet.startPlane("c2");
    let round = 0;
    const flood = async (seconds: number) => {
      for (let s = 0; s < seconds; s++) {
        round++;
        for (let i = 0; i < peers; i++) {
          // The token differs each time, so that each is a new credential.
          const kubeconfig = {
            "current-context": "p",
            contexts: [{ name: "p", context: { cluster: "p", user: "p" } }],
            clusters: [{ name: "p", cluster: { server: `https://p${i}:6443` } }],
            users: [{ name: "p", user: { token: `t${round}` } }],
          };
          await fleet.introduce("c1", `p${i}`, "", JSON.stringify(kubeconfig));
        }
        await fleet.pass(1);
      }
    };
    // A few at once are let through for each peer; all there is to grow has grown.
    await flood(3);
    collect();
    const settled = { timers: world.timers, heap: process.memoryUsage().heapUsed, requests };
    assert.ok(open >= peers * 4 && open <= peers * 8, `${open} streams are open`);
    for (let left = seconds - 3; left > 0; left -= 10) {
      await flood(Math.min(left, 10));
      assert.ok(open <= peers * 8, `${open} streams are open`);
    }
    // Then each uses a new Secret every ten seconds: three kinds and the heartbeat are watched anew.
    const most = peers * 4 * (1 + Math.ceil((seconds - 3) / 10));
    assert.ok(requests - settled.requests <= most, `${requests - settled.requests} requests in ${seconds} s`);
    assert.ok(world.timers <= settled.timers + 2 * peers, `${world.timers} timers, were ${settled.timers}`);
    collect();
    const grown = (process.memoryUsage().heapUsed - settled.heap) / 1024 / 1024;
    assert.ok(grown < 40, `${grown.toFixed(0)} MB more`);
    await goodPeerIsWell(fleet, "10.12.0.44");
    await fleet.pass(15);
    assert.equal(open, peers * 4, "one connection for each peer is left");
    await fleet.close();
  });
});
