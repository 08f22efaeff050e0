/**
 * Makes `build/protocols/`: TypeScript for Envoy's API (xDS, its messages and their binary form) from the protocol
 * files in the package @grpc/grpc-js-xds. Imports reach it as `#protocols/envoy/...`. Runs whenever packages or this
 * file have changed since; `scripts/prepare.mjs` calls it.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  cpSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const target = join(root, "build/protocols");

/** What is used of the API; what these import comes along. */
const wanted = [
  "service/discovery/v3",
  "config/bootstrap/v3",
  "config/cluster/v3/cluster.proto",
  "config/endpoint/v3/endpoint.proto",
  "config/listener/v3/listener.proto",
  "config/rbac/v3/rbac.proto",
  "config/route/v3/route.proto",
  "extensions/access_loggers/file/v3",
  "extensions/access_loggers/stream/v3",
  "extensions/filters/http/cors/v3",
  "extensions/filters/http/fault/v3",
  "extensions/filters/http/local_ratelimit/v3",
  "extensions/filters/http/rbac/v3",
  "extensions/filters/http/router/v3",
  "extensions/filters/listener/http_inspector/v3",
  "extensions/filters/listener/original_dst/v3",
  "extensions/filters/listener/tls_inspector/v3",
  "extensions/filters/network/http_connection_manager/v3",
  "extensions/filters/network/rbac/v3",
  "extensions/filters/network/set_filter_state/v3",
  "extensions/filters/network/sni_cluster/v3",
  "extensions/filters/network/tcp_proxy/v3",
  "extensions/rate_limit_descriptors/expr/v3",
  "extensions/retry/host/previous_hosts/v3",
  "extensions/retry/priority/previous_priorities/v3",
  "extensions/transport_sockets/raw_buffer/v3",
  "extensions/transport_sockets/tls/v3",
  "extensions/upstreams/http/v3",
];

/** How messages look in TypeScript: plain objects, absent messages undefined, oneofs as tagged unions, no enums. */
const style = [
  "env=node",
  "esModuleInterop=true",
  "importSuffix=.ts",
  "oneof=unions-value",
  "useOptionals=messages",
  "enumsAsLiterals=true",
  "unrecognizedEnum=false",
  "forceLong=number",
  "outputServices=none",
  "outputJsonMethods=false",
  "outputPartialMethods=true",
  "useExactTypes=false",
  "comments=false",
];

/** Brings them up to date; says nothing when there is nothing to do. */
function prepareProtocols() {
  const version = (name) =>
    JSON.parse(readFileSync(join(root, "node_modules", name, "package.json"), "utf8")).version;
  const stamp = createHash("sha256")
    .update(readFileSync(fileURLToPath(import.meta.url)))
    .update(["@grpc/grpc-js-xds", "ts-proto", "@bufbuild/buf"].map(version).join(" "))
    .digest("hex");
  if (stampOf(target) === stamp) return;
  console.log("making Envoy's API into code ...");
  mkdirSync(join(root, "build"), { recursive: true });
  const work = mkdtempSync(join(root, "build/protocols-"));
  try {
    generate(work);
    writeFileSync(join(work, "out/stamp"), stamp);
    rmSync(target, { recursive: true, force: true });
    renameSync(join(work, "out"), target);
  } catch (error) {
    if (stampOf(target) !== stamp) throw error; // another one was quicker
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function stampOf(directory) {
  try {
    return readFileSync(join(directory, "stamp"), "utf8");
  } catch {
    return undefined;
  }
}

function generate(work) {
  const deps = join(root, "node_modules/@grpc/grpc-js-xds/deps");
  const protos = join(work, "protos");
  for (const part of [
    "envoy-api/envoy",
    "googleapis/google",
    "xds/udpa",
    "xds/xds",
    "protoc-gen-validate/validate",
  ]) {
    cpSync(join(deps, part), join(protos, part.slice(part.indexOf("/") + 1)), { recursive: true });
  }
  // The package's validate.proto is older than the files that use it: an option is missing, which we do not read.
  const validate = join(protos, "validate/validate.proto");
  const text = readFileSync(validate, "utf8");
  writeFileSync(validate, text.replace(/^message \w+Rules \{/gm, "$&\n  optional bool ignore_empty = 100;"));
  const settings = { version: "v2", modules: [{ path: "protos" }] };
  const plugin = {
    local: join(root, "node_modules/.bin/protoc-gen-ts_proto"),
    out: "out",
    include_imports: true,
    // One run for all, not one for each folder.
    strategy: "all",
    opt: style,
  };
  writeFileSync(join(work, "buf.yaml"), JSON.stringify(settings));
  writeFileSync(join(work, "buf.gen.yaml"), JSON.stringify({ version: "v2", plugins: [plugin] }));
  const paths = wanted.flatMap((path) => ["--path", `protos/envoy/${path}`]);
  const buf = (...command) => {
    const program = join(root, "node_modules/@bufbuild/buf/bin/buf");
    const result = spawnSync(process.execPath, [program, ...command], { cwd: work, encoding: "utf8" });
    if (result.status !== 0) throw new Error(`buf ${command[0]}: ${result.stderr || result.error}`);
  };
  buf("generate", ...paths);
  // The messages' description, with which anything of them can be shown as JSON.
  buf("build", ...paths, "--exclude-source-info", "-o", "out/descriptors.binpb");
  // Types are for those who import these files; what is inside is the generator's business.
  for (const file of globSync("**/*.ts", { cwd: join(work, "out") })) {
    const path = join(work, "out", file);
    writeFileSync(path, `// @ts-nocheck\n${readFileSync(path, "utf8")}`);
  }
}

prepareProtocols();
