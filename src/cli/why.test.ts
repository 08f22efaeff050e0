import assert from "node:assert/strict";
import { test } from "node:test";
import { text } from "./why.ts";

test("weft why: a line for each part, and below it what made it", () => {
  const origin = { kind: "VirtualService", namespace: "coolapp", name: "catalog", field: "spec.http[0]" };
  const service = { kind: "Service", namespace: "coolapp", name: "catalog", field: "" };
  const route = { part: "route", name: "8080 catalog", match: "/*", does: "answers 404" } as const;
  assert.equal(
    text([
      { ...route, origins: [origin, service] },
      { part: "upstream", name: "a", match: "", does: "random, plain", origins: [service] },
    ]),
    "route 8080 catalog [/*]: answers 404\n" +
      "    VirtualService coolapp/catalog spec.http[0]\n" +
      "    Service coolapp/catalog\n" +
      "upstream a: random, plain\n" +
      "    Service coolapp/catalog",
  );
  assert.equal(text([], "db"), "nothing: no object says anything of db to this proxy");
});
