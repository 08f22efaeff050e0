/**
 * The formats of access logs: text with Envoy's command operators (`%REQ(:METHOD)%`, `%RESPONSE_FLAGS%` …). Envoy refuses
 * a listener, and the embedded proxy too, for one operator that it does not know; so a format is looked at before it
 * gets anywhere. Source: Envoy "Access log format strings"; what takes parameters was asked of Envoy itself.
 */

/** Operators that are served, by what may follow their name; all of them without parameters unless said otherwise. */
const alone = [
  "PROTOCOL",
  "RESPONSE_CODE",
  "CONNECTION_TERMINATION_DETAILS",
  "RESPONSE_FLAGS",
  "UPSTREAM_TRANSPORT_FAILURE_REASON",
  "BYTES_RECEIVED",
  "BYTES_SENT",
  "DOWNSTREAM_WIRE_BYTES_RECEIVED",
  "DOWNSTREAM_WIRE_BYTES_SENT",
  "DURATION",
  "REQUEST_DURATION",
  "REQUEST_TX_DURATION",
  "RESPONSE_DURATION",
  "RESPONSE_TX_DURATION",
  "UPSTREAM_HOST",
  "UPSTREAM_REMOTE_ADDRESS",
  "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
  "UPSTREAM_REMOTE_PORT",
  "UPSTREAM_LOCAL_ADDRESS",
  "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
  "UPSTREAM_LOCAL_PORT",
  "UPSTREAM_CLUSTER",
  "UPSTREAM_CLUSTER_RAW",
  "UPSTREAM_TLS_VERSION",
  "UPSTREAM_TLS_CIPHER",
  "UPSTREAM_PEER_URI_SAN",
  "UPSTREAM_PEER_DNS_SAN",
  "UPSTREAM_PEER_SUBJECT",
  "DOWNSTREAM_REMOTE_ADDRESS",
  "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
  "DOWNSTREAM_REMOTE_PORT",
  "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
  "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
  "DOWNSTREAM_DIRECT_REMOTE_PORT",
  "DOWNSTREAM_LOCAL_ADDRESS",
  "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
  "DOWNSTREAM_LOCAL_PORT",
  "DOWNSTREAM_TLS_VERSION",
  "DOWNSTREAM_TLS_CIPHER",
  "DOWNSTREAM_PEER_URI_SAN",
  "DOWNSTREAM_PEER_DNS_SAN",
  "DOWNSTREAM_PEER_SUBJECT",
  "DOWNSTREAM_PEER_ISSUER",
  "DOWNSTREAM_PEER_SERIAL",
  "DOWNSTREAM_PEER_FINGERPRINT_256",
  "DOWNSTREAM_PEER_CERT",
  "DOWNSTREAM_LOCAL_URI_SAN",
  "DOWNSTREAM_LOCAL_SUBJECT",
  "REQUESTED_SERVER_NAME",
  "ROUTE_NAME",
  "VIRTUAL_CLUSTER_NAME",
  "FILTER_CHAIN_NAME",
  "CONNECTION_ID",
  "HOSTNAME",
  "GRPC_STATUS",
  "GRPC_STATUS_NUMBER",
];

/** What must stand in parentheses, and whether `:LENGTH` may follow. */
const parameters: Readonly<Record<string, { wanted: RegExp; optional?: true; length?: true; says: string }>> =
  {
    START_TIME: { wanted: /^/, optional: true, says: "a format of strftime" },
    RESPONSE_CODE_DETAILS: { wanted: /^$/, optional: true, says: "nothing" },
    ...Object.fromEntries(
      ["REQ", "RESP", "TRAILER"].map((name) => [
        name,
        {
          wanted: /^:?[-\w.!#$&'*+^`|~]+(\?:?[-\w.!#$&'*+^`|~]+)?$/,
          length: true as const,
          says: "the name of a header, or two (a?b)",
        },
      ]),
    ),
    DYNAMIC_METADATA: { wanted: /^[^:]+(:[^:]+)*$/, length: true, says: "a namespace and keys (a:b)" },
    UPSTREAM_METADATA: { wanted: /^[^:]+(:[^:]+)*$/, says: "a namespace and keys (a:b)" },
    CLUSTER_METADATA: { wanted: /^[^:]+(:[^:]+)*$/, says: "a namespace and keys (a:b)" },
    FILTER_STATE: { wanted: /^[^:]+(:(PLAIN|TYPED))?$/, length: true, says: "a key, and PLAIN or TYPED" },
    ENVIRONMENT: { wanted: /^.+$/, length: true, says: "the name of a variable" },
  };

/** Names of all operators that are served. */
export const accessLogOperators: readonly string[] = [...alone, ...Object.keys(parameters)];

const known = new Set(accessLogOperators);
const operator = /^%([A-Z][A-Z0-9_]*)(?:\(((?:[^)]|\)(?!%|:\d))*)\))?(?::(\d+))?%/;

/** Why proxies would refuse a format; undefined where they take it. */
export function accessLogFormatProblem(format: string): string | undefined {
  for (let at = format.indexOf("%"); at >= 0; at = format.indexOf("%", at)) {
    if (format[at + 1] === "%") {
      at += 2;
      continue;
    }
    const found = operator.exec(format.slice(at));
    if (!found)
      return `"${format.slice(at, at + 20)}" is no operator (%NAME% or %NAME(…)%; a percent sign is %%)`;
    const [text, name = "", given, length] = found;
    if (!known.has(name)) return `the operator %${name}% is not served`;
    const rule = parameters[name];
    if (given === undefined ? rule && !rule.optional : !rule?.wanted.test(given))
      return `%${name}% takes ${rule?.says ?? "nothing"} in parentheses`;
    if (length !== undefined && !rule?.length) return `%${name}% takes no length`;
    at += text.length;
  }
  return undefined;
}
