/**
 * The incremental engine: every controller is a pure function from collections to collections, and the engine
 * recomputes what a change touches and nothing else (laws 2 to 7).
 */
export { derive, type FlatOptions, flatDerive, type Read } from "./derive.ts";
export { type Bug, Engine, type Work } from "./engine.ts";
export { equal } from "./equal.ts";
export { holdBack } from "./hold.ts";
export { joinPartitions, type PartitionJoin } from "./join.ts";
export { group, index, type Keys } from "./keyed.ts";
export { type Source, type SourceState, source } from "./source.ts";
export type { Change, Collection, Sink, Waiting } from "./table.ts";
export { type Why, why } from "./why.ts";
