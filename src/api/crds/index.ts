/** The CustomResourceDefinitions that Weft brings, as objects ready to be applied. */
import type { CustomResourceDefinition } from "../core.ts";
import { clusterPropertyDefinition } from "./about.ts";
import { serviceExportDefinition, serviceImportDefinition } from "./multicluster.ts";
import { endpointOfferDefinition, peerReportDefinition, serviceOfferDefinition } from "./offer.ts";

export const definitions: readonly CustomResourceDefinition[] = [
  serviceExportDefinition,
  serviceImportDefinition,
  clusterPropertyDefinition,
  serviceOfferDefinition,
  endpointOfferDefinition,
  peerReportDefinition,
];
