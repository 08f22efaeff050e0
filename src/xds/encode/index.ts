/** The routing model as Envoy's resources. Pure, and each object of the model is encoded once. */
export { encodeUpstream, hasEndpoints } from "./clusters.ts";
export { encodeEndpoints, noEndpoints } from "./endpoints.ts";
export { encodeListener } from "./listeners.ts";
export { type Encoded, type Kind, typeUrls } from "./pack.ts";
export { encodeRouteTable } from "./routes.ts";
export { encodeSecret, type TlsSecret } from "./secrets.ts";
export { caSecretName, sdsDirectory } from "./tls.ts";
