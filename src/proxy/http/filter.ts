import type { Timer } from "../../world/index.ts";
import type { Downstream } from "../contract.ts";
import type { FilterSetting } from "./filter-configs.ts";
import type { Headers, RequestHead } from "./headers.ts";
import type { Route } from "./routes.ts";

/** A request as filters see it. */
export interface FilteredRequest {
  readonly head: RequestHead;
  /** The path without query and fragment. */
  readonly plainPath: string;
  readonly connection: Downstream;
  readonly route: Route | undefined;
  /** The client's address, as far as x-forwarded-for is trusted. */
  readonly remoteIp: string;
  metadata: Record<string, Record<string, unknown>> | undefined;
  /** What the route says to the filter of that name. */
  setting(filter: string): FilterSetting | undefined;
  /** The cluster that the route leads to, as far as that is one. */
  destination(): string;
  addFlag(flag: string): void;
  /** Answers in the upstream's place. */
  reply(answer: LocalReply): void;
  /** Goes on after a filter that said false. */
  resume(): void;
  /** Calls later, while there is the request; what is thrown there is the request's. */
  after(delay: number, act: () => void): Timer;
  /** Free for filters, by the filter. */
  readonly notes: Map<object, unknown>;
}

/** An answer of the proxy's own. */
export interface LocalReply {
  status: number;
  body: string | Buffer;
  /** Envoy's words for %RESPONSE_CODE_DETAILS%. */
  details: string;
  /** To gRPC clients, in place of what the status maps to. */
  grpcStatus?: number;
  headers?: (headers: Headers) => void;
}

/** One http filter of a connection manager; the same object for all its requests. */
export interface HttpFilter {
  readonly name: string;
  /** False: stopped, it replied, or it will call `resume`. */
  request(request: FilteredRequest): boolean;
  response?(request: FilteredRequest, headers: Headers, status: number): void;
  /** The request is over, whatever way. */
  end?(request: FilteredRequest): void;
}
