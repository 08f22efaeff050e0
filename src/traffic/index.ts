/** VirtualService, DestinationRule, Gateway, policies and their kin become one routing model. */
export * from "./model.ts";
