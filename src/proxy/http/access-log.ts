/** Access logs: Envoy's loggers to files and standard output, its formats and filters. */
import {
  type AccessLog,
  type AccessLogFilter,
  ComparisonFilter_Op,
} from "#protocols/envoy/config/accesslog/v3/accesslog.ts";
import type { SubstitutionFormatString } from "#protocols/envoy/config/core/v3/substitution_format_string.ts";
import { FileAccessLog } from "#protocols/envoy/extensions/access_loggers/file/v3/file.ts";
import {
  StderrAccessLog,
  StdoutAccessLog,
} from "#protocols/envoy/extensions/access_loggers/stream/v3/stream.ts";
import {
  type AccessLogger,
  type LogSink,
  type ProxyDeps,
  type StreamFacts,
  Unservable,
} from "../contract.ts";
import { compileHeaderMatcher } from "../rbac.ts";
import { dataOf } from "../values.ts";
import { compileFormat, type Operator, parseFormat } from "./format.ts";
import { percentOf } from "./percent.ts";

/** Envoy's format where none is given. */
const standard =
  '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" ' +
  "%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% " +
  '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" ' +
  '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"\n';

type Line = (facts: StreamFacts) => string;
type Test = (facts: StreamFacts) => boolean;

interface Log {
  line: Line;
  sink: LogSink;
  wanted: Test | undefined;
}

class Loggers implements AccessLogger {
  readonly #logs: readonly Log[];
  constructor(logs: readonly Log[]) {
    this.#logs = logs;
  }
  get empty(): boolean {
    return this.#logs.length === 0;
  }
  log(facts: StreamFacts): void {
    for (const { line, sink, wanted } of this.#logs) if (!wanted || wanted(facts)) sink.write(line(facts));
  }
}

/** Throws Unservable for loggers, operators and filters that there are not. */
export function compileAccessLog(configs: readonly AccessLog[], deps: ProxyDeps): AccessLogger {
  return new Loggers(configs.map((config) => compileOne(config, deps)));
}

function compileOne(config: AccessLog, deps: ProxyDeps): Log {
  const any = config.configType?.value;
  const type = any?.typeUrl.slice(any.typeUrl.lastIndexOf("/") + 1);
  const wanted = config.filter && filterTest(config.filter, deps);
  switch (type) {
    case "envoy.extensions.access_loggers.file.v3.FileAccessLog": {
      const file = FileAccessLog.decode(any!.value);
      const format = file.accessLogFormat;
      let line: Line;
      if (format?.$case === "format") line = compileFormat(format.value, "-");
      else if (format?.$case === "logFormat") line = formatOf(format.value);
      else if (format) line = jsonFormat(format.value ?? {}, false);
      else line = compileFormat(standard, "-");
      return { line, sink: deps.logFile(file.path), wanted };
    }
    case "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog": {
      const format = StdoutAccessLog.decode(any!.value).accessLogFormat?.value;
      return { line: formatOf(format), sink: deps.logFile("/dev/stdout"), wanted };
    }
    case "envoy.extensions.access_loggers.stream.v3.StderrAccessLog": {
      const format = StderrAccessLog.decode(any!.value).accessLogFormat?.value;
      return { line: formatOf(format), sink: deps.logFile("/dev/stderr"), wanted };
    }
    default:
      throw new Unservable(`access log '${config.name}': ${type ?? "no configuration"} is not served`);
  }
}

function formatOf(format: SubstitutionFormatString | undefined): Line {
  if (!format?.format) return compileFormat(standard, "-");
  switch (format.format.$case) {
    case "textFormat":
      return compileFormat(format.format.value, format.omitEmptyValues ? "" : "-");
    case "textFormatSource":
      return compileFormat(
        dataOf(format.format.value)?.toString("utf8") ?? "",
        format.omitEmptyValues ? "" : "-",
      );
    case "jsonFormat":
      return jsonFormat(format.format.value ?? {}, format.omitEmptyValues);
  }
}

/** A JSON object for each line: a string that is one operator keeps its type, as far as it is a number. */
function jsonFormat(template: Record<string, unknown>, omitEmpty: boolean): Line {
  const make = jsonValue(template, omitEmpty);
  return (facts) => `${JSON.stringify(make(facts))}\n`;
}

const numeric =
  /^%(RESPONSE_CODE|BYTES_|DURATION|REQUEST_DURATION|RESPONSE_DURATION|RESPONSE_TX|CONNECTION_ID|\w+_PORT)/;

function jsonValue(template: unknown, omitEmpty: boolean): (facts: StreamFacts) => unknown {
  if (typeof template === "string") {
    const parts = parseFormat(template);
    if (parts.length === 1 && typeof parts[0] !== "string") {
      const only = parts[0] as Operator;
      const asNumber = numeric.test(template) && !/DETAILS|DURATION_/.test(template);
      return (facts) => {
        const value = only(facts);
        if (value === undefined) return omitEmpty ? undefined : null;
        return asNumber ? Number(value) : value;
      };
    }
    return compileFormat(template, omitEmpty ? "" : "-");
  }
  if (Array.isArray(template)) {
    const items = template.map((item) => jsonValue(item, omitEmpty));
    return (facts) => items.map((item) => item(facts));
  }
  if (template !== null && typeof template === "object") {
    const entries = Object.entries(template)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, value]) => [key, jsonValue(value, omitEmpty)] as const);
    return (facts) => {
      const result: Record<string, unknown> = {};
      for (const [key, make] of entries) result[key] = make(facts);
      return result;
    };
  }
  return () => template;
}

function filterTest(filter: AccessLogFilter, deps: ProxyDeps): Test {
  const specifier = filter.filterSpecifier;
  switch (specifier?.$case) {
    case "statusCodeFilter": {
      const { comparison } = specifier.value;
      const value = comparison?.value?.defaultValue ?? 0;
      const op = comparison?.op;
      return (facts) =>
        op === ComparisonFilter_Op.GE
          ? facts.responseCode >= value
          : op === ComparisonFilter_Op.LE
            ? facts.responseCode <= value
            : facts.responseCode === value;
    }
    case "durationFilter": {
      const { comparison } = specifier.value;
      const value = comparison?.value?.defaultValue ?? 0;
      const op = comparison?.op;
      return (facts) =>
        op === ComparisonFilter_Op.GE
          ? facts.duration >= value
          : op === ComparisonFilter_Op.LE
            ? facts.duration <= value
            : facts.duration === value;
    }
    case "notHealthCheckFilter":
      return () => true;
    case "runtimeFilter": {
      const share = percentOf(specifier.value.percentSampled) ?? 0;
      return () => deps.world.random() < share;
    }
    case "andFilter": {
      const tests = specifier.value.filters.map((one) => filterTest(one, deps));
      return (facts) => tests.every((test) => test(facts));
    }
    case "orFilter": {
      const tests = specifier.value.filters.map((one) => filterTest(one, deps));
      return (facts) => tests.some((test) => test(facts));
    }
    case "headerFilter": {
      const matcher = specifier.value.header;
      if (!matcher) throw new Unservable("access log: a header filter without header");
      const test = compileHeaderMatcher(matcher);
      const name = matcher.name.toLowerCase();
      return (facts) => test(facts.requestHeader?.(name));
    }
    case "responseFlagFilter": {
      const wanted = new Set(specifier.value.flags);
      if (wanted.size === 0) return (facts) => facts.flags.length > 0;
      return (facts) => facts.flags.some((flag) => wanted.has(flag));
    }
    default:
      throw new Unservable(`access log filter '${specifier?.$case ?? "none"}' is not served`);
  }
}
