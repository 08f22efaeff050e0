import assert from "node:assert/strict";
import { test } from "node:test";
import { checkFields, Malformed, type MessageKind } from "./fields.ts";

const request = [":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/"];
const connect = [":method", "CONNECT", ":authority", "a:1"];
const response = [":status", "200"];

const good: [MessageKind, string[], length: number][] = [
  ["request", request, -1],
  ["request", [...request, "x", "", "te", "trailers", "cookie", "a=1", "cookie", "b=2"], -1],
  ["request", [...request, "content-length", "12"], 12],
  ["request", [...request, "content-length", "12", "content-length", "12"], 12],
  ["request", connect, -1],
  ["request", [":path", "*", ":method", "OPTIONS", ":scheme", "http"], -1],
  ["response", [...response, "content-length", "0", "x", "a b\tc"], 0],
  ["trailers", ["grpc-status", "0"], -1],
]; // biome-ignore format: a table

const bad: [MessageKind, string[]][] = [
  ["request", []],
  ["request", request.slice(2)],
  ["request", [":method", "", ...request.slice(2)]],
  ["request", [":method", "GET", ":authority", "a", ":path", "/"]],
  ["request", request.slice(0, 6)],
  ["request", [...request.slice(0, 6), ":path", ""]],
  ["request", [...request, ":path", "/"]],
  ["request", ["x", "1", ...request]],
  ["request", [...request, ":status", "200"]],
  ["request", [...request, ":protocol", "websocket"]],
  ["request", [...request, ":", "x"]],
  ["request", [...connect, ":path", "/"]],
  ["request", [...connect, ":scheme", "http"]],
  ["request", [":authority", ":method", ":method", "CONNECT", ":scheme", "http", ":path", "/"]],
  ["request", [":method", "CONNECT", ":authority", ""]],
  ["response", []],
  ["response", ["x", "1"]],
  ["response", [":status", "99"]],
  ["response", [":status", "2000"]],
  ["response", [...response, ":path", "/"]],
  ["trailers", response],
  ...["X", "", "x y", "x:", "é", "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"].map(
    (name): [MessageKind, string[]] => ["trailers", [name, "1"]],
  ),
  ...[" a", "a ", "\ta", "a\t", " ", "a\0b", "a\rb", "a\nb"].map((value): [MessageKind, string[]] => ["trailers", ["x", value]]),
  ["request", [...request, "te", "gzip"]],
  ["request", [...request, "content-length", "-1"]],
  ["request", [...request, "content-length", ""]],
  ["request", [...request, "content-length", "1", "content-length", "2"]],
]; // biome-ignore format: a table

test("messages that are well-formed pass, with their length, and no others (RFC 9113, 8.2, 8.3)", () => {
  for (const [kind, fields, length] of good) assert.equal(checkFields(fields, kind), length, fields.join());
  for (const [kind, fields] of bad) assert.throws(() => checkFields(fields, kind), Malformed, fields.join());
});
