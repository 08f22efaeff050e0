/** gRPC as the proxy sees it: which requests are gRPC, its status codes, and what they are in HTTP. */

const names = [
  "OK",
  "Canceled",
  "Unknown",
  "InvalidArgument",
  "DeadlineExceeded",
  "NotFound",
  "AlreadyExists",
  "PermissionDenied",
  "ResourceExhausted",
  "FailedPrecondition",
  "Aborted",
  "OutOfRange",
  "Unimplemented",
  "Internal",
  "Unavailable",
  "DataLoss",
  "Unauthenticated",
];

/** As Envoy prints it in logs. */
export function grpcStatusName(status: number): string | undefined {
  return names[status];
}

/** `application/grpc`, also with `+proto` and the like; not gRPC-Web. */
export function isGrpc(contentType: string | undefined): boolean {
  return (
    contentType?.startsWith("application/grpc") === true &&
    (contentType.length === 16 || contentType[16] === "+" || contentType[16] === ";")
  );
}

/** What a proxy's own HTTP answer is in gRPC (Envoy's Grpc::Utility::httpToGrpcStatus). */
export function grpcStatusOf(http: number): number {
  switch (http) {
    case 400:
      return 13;
    case 401:
      return 16;
    case 403:
      return 7;
    case 404:
      return 12;
    case 429:
    case 502:
    case 503:
    case 504:
      return 14;
    default:
      return 2;
  }
}

/** What a gRPC status counts as where HTTP's are looked at (outlier detection, metrics). */
export function httpStatusOf(grpc: number): number {
  switch (grpc) {
    case 0:
      return 200;
    case 1:
      return 499;
    case 3:
    case 9:
    case 11:
      return 400;
    case 4:
      return 504;
    case 5:
      return 404;
    case 6:
    case 10:
      return 409;
    case 7:
      return 403;
    case 8:
      return 429;
    case 12:
      return 501;
    case 14:
      return 503;
    case 16:
      return 401;
    default:
      return 500;
  }
}

/** The deadline that a `grpc-timeout` names, ms. */
export function grpcTimeout(text: string | undefined): number | undefined {
  const match = /^(\d{1,8})([HMSmun])$/.exec(text ?? "");
  if (!match) return undefined;
  const unit = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 0.001, n: 0.000_001 }[match[2] as "H"];
  return Math.ceil(Number(match[1]) * unit);
}
