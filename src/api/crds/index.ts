/** The CustomResourceDefinitions that Weft brings, as objects ready to be applied. */
import type { CustomResourceDefinition } from "../core.ts";
import { clusterPropertyDefinition } from "./about.ts";
import {
  serviceMeshControlPlaneDefinition,
  serviceMeshMemberDefinition,
  serviceMeshMemberRollDefinition,
} from "./maistra.ts";
import { serviceExportDefinition, serviceImportDefinition } from "./multicluster.ts";
import {
  endpointOfferDefinition,
  peerReportDefinition,
  serviceOfferDefinition,
  trustBundleDefinition,
} from "./offer.ts";
import { publishedDefinitions } from "./published.ts";
import { rateLimitDefinition } from "./weft-mesh.ts";

let all: readonly CustomResourceDefinition[] | undefined;

/** All of them; made when first asked for, since only who installs needs them. */
export function definitions(): readonly CustomResourceDefinition[] {
  all ??= [
    serviceExportDefinition,
    serviceImportDefinition,
    clusterPropertyDefinition,
    serviceOfferDefinition,
    endpointOfferDefinition,
    peerReportDefinition,
    trustBundleDefinition,
    serviceMeshControlPlaneDefinition,
    serviceMeshMemberRollDefinition,
    serviceMeshMemberDefinition,
    ...publishedDefinitions(),
    rateLimitDefinition,
  ];
  return all;
}
