/** Which formats of access logs are taken: what api/ says is what Envoy and the embedded proxy do. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Bootstrap } from "#protocols/envoy/config/bootstrap/v3/bootstrap.ts";
import { Listener } from "#protocols/envoy/config/listener/v3/listener.ts";
import { accessLogFormatProblem, accessLogOperators } from "../../src/api/index.ts";
import { AccessLogFormatOperators } from "../../src/proxy/http/operators.ts";
import { encodeListener } from "../../src/xds/encode/index.ts";
import { validate } from "../../src/xds/testing/envoy.ts";
import { chain, httpHandler, listener, routeTable, tcpHandler } from "../../src/xds/testing/features.ts";
import { startBoth } from "./harness.ts";

const listenerWith = (accessLogFormat: string) =>
  Listener.decode(
    encodeListener(
      listener("l", 0, [
        chain("tcp", { ...tcpHandler("none"), accessLogFormat }, { transport: "tls" }),
        chain("http", httpHandler(routeTable("t", []), { accessLogFormat })),
      ]),
    ).message,
  );

const parameters: Record<string, string[]> = {
  START_TIME: ["", "()", "(%Y-%m-%dT%H:%M:%S.%3fZ)", "(a)b)"],
  RESPONSE_CODE_DETAILS: [""],
  ...Object.fromEntries(
    ["REQ", "RESP", "TRAILER"].map((name) => [name, ["(:method)", "(A-b.c_d)", "(x?:path)", "(x):12"]]),
  ),
  DYNAMIC_METADATA: ["(a)", "(a:b:c):3"],
  UPSTREAM_METADATA: ["(a:b)"],
  CLUSTER_METADATA: ["(a:b)"],
  FILTER_STATE: ["(a)", "(a:PLAIN):3", "(a:TYPED)"],
  ENVIRONMENT: ["(HOME)", "(HOME):3"],
};
const good = ["", "no operator", "100%%", "%%%REQ(a)%%%"].concat(
  accessLogOperators.flatMap((name) => (parameters[name] ?? [""]).map((given) => `%${name}${given}%`)),
);

test("the operators are those that the embedded proxy has", () => {
  assert.deepEqual([...accessLogOperators].sort(), Object.keys(AccessLogFormatOperators).sort());
});

test("both proxies take every operator with what it may be given", async (t) => {
  for (const format of good) assert.equal(accessLogFormatProblem(format), undefined, format);
  await startBoth(t, () => ({ clusters: [], listeners: [listenerWith(good.join(" "))] }));
});

test("what is refused here, Envoy refuses", () => {
  const directory = mkdtempSync(join(tmpdir(), "weft-formats-"));
  const judge = (format: string) => {
    const file = join(directory, "bootstrap.pb");
    const bootstrap = Bootstrap.fromPartial({ staticResources: { listeners: [listenerWith(format)] } });
    writeFileSync(file, Bootstrap.encode(bootstrap).finish());
    return validate(file);
  };
  try {
    assert.equal(judge("good"), undefined);
    for (const format of [
      "100%",
      "%PROTOCOL",
      "%REQ(a",
      "%METHOD%",
      "%method%",
      "%REQ%",
      "%REQ()%",
      "%REQ(a b)%",
      "%REQ(a?b?c)%",
      "%REQ(a):x%",
      "%RESPONSE_FLAGS%:%",
      "%PROTOCOL:5%",
      "%PROTOCOL(x)%",
      "%UPSTREAM_METADATA%",
      "%FILTER_STATE(a:x)%",
      "%GRPC_STATUS(x)%",
    ]) {
      assert.ok(accessLogFormatProblem(format), format);
      assert.ok(judge(format), format);
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
