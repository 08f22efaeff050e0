/** The words: kinds, their types and URLs, names of labels, the table of errors. */
export * from "./about.ts";
export * from "./core.ts";
export * from "./crds/index.ts";
export * from "./errors.ts";
export * from "./meta.ts";
export * from "./multicluster.ts";
export * from "./names.ts";
export * from "./offer.ts";
