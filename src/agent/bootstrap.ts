/**
 * What Envoy is started with: who it is, where discovery is, its admin port, and how its own connections pass the
 * redirection. Everything else comes from discovery. Source: Envoy's `config/bootstrap/v3/bootstrap.proto`, and what
 * Istio's agent writes.
 */
import type { Node } from "./node.ts";

/** Only this pod reaches it. */
export const adminPort = 15000;
/** The secret, and the file in the SDS directory, that says whom to believe that it is discovery. */
export const discoveryRoots = "DISCOVERY";

export interface BootstrapOptions {
  node: Node;
  ads: { host: string; port: number };
  bindAddress: string | undefined;
  /** The directory with `default.json` and `DISCOVERY.json`. */
  sds: string;
}

/** As JSON. */
export function bootstrap({ node, ads, bindAddress, sds }: BootstrapOptions): object {
  const { subZone, ...locality } = node.locality;
  return {
    node: { ...node, locality: { ...locality, sub_zone: subZone } },
    admin: {
      address: socketAddress("127.0.0.1", adminPort),
      // Nobody reads it, and every probe would be in it.
      access_log: [],
      ignore_global_conn_limit: true,
    },
    layered_runtime: {
      layers: [
        {
          name: "static",
          static_layer: {
            // As Istio: a regex may be as large as its users need.
            "re2.max_program_size.error_level": 32768,
            "re2.max_program_size.warn_level": 32768,
          },
        },
        { name: "admin", admin_layer: {} },
      ],
    },
    dynamic_resources: {
      ads_config: {
        api_type: "DELTA_GRPC",
        transport_api_version: "V3",
        set_node_on_first_message_only: true,
        grpc_services: [{ envoy_grpc: { cluster_name: "xds-grpc", retry_policy: retryPolicy } }],
      },
      cds_config: { ads: {}, initial_fetch_timeout: "0s", resource_api_version: "V3" },
      lds_config: { ads: {}, initial_fetch_timeout: "0s", resource_api_version: "V3" },
    },
    ...(bindAddress && {
      cluster_manager: { upstream_bind_config: { source_address: { address: bindAddress, port_value: 0 } } },
    }),
    static_resources: { clusters: [discovery(ads, sds)] },
  };
}

/** After an outage of discovery it is asked again within 10 s: for that long rules are old. Envoy's own is 30 s. */
const retryPolicy = { retry_back_off: { base_interval: "0.5s", max_interval: "10s" } };

function discovery({ host, port }: { host: string; port: number }, sds: string): object {
  return {
    name: "xds-grpc",
    type: "STRICT_DNS",
    respect_dns_ttl: true,
    dns_lookup_family: "V4_ONLY",
    connect_timeout: "1s",
    lb_policy: "ROUND_ROBIN",
    load_assignment: {
      cluster_name: "xds-grpc",
      endpoints: [{ lb_endpoints: [{ endpoint: { address: socketAddress(host, port) } }] }],
    },
    typed_extension_protocol_options: {
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        // A connection that died silently is found out within half a minute.
        explicit_http_config: {
          http2_protocol_options: { connection_keepalive: { interval: "20s", timeout: "10s" } },
        },
      },
    },
    transport_socket: {
      name: "envoy.transport_sockets.tls",
      typed_config: {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        sni: host,
        common_tls_context: {
          alpn_protocols: ["h2"],
          tls_certificate_sds_secret_configs: [{ name: "default", sds_config: fromFile(sds, "default") }],
          combined_validation_context: {
            default_validation_context: {
              match_typed_subject_alt_names: [{ san_type: "DNS", matcher: { exact: host } }],
            },
            validation_context_sds_secret_config: {
              name: discoveryRoots,
              sds_config: fromFile(sds, discoveryRoots),
            },
          },
        },
      },
    },
  };
}

function fromFile(sds: string, name: string): object {
  return {
    path_config_source: { path: `${sds}/${name}.json`, watched_directory: { path: sds } },
    resource_api_version: "V3",
  };
}

/** The contents of `DISCOVERY.json`. */
export function discoveryRootsFile(rootsPem: string): string {
  const secret = {
    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
    name: discoveryRoots,
    validation_context: { trusted_ca: { inline_string: rootsPem } },
  };
  return `${JSON.stringify({ resources: [secret] })}\n`;
}

const socketAddress = (address: string, port: number) => ({
  socket_address: { address, port_value: port },
});
