import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { insideNamespaces } from "../lab/network/testing.ts";
import { redirect, undo } from "./redirect.ts";
import { inboundSource, modeFor, proxyAddress, readPorts, readRanges, rules } from "./redirection.ts";
import { ask, askBy, fromOutside, makeScene, outside, pod } from "./testing/scene.ts";

const everything = {
  includeInboundPorts: ["*"],
  excludeInboundPorts: [],
  includeOutboundPorts: [],
  excludeOutboundPorts: [],
  includeOutboundRanges: ["*"],
  excludeOutboundRanges: [],
  outboundPort: 15001,
  inboundPort: 15006,
};

if (insideNamespaces(fileURLToPath(import.meta.url))) {
  describe("redirection where one uid is mapped", () => {
    const directory = mkdtempSync(join(tmpdir(), "weft-redirection-"));
    const file = join(directory, "proxy/redirection.json");
    let end: () => void;
    before(async () => {
      end = await makeScene();
    });
    after(() => {
      end();
      rmSync(directory, { recursive: true });
    });

    test("before it, everybody reaches whom they call", async () => {
      assert.equal(await ask(outside, 8080), `outside ${pod}`);
      assert.equal(await askBy(fromOutside, pod, 8080), `app ${outside}`);
    });

    for (const time of ["the first time", "and again"]) {
      test(`the proxy's choice is noted, ${time}`, () => {
        assert.deepEqual(redirect(everything, file), { mode: "address", bindAddress: proxyAddress });
        assert.deepEqual(JSON.parse(readFileSync(file, "utf8")), {
          mode: "address",
          bindAddress: proxyAddress,
        });
      });

      test(`what the application sends comes to the proxy, ${time}`, async () => {
        assert.match(await ask(outside, 8080), /^outbound /);
        assert.match(await ask(outside, 9090), /^outbound /);
      });

      test(`what the proxy sends goes out, with the pod's address, ${time}`, async () => {
        assert.equal(await ask(outside, 8080, proxyAddress), `outside ${pod}`);
      });
    }

    test("what comes from outside comes to the proxy; its own ports are reached as they are", async () => {
      assert.equal(await askBy(fromOutside, pod, 8080), `inbound ${outside}`);
      assert.equal(await askBy(fromOutside, pod, 4711), `inbound ${outside}`);
      assert.equal(await askBy(fromOutside, pod, 15021), `readiness ${outside}`);
    });

    test("within the pod the application is reached as it is", async () => {
      assert.match(await ask("127.0.0.1", 8080), /^app /);
      assert.match(await ask(pod, 8080), /^app /);
    });

    test("the inbound side reaches the application, at the pod's address and at 127.0.0.1", async () => {
      assert.equal(await ask(pod, 8080, inboundSource), `app ${inboundSource}`);
      assert.match(await ask("127.0.0.1", 8080, proxyAddress), /^app /);
    });

    test("a call of the pod to itself passes the inbound side", async () => {
      assert.match(await ask(pod, 8080, proxyAddress), /^inbound /);
    });

    test("ports and ranges that are left out are left alone", async () => {
      redirect({ ...everything, excludeOutboundPorts: ["9090"], excludeInboundPorts: ["8000-8100"] }, file);
      assert.equal(await ask(outside, 9090), `outside ${pod}`);
      assert.match(await ask(outside, 8080), /^outbound /);
      assert.equal(await askBy(fromOutside, pod, 8080), `app ${outside}`);

      redirect({ ...everything, excludeOutboundRanges: ["10.99.0.0/30", "10.99.0.1"] }, file);
      assert.equal(await ask(outside, 8080), `outside ${pod}`);

      redirect({ ...everything, includeOutboundRanges: ["10.0.0.0/24"], includeInboundPorts: ["1"] }, file);
      assert.equal(await ask(outside, 8080), `outside ${pod}`);
      assert.equal(await askBy(fromOutside, pod, 8080), `app ${outside}`);

      redirect({ ...everything, includeOutboundRanges: [], includeOutboundPorts: ["9090"] }, file);
      assert.match(await ask(outside, 9090), /^outbound /);
      assert.equal(await ask(outside, 8080), `outside ${pod}`);
    });

    test("undone, nothing is left of it, and undoing again is no error", async () => {
      undo(file);
      undo(file);
      assert.equal(await ask(outside, 8080), `outside ${pod}`);
      assert.equal(await askBy(fromOutside, pod, 8080), `app ${outside}`);
      assert.throws(() => readFileSync(file), { code: "ENOENT" });
    });
  });

  test("the way is chosen by the uids that are mapped", () => {
    assert.equal(modeFor("         0          0 4294967295\n"), "uid");
    assert.equal(modeFor("0 100000 65536\n"), "uid");
    assert.equal(modeFor("0 1000 1\n"), "address");
    assert.equal(modeFor("0 1000 1\n1 100000 65536\n"), "uid");
  });

  test("with a uid of its own the proxy needs no address", () => {
    const text = rules({ ...everything, mode: "uid", podAddress: pod });
    assert.match(text, /meta skuid 1337 return/);
    assert.doesNotMatch(text, /169\.254|postrouting/);
  });

  test("ports and ranges are read as the annotations write them", () => {
    assert.deepEqual(readPorts("8080, 9090-9099,"), ["8080", "9090-9099"]);
    assert.deepEqual(readPorts("*"), ["*"]);
    assert.deepEqual(readPorts(""), []);
    for (const bad of ["http", "1-2-3", "70000", "80;"]) assert.throws(() => readPorts(bad), /no port/);
    assert.deepEqual(readRanges("10.0.0.0/8,1.2.3.4,fd00::/8"), ["10.0.0.0/8", "1.2.3.4", "fd00::/8"]);
    for (const bad of ["10.0.0.0/33", "host", "1.2.3.4/8/9", "10.0.0.0/8:80", "fd00::/129"])
      assert.throws(() => readRanges(bad), /no range/);
  });
}
