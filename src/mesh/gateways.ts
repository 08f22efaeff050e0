/** The gateways of a mesh: proxies of their own behind a Service. */
import {
  type Container,
  type Deployment,
  gatewayApi,
  type MeshSettings,
  type Service,
  type ServiceAccount,
  type Volume,
} from "../api/index.ts";
import { labelsOf, metadataOf } from "./objects.ts";
import type { GatewaySpec, Mesh } from "./spec.ts";

/** The proxy's container and volumes: the same as in sidecars. `control.ts` hands over what `injection/` has. */
export interface ProxyTemplate {
  container(options: {
    role: "gateway";
    mesh: MeshSettings;
    workload: { name: string; owner: string };
    labels: Readonly<Record<string, string>>;
    resources?: NonNullable<Container["resources"]>;
    ports: NonNullable<Container["ports"]>;
  }): Container;
  volumes(): Volume[];
}

const component = "gateway";

/** On a gateway's pods, where `app` and `istio` are not their own: which gateway's they are. */
const gatewayLabel = "mesh.weft.dev/gateway";

/**
 * What its Service selects, and Gateways select by: `istio: ingressgateway` for `istio-ingressgateway`. A control plane
 * may give other values of both labels, also those of another gateway; its pods are its own all the same.
 */
export function selectorOf({ name, labels }: GatewaySpec): Record<string, string> {
  const usual = { app: name, istio: name.replace(/^istio-/, "") };
  const { app = usual.app, istio = usual.istio } = labels;
  const own = app === usual.app && istio === usual.istio;
  return { app, istio, ...(!own && { [gatewayLabel]: name }) };
}

/** As Istio names it; in principals of policies: `.../sa/istio-ingressgateway-service-account`. */
function accountName({ name }: GatewaySpec): string {
  return `${name}-service-account`;
}

export function gatewayAccount(mesh: Mesh, gateway: GatewaySpec): ServiceAccount {
  return {
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: metadataOf(mesh, accountName(gateway), component),
  };
}

export function gatewayService(mesh: Mesh, gateway: GatewaySpec): Service {
  const metadata = metadataOf(mesh, gateway.name, component);
  const { serviceAnnotations, loadBalancerIP } = gateway;
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: {
      ...metadata,
      labels: { ...gateway.labels, ...selectorOf(gateway), ...metadata.labels },
      ...(Object.keys(serviceAnnotations).length > 0 && { annotations: { ...serviceAnnotations } }),
    },
    spec: {
      type: gateway.type,
      selector: selectorOf(gateway),
      ports: [...gateway.ports],
      ...(loadBalancerIP && { loadBalancerIP }),
    },
  };
}

export function gatewayDeployment(mesh: Mesh, gateway: GatewaySpec, proxy: ProxyTemplate): Deployment {
  const { name, namespace } = gateway;
  const labels = { ...gateway.labels, ...labelsOf(mesh, component), ...selectorOf(gateway) };
  const targets = gateway.ports.flatMap(({ targetPort, port }) =>
    typeof targetPort === "string" ? [] : [targetPort ?? port],
  );
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: metadataOf(mesh, name, component),
    spec: {
      replicas: gateway.replicas,
      selector: { matchLabels: selectorOf(gateway) },
      strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
      template: {
        metadata: { labels, annotations: { "sidecar.istio.io/inject": "false" } },
        spec: {
          serviceAccountName: accountName(gateway),
          containers: [
            proxy.container({
              role: "gateway",
              mesh: mesh.settings,
              workload: {
                name,
                owner: `kubernetes://apis/apps/v1/namespaces/${namespace}/deployments/${name}`,
              },
              labels,
              ports: [...new Set(targets)].map((containerPort) => ({ containerPort, protocol: "TCP" })),
              ...(gateway.resources && { resources: gateway.resources }),
            }),
          ],
          volumes: proxy.volumes(),
        },
      },
    },
  };
}

/** What Gateways of the Gateway API name to be served by a mesh's gateways. There while there is a mesh. */
export function gatewayClass(): gatewayApi.GatewayClass {
  return {
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "GatewayClass",
    metadata: { name: gatewayApi.gatewayClass },
    spec: {
      controllerName: gatewayApi.gatewayController,
      description: "Gateways on the ingress gateways of Weft's meshes",
    },
    status: {
      conditions: [
        {
          type: "Accepted",
          status: "True",
          reason: "Accepted",
          message: "Served by the gateways of this cluster's meshes",
          lastTransitionTime: "",
        },
      ],
    },
  };
}
