/**
 * How requests reach an API server. The real one is HTTPS; the lab's in-process callers and the simulation
 * (law 12) hand requests to the embedded API server without a socket. Nothing above this line can tell.
 */

export interface KubeRequest {
  method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Path and query, e.g. `/api/v1/pods?watch=1`. */
  path: string;
  /** Lower-case names. */
  headers?: Record<string, string>;
  body?: string | Uint8Array;
  /** Ends the request and the response's body. */
  signal?: AbortSignal;
}

export interface KubeResponse {
  status: number;
  /** Lower-case names. */
  headers: Record<string, string>;
  /** Ends when the server has said all; throws when the connection breaks before that. */
  body: AsyncIterable<Uint8Array>;
}

/** Sends one request. Rejects when no response could be had at all; a refusal is a response. */
export type Transport = (request: KubeRequest) => Promise<KubeResponse>;
