/** VirtualService, DestinationRule, Gateway, policies and their kin become one routing model. */
export type { Traffic, TrafficInputs } from "./inputs.ts";
export * from "./model.ts";
