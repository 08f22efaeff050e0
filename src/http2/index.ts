export { Connection, type ConnectionEvents, type ConnectionOptions } from "./connection.ts";
export { ConnectionError, errorCode, preface } from "./frames.ts";
export { fieldOf, framed, type GrpcStatus, grpcMessage, grpcStatus, keepAlive, messages } from "./grpc.ts";
export { type ClosedBy, Stream, type StreamEvents } from "./stream.ts";
