/**
 * What Envoy would refuse, and with it the whole table that it is part of (law 6): such a match never matches, such a
 * route answers 503, and a finding says so. The definitions' schemas catch much of it before; not all, and nothing
 * in files.
 */
import { RE2JS } from "re2js";
import type { HeaderRules, HttpMatchRequest, HttpRoute, StringMatch } from "../api/index.ts";
import { isPort, milliseconds } from "./names.ts";

/** What is wrong, and where. */
export interface Problem {
  field: string;
  message: string;
}

const known = new Map<string, string | undefined>();

/** Why a text is no regular expression of RE2's; undefined where it is one. */
export function regexProblem(regex: string): string | undefined {
  if (known.has(regex)) return known.get(regex);
  let problem: string | undefined;
  try {
    RE2JS.compile(regex);
  } catch (error) {
    problem = (error instanceof Error ? error.message : String(error)).replace(/^error parsing regexp: /, "");
  }
  if (known.size > 10_000) known.clear(); // a memory of what was found out, nothing else
  known.set(regex, problem);
  return problem;
}

/** RFC 9110 "token"; a colon in front for HTTP/2's own. */
const headerName = /^:?[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const notInHeaders = /[\r\n\0]/;
/** Of texts that become part of a header. */
const control = /\p{Cc}/u;

/** A name that a header or a cookie can have. */
export function isHeaderName(name: string): boolean {
  return headerName.test(name);
}

/**
 * Envoy reads %COMMAND% in header values; one that it does not know has the table refused. Source: Envoy "Access log
 * format strings"; those that make sense in a header.
 */
const commands =
  /%(?:%|(?:REQ|RESP|TRAILER|DYNAMIC_METADATA|FILTER_STATE|UPSTREAM_METADATA|CLUSTER_METADATA|ENVIRONMENT|START_TIME)\([^()%]*\)(?::\d+)?%|(?:START_TIME|PROTOCOL|HOSTNAME|ROUTE_NAME|REQUESTED_SERVER_NAME|CONNECTION_ID|STREAM_ID|RESPONSE_CODE|RESPONSE_FLAGS|RESPONSE_CODE_DETAILS|VIRTUAL_CLUSTER_NAME|UPSTREAM_CLUSTER|UPSTREAM_HOST|UPSTREAM_LOCAL_ADDRESS|UPSTREAM_REMOTE_ADDRESS|DOWNSTREAM_(?:REMOTE|LOCAL|DIRECT_REMOTE)_(?:ADDRESS|ADDRESS_WITHOUT_PORT|PORT)|DOWNSTREAM_(?:PEER|LOCAL)_(?:URI_SAN|DNS_SAN|SUBJECT|ISSUER|SERIAL|FINGERPRINT_256|FINGERPRINT_1|CERT)|DOWNSTREAM_TLS_(?:VERSION|CIPHER|SESSION_ID))%)/g;

const redirectCodes = new Set([301, 302, 303, 307, 308]);
/** `max_direct_response_body_size_bytes`, as xds/ sets it. */
const longestBody = 1_048_576;

/** Of one match. */
export function matchProblems(match: HttpMatchRequest, field: string): Problem[] {
  const problems: Problem[] = [];
  const check = (value: StringMatch | undefined, at: string) => {
    const problem = value?.regex ? regexProblem(value.regex) : undefined;
    if (problem)
      problems.push({ field: `${at}.regex`, message: `not a regular expression of RE2: ${problem}` });
  };
  check(match.uri, `${field}.uri`);
  check(match.scheme, `${field}.scheme`);
  check(match.method, `${field}.method`);
  check(match.authority, `${field}.authority`);
  for (const part of ["headers", "withoutHeaders", "queryParams"] as const)
    for (const [name, value] of Object.entries(match[part] ?? {})) {
      check(value, `${field}.${part}.${name}`);
      if (name === "" || (part !== "queryParams" && !headerName.test(name)))
        problems.push({
          field: `${field}.${part}`,
          message: `"${name}" cannot be a ${part === "queryParams" ? "parameter" : "header"}'s name`,
        });
    }
  return problems;
}

/** Of all but the matches. */
export function routeProblems(route: HttpRoute, field: string): Problem[] {
  const problems: Problem[] = [];
  const say = (at: string, message: string) => problems.push({ field: `${field}.${at}`, message });
  const actions = [
    route.route?.length && "route",
    route.redirect && "redirect",
    route.directResponse && "directResponse",
    route.delegate && "delegate",
  ].filter((each) => each);
  if (actions.length === 0)
    problems.push({ field, message: "it says not what to do: route, redirect, directResponse or delegate" });
  else if (actions.length > 1)
    problems.push({ field, message: `it says both ${actions.join(" and ")}; one of them holds` });
  duration(route.timeout, `${field}.timeout`, problems);
  duration(route.retries?.perTryTimeout, `${field}.retries.perTryTimeout`, problems);
  duration(route.retries?.backoff, `${field}.retries.backoff`, problems);
  duration(route.corsPolicy?.maxAge, `${field}.corsPolicy.maxAge`, problems);
  duration(route.fault?.delay?.fixedDelay, `${field}.fault.delay.fixedDelay`, problems);
  headerProblems(route.headers, `${field}.headers`, problems);
  if ((route.retries?.attempts ?? 0) < 0) say("retries.attempts", "cannot be negative");
  const code = route.redirect?.redirectCode;
  if (code && !redirectCodes.has(code)) say("redirect.redirectCode", `${code} is no redirect`);
  for (const [at, text] of [
    ["redirect.uri", route.redirect?.uri],
    ["redirect.prefixRewrite", route.redirect?.prefixRewrite],
    ["redirect.authority", route.redirect?.authority],
    ["rewrite.uri", route.rewrite?.uri],
    ["rewrite.authority", route.rewrite?.authority],
    ["rewrite.uriRegexRewrite.rewrite", route.rewrite?.uriRegexRewrite?.rewrite],
  ] as const)
    if (text !== undefined && control.test(text))
      say(at, "it must not have line breaks or other control characters");
  if (route.redirect?.port && !isPort(route.redirect.port))
    say("redirect.port", `${route.redirect.port} is no port`);
  if (route.redirect?.scheme && !/^https?$/.test(route.redirect.scheme))
    say("redirect.scheme", `"${route.redirect.scheme}" is neither http nor https`);
  const delay = route.fault?.delay;
  if (delay?.fixedDelay !== undefined && milliseconds(delay.fixedDelay) === 0)
    say("fault.delay.fixedDelay", "there must be a time to wait");
  if (route.mirror && !route.mirror.host) say("mirror.host", "there must be one");
  route.mirrors?.forEach(({ destination }, i) => {
    if (!destination?.host) say(`mirrors[${i}].destination.host`, "there must be one");
  });
  route.corsPolicy?.allowOrigins?.forEach((origin, i) => {
    if (Object.values(origin).every((value) => value === undefined))
      say(`corsPolicy.allowOrigins[${i}]`, "there must be exact, prefix or regex");
  });
  const response = route.directResponse;
  if (response) {
    const { status } = response;
    if (status === undefined || status < 200 || status > 599)
      say("directResponse.status", `${status ?? "none"} is not between 200 and 599`);
    if ((response.body?.string ?? "").length > longestBody)
      say("directResponse.body", `longer than ${longestBody} bytes`);
  }
  const abort = route.fault?.abort;
  if (abort?.httpStatus !== undefined && (abort.httpStatus < 200 || abort.httpStatus > 599))
    say("fault.abort.httpStatus", `${abort.httpStatus} is not between 200 and 599`);
  percent(route.fault?.delay?.percentage?.value, `${field}.fault.delay.percentage`, problems);
  percent(abort?.percentage?.value, `${field}.fault.abort.percentage`, problems);
  percent(route.mirrorPercentage?.value, `${field}.mirrorPercentage`, problems);
  for (const [i, { percentage }] of (route.mirrors ?? []).entries())
    percent(percentage?.value, `${field}.mirrors[${i}].percentage`, problems);
  const rewrite = route.rewrite?.uriRegexRewrite;
  const wrong = rewrite?.match ? regexProblem(rewrite.match) : undefined;
  if (wrong) say("rewrite.uriRegexRewrite.match", `not a regular expression of RE2: ${wrong}`);
  route.corsPolicy?.allowOrigins?.forEach(({ regex }, i) => {
    const problem = regex ? regexProblem(regex) : undefined;
    if (problem) say(`corsPolicy.allowOrigins[${i}].regex`, `not a regular expression of RE2: ${problem}`);
  });
  const match = rewrite?.match;
  if (rewrite?.rewrite && match && !wrong) {
    const groups = RE2JS.compile(match).groupCount();
    const highest = Math.max(
      0,
      ...[...rewrite.rewrite.matchAll(/\\(\d)/g)].map(([, digit]) => Number(digit)),
    );
    if (highest > groups || /\\(?![\d\\])/.test(rewrite.rewrite.replaceAll("\\\\", "")))
      say("rewrite.uriRegexRewrite.rewrite", `it refers to a group that the expression has not`);
  }
  const weights = route.route ?? [];
  if (weights.reduce((sum, { weight }) => sum + (weight ?? 0), 0) > 4_294_967_295)
    say("route", "the weights sum up to more than 4294967295");
  weights.forEach(({ weight, destination, headers }, i) => {
    if ((weight ?? 0) < 0) say(`route[${i}].weight`, "cannot be negative");
    if (!destination?.host) say(`route[${i}].destination.host`, "there must be one");
    headerProblems(headers, `${field}.route[${i}].headers`, problems);
  });
  if (weights.length > 1 && weights.every(({ weight }) => !weight))
    say("route", "none of the destinations has a weight: nothing is sent anywhere");
  return problems;
}

function duration(text: string | undefined, field: string, problems: Problem[]): void {
  if (text !== undefined && milliseconds(text) === undefined)
    problems.push({ field, message: `"${text}" is no duration, as 1.5s or 200ms are` });
}

function percent(value: number | undefined, field: string, problems: Problem[]): void {
  if (value !== undefined && (value < 0 || value > 100))
    problems.push({ field, message: `${value} is not between 0 and 100` });
}

function headerProblems(rules: HeaderRules | undefined, field: string, problems: Problem[]): void {
  for (const side of ["request", "response"] as const) {
    const operations = rules?.[side];
    for (const kind of ["set", "add"] as const)
      for (const [name, value] of Object.entries(operations?.[kind] ?? {})) {
        if (!headerName.test(name))
          problems.push({
            field: `${field}.${side}.${kind}`,
            message: `"${name}" cannot be a header's name`,
          });
        if (notInHeaders.test(value))
          problems.push({
            field: `${field}.${side}.${kind}.${name}`,
            message: "a header's value has no line breaks",
          });
        if (value.replace(commands, "").includes("%"))
          problems.push({
            field: `${field}.${side}.${kind}.${name}`,
            message: "a percent sign is written %%, or is part of a command of Envoy's, as %PROTOCOL% is",
          });
        if (/^:(?!authority$)/.test(name))
          problems.push({ field: `${field}.${side}.${kind}`, message: `"${name}" cannot be changed` });
      }
    for (const name of operations?.remove ?? [])
      if (!headerName.test(name) || /^(?::|host$)/i.test(name))
        problems.push({ field: `${field}.${side}.remove`, message: `"${name}" cannot be removed` });
  }
}
