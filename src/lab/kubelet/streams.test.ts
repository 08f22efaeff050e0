import assert from "node:assert/strict";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { after, before, describe, test } from "node:test";
import { WebSocket } from "ws";
import { eventually } from "../../../test/support/eventually.ts";
import type { Status } from "../../api/index.ts";
import { insideNamespaces } from "../network/testing.ts";
import { packageMount } from "./index.ts";
import type { SpdySession, SpdyStream } from "./spdy/index.ts";
import type { Harness } from "./testing/harness.ts";
import { running } from "./testing/pods.ts";

if (insideNamespaces(import.meta.filename)) {
  const { startHarness } = await import("./testing/harness.ts");
  const { tunnelSpdy, upgradeToSpdy } = await import("./testing/spdy.ts");

  let h: Harness;
  let name: string;
  const shell = (command: string) => ({
    name: "main",
    image: "busybox",
    command: ["/bin/sh", "-c", `trap 'exit 0' TERM; ${command}`],
  });
  const idle = "while :; do sleep 0.1; done";
  const begin = (session: SpdySession, streamtype: string, more: Record<string, string> = {}) =>
    session.open(new Map(Object.entries({ streamtype, ...more })));

  before(async () => {
    h = await startHarness();
    await h.startKubelet();
    name = (await h.create({ containers: [shell(idle)] })).metadata.name;
    await h.until(name, running);
  });
  after(() => h.close());

  const v4 = ["v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io"];
  async function exec(command: string, query: string, protocols = v4) {
    const words = ["sh", "-c", command].map((word) => `command=${encodeURIComponent(word)}`).join("&");
    const upgraded = await upgradeToSpdy(h, `/exec/default/${name}/main?${words}&${query}`, protocols);
    assert.ok(upgraded.session, `${upgraded.status} ${upgraded.text}`);
    return { ...upgraded, session: upgraded.session };
  }
  const exitCode = (status: Status) => status.details?.causes?.[0]?.message;

  describe("exec over SPDY", () => {
    test("carries input to its end, both outputs and the exit code", async () => {
      const { session, headers } = await exec("cat; echo oops >&2; exit 3", "input=1&output=1&error=1");
      assert.equal(headers["x-stream-protocol-version"], "v4.channel.k8s.io");
      const [error, stdin, stdout, stderr] = ["error", "stdin", "stdout", "stderr"].map((type) =>
        begin(session, type),
      ) as [SpdyStream, SpdyStream, SpdyStream, SpdyStream];
      await Promise.all([error, stdin, stdout, stderr].map(({ reply }) => reply));
      const large = "0123456789".repeat(50_000);
      stdin.end(large);
      const [out, err, told] = await Promise.all([text(stdout), text(stderr), text(error)]);
      assert.equal(out, large);
      assert.equal(err, "oops\n");
      assert.equal(exitCode(JSON.parse(told) as Status), "3");
      await session.closed;
    });

    test("speaks the oldest protocol too: an error is a text, success is silence", async () => {
      for (const [command, answer] of [
        ["exit 5", /exit code 5/],
        ["true", /^$/],
      ] as const) {
        const { session, headers } = await exec(command, "output=1", ["channel.k8s.io"]);
        assert.equal(headers["x-stream-protocol-version"], "channel.k8s.io");
        const [error, stdout] = [begin(session, "error"), begin(session, "stdout")];
        stdout.resume();
        assert.match(await text(error), answer);
      }
    });

    test("has a terminal that takes the client's size and its changes", async () => {
      const program = 'stty size; until [ "$(stty size)" = "32 102" ]; do sleep 0.05; done; exit 4';
      const { session } = await exec(program, "input=1&output=1&tty=1");
      const [error, , stdout, resize] = ["error", "stdin", "stdout", "resize"].map((type) =>
        begin(session, type),
      ) as [SpdyStream, SpdyStream, SpdyStream, SpdyStream];
      resize.write('{"Width":101,"Hei');
      resize.write('ght":31}\n');
      const [first] = (await once(stdout, "data")) as [Buffer];
      assert.equal(first.toString(), "31 101\r\n");
      resize.write('{"Width":102,"Height":32}\n');
      assert.equal(exitCode(JSON.parse(await text(error)) as Status), "4");
    });

    test("ends its program when the client goes", async () => {
      const { session } = await exec("echo $$; exec sleep 1000", "output=1");
      begin(session, "error");
      const stdout = begin(session, "stdout");
      const [pid] = (await once(stdout, "data")) as [Buffer];
      session.destroy();
      const gone = `i=0; while kill -0 ${Number(pid)} && [ $i -lt 50 ]; do sleep 0.1; i=$((i+1)); done; echo $i`;
      const { output } = await h.sh(name, `(${gone}) 2>/dev/null`);
      assert.ok(Number(output) < 50, `it runs on: ${output}`);
    });

    test("is refused where protocols, pods or containers are not there", async () => {
      const path = `/exec/default/${name}/main?command=true&output=1`;
      const none = await upgradeToSpdy(h, path, []);
      assert.equal(none.status, 400);
      const unknown = await upgradeToSpdy(h, path, ["v9.channel.k8s.io"]);
      assert.equal(unknown.status, 403);
      assert.match(String(unknown.headers["x-accepted-stream-protocol-versions"]), /^v4\.channel\.k8s\.io, /);
      assert.equal(
        (await upgradeToSpdy(h, `/exec/default/${name}/nope?command=true&output=1`, v4)).status,
        404,
      );
      assert.equal((await upgradeToSpdy(h, "/portForward/default/nope", ["portforward.k8s.io"])).status, 404);
      // What cannot be decoded threw out of the listener once, which ended the kubelet.
      for (const hostile of ["/exec/%/x/main", "//"])
        assert.equal((await upgradeToSpdy(h, hostile, v4)).status, 500);
    });
  });

  test("input over WebSocket after its end, and channels that there are not, harm nobody", async () => {
    const query = ["sh", "-c", "cat; sleep 0.2; echo done"].map(
      (word) => `command=${encodeURIComponent(word)}`,
    );
    const { stdout, status } = await h.stream(
      `/exec/default/${name}/main?${query.join("&")}&input=1&output=1`,
      (send) => {
        send(0, "first\n");
        send(255, Uint8Array.of(0));
        for (const channel of [0, 255, 4, 3, 1, 77]) send(channel, "late");
        send(255, Uint8Array.of(0));
      },
    );
    assert.equal(stdout, "first\ndone\n");
    assert.equal(status?.status, "Success");
  });

  test("attach over SPDY reaches the container's own streams", async () => {
    const { metadata } = await h.create({
      restartPolicy: "Never",
      containers: [
        { ...shell("while read line; do echo got $line; done; echo end"), stdin: true, stdinOnce: true },
      ],
    });
    await h.until(metadata.name, running);
    const { session } = await upgradeToSpdy(h, `/attach/default/${metadata.name}/main?input=1&output=1`, v4);
    const [error, stdin, stdout] = ["error", "stdin", "stdout"].map((type) => begin(session!, type)) as [
      SpdyStream,
      SpdyStream,
      SpdyStream,
    ];
    await stdout.reply;
    stdin.end("hello\n");
    assert.equal(await text(stdout), "got hello\nend\n");
    assert.equal((JSON.parse(await text(error)) as Status).status, "Success");
  });

  test("a container that waits to start is not found by exec", async () => {
    const container = { ...shell(idle), image: "nobody/knows-this" };
    const waiting = (await h.create({ containers: [container] })).metadata.name;
    await h.until(waiting, (pod) => pod?.status?.containerStatuses?.[0]?.state?.waiting !== undefined);
    const refused = await upgradeToSpdy(h, `/exec/default/${waiting}/main?command=true&output=1`, v4);
    assert.deepEqual([refused.status, refused.text], [500, 'container not found ("main")\n']);
  });

  describe("port-forward", () => {
    let pod: string;
    before(async () => {
      // On the loopback only: nobody else reaches it. It answers when its input has ended.
      const program =
        "require('net').createServer({allowHalfOpen:true},s=>{let n=0;s.on('data',d=>n+=d.length);" +
        "s.on('end',()=>s.end('got '+n))}).listen(8080,'127.0.0.1');" +
        "require('net').createServer(s=>s.pipe(s)).listen(8081,'127.0.0.1',()=>console.log('listening'))";
      const server = {
        name: "main",
        image: "busybox",
        command: [`${packageMount}/node_modules/.bin/node`, "-e", program],
      };
      pod = (await h.create({ containers: [server] })).metadata.name;
      await h.until(pod, running);
      // Before that there is nobody to connect to.
      await eventually("it listens", async () =>
        /listening/.test((await h.get(`/containerLogs/default/${pod}/main`)).text),
      );
    });

    let last = 0;
    async function connect(session: SpdySession, port: number) {
      const more = { port: String(port), requestid: String(last++) };
      const error = begin(session, "error", more);
      error.end();
      const data = begin(session, "data", more);
      await data.reply;
      return { data, failed: text(error) };
    }
    async function ask(session: SpdySession, sent: Buffer): Promise<string> {
      const { data, failed } = await connect(session, 8080);
      data.end(sent);
      const answer = await text(data);
      assert.equal(await failed, "");
      return answer;
    }

    for (const how of ["SPDY", "SPDY in a WebSocket"]) {
      test(`reaches the pod's loopback over ${how}, many connections at once, each with its own end`, async () => {
        const path = `/portForward/default/${pod}`;
        const session =
          how === "SPDY"
            ? (await upgradeToSpdy(h, path, ["portforward.k8s.io"])).session!
            : await tunnelSpdy(h, path);
        assert.equal(await ask(session, Buffer.alloc(3)), "got 3");
        const sizes = [0, 10, 300_000, 2_000_000];
        const answers = await Promise.all(sizes.map((size) => ask(session, Buffer.alloc(size))));
        assert.deepEqual(
          answers,
          sizes.map((size) => `got ${size}`),
        );
        session.destroy();
      });
    }

    test("reaches ports over WebSocket channels, a connection for each, and says which failed", async () => {
      const path = `/portForward/default/${pod}?port=8081&port=9`;
      const { pki, node } = h;
      const tls = { ca: pki.ca.cert, cert: pki.kubeletClient.cert, key: pki.kubeletClient.key };
      const socket = new WebSocket(`wss://${node.address}:10250${path}`, ["v4.channel.k8s.io"], tls);
      const heard = ["", "", "", ""];
      socket.on("message", (message: Buffer) => {
        heard[message[0]!] += message.subarray(1).toString("latin1");
      });
      await once(socket, "open");
      socket.send(Buffer.concat([Buffer.from([0]), Buffer.alloc(500_000, "x")]));
      socket.send(Buffer.from([2, 1, 2, 3]));
      socket.send(Buffer.from([77, 1]));
      while (heard[0]!.length < 500_002 || heard[3]!.length <= 2) await once(socket, "message");
      assert.ok(heard[0] === `\x91\x1f${"x".repeat(500_000)}`, "the echo is what was sent");
      assert.match(heard[3]!, /^\t\0error forwarding port 9 to pod default\/\S+, uid \S+: .*ECONNREFUSED/);
      socket.close();
      await once(socket, "close");
      const wrong = await h.stream(`/portForward/default/${pod}?port=0`, undefined, ["v4.channel.k8s.io"]);
      assert.equal(wrong.closed, 400);
    });

    test("says why a connection failed, and the next one is served", async () => {
      const { session } = await upgradeToSpdy(h, `/portForward/default/${pod}`, ["portforward.k8s.io"]);
      const { failed } = await connect(session!, 9);
      assert.match(await failed, /^error forwarding port 9 to pod default\/\S+, uid \S+: .*ECONNREFUSED/);
      assert.equal(await ask(session!, Buffer.alloc(1)), "got 1");
      const wrong = begin(session!, "data", { port: "70000", requestid: "x" });
      await assert.rejects(wrong.reply, { status: 3 });
      session!.destroy();
    });
  });
}
