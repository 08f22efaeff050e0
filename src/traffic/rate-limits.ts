/** RateLimits that apply to a workload or gateway. */
import type { RateLimit, RateLimitRule } from "../api/index.ts";
import type { LocalRateLimit, NamedMatch, OperationMatch } from "./model.ts";
import { milliseconds } from "./names.ts";
import { matchOf, stringMatch } from "./routes.ts";
import { isHeaderName, regexProblem } from "./valid.ts";
import { selects } from "./workloads.ts";

/** Whole numbers that Envoy counts, an interval that it takes, names that headers have. */
export function isUsable(limit: RateLimitRule): boolean {
  const counts = (value: number) => Number.isInteger(value) && value > 0 && value <= 4_294_967_295;
  const interval = milliseconds(limit.interval);
  if (interval === undefined || interval < 50 || interval > longestInterval) return false;
  if (!counts(limit.tokens) || (limit.burst !== undefined && !counts(limit.burst))) return false;
  const names = [
    ...Object.keys(limit.match?.headers ?? {}),
    ...(limit.per?.header ? [limit.per.header] : []),
  ];
  return names.every(isHeaderName) && (limit.match?.methods ?? []).every((method) => /^[A-Z]+$/.test(method));
}

/** The same limit for the requests to some hosts alone. */
export function limitWithin(
  limit: LocalRateLimit,
  { hosts = [], notHosts = [] }: OperationMatch,
): LocalRateLimit {
  const authority = (list: readonly string[], invert: boolean): NamedMatch[] =>
    list.length === 0
      ? []
      : [
          {
            name: ":authority",
            match: { kind: "regex", value: list.map(hostRegex).join("|"), ignoreCase: true },
            invert,
          },
        ];
  const { path = { kind: "prefix", value: "/" }, headers = [], query = [] } = limit.match ?? {};
  return {
    ...limit,
    match: { path, headers: [...headers, ...authority(hosts, false), ...authority(notHosts, true)], query },
  };
}

/** `host`, `host:*`, `*.host`, `*`. */
function hostRegex(host: string): string {
  return host
    .split("*")
    .map((part) => part.replace(/[.:]/g, "\\$&"))
    .join(".*");
}

/** A year; longer than that no bucket is filled. */
const longestInterval = 365 * 24 * 3_600_000;

/** `own` are those of the workload's namespace; `targets` the `Kind/name`s that it serves. */
export function rateLimitsOf(
  workload: { labels: Readonly<Record<string, string>>; targets?: ReadonlySet<string> },
  own: readonly RateLimit[],
): LocalRateLimit[] {
  return own.flatMap(({ metadata, spec }) => {
    if (!spec || metadata.deletionTimestamp) return [];
    const targets = spec.targetRefs ?? [];
    const mine =
      targets.length > 0
        ? targets.some(({ kind, name }) => workload.targets?.has(`${kind}/${name}`))
        : !workload.targets?.size && selects(spec.selector?.matchLabels, workload.labels);
    if (!mine) return [];
    return (spec.limits ?? []).flatMap((limit, i): LocalRateLimit[] => {
      const interval = milliseconds(limit.interval);
      if (!isUsable(limit) || !interval) return [];
      const texts = [limit.match?.path, ...Object.values(limit.match?.headers ?? {})];
      if (texts.some((text) => text?.regex && regexProblem(text.regex))) return [];
      const headers: NamedMatch[] = Object.entries(limit.match?.headers ?? {}).map(([name, value]) => ({
        name: name.toLowerCase(),
        match: stringMatch(value),
        invert: false,
      }));
      if (limit.match?.methods?.length)
        headers.push({
          name: ":method",
          match:
            limit.match.methods.length === 1
              ? { kind: "exact", value: limit.match.methods[0]! }
              : {
                  kind: "regex",
                  value: limit.match.methods.join("|"),
                },
          invert: false,
        });
      const path = limit.match?.path && matchOf({ uri: limit.match.path }).path;
      return [
        {
          name: `${metadata.namespace}/${metadata.name}/${limit.name}`,
          tokens: limit.burst ?? limit.tokens,
          fill: limit.tokens,
          interval,
          ...((path || headers.length > 0) && {
            match: { path: path ?? { kind: "prefix", value: "/" }, headers, query: [] },
          }),
          ...(limit.per?.header
            ? { per: { kind: "header" as const, name: limit.per.header.toLowerCase() } }
            : limit.per?.clientIdentity
              ? { per: { kind: "client-identity" as const } }
              : {}),
          origins: [
            {
              kind: "RateLimit",
              namespace: metadata.namespace ?? "",
              name: metadata.name,
              field: `spec.limits[${i}]`,
            },
          ],
        },
      ];
    });
  });
}
