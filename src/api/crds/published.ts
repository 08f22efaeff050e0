/**
 * The definitions of others whose kinds Weft serves, out of `*.generated.json` (written by `scripts/crds.ts` from
 * the modules that each file names, under the Apache License 2.0). Only who installs reads them, so they are read
 * when they are asked for.
 */
import { readFileSync } from "node:fs";
import type { CustomResourceDefinition, JSONSchemaProps } from "../core.ts";

interface Published {
  /** Go module, version and path. */
  source: string;
  license: string;
  schemas: JSONSchemaProps[];
  definitions: (Omit<CustomResourceDefinition, "spec"> & {
    spec: Omit<CustomResourceDefinition["spec"], "versions"> & {
      /** `schema` is a number in `schemas`. */
      versions: (Omit<CustomResourceDefinition["spec"]["versions"][number], "schema"> & { schema: number })[];
    };
  })[];
}

/** Istio's and the Gateway API's, as their authors publish them, without descriptions. */
export function publishedDefinitions(): CustomResourceDefinition[] {
  return ["istio", "gateway-api"].flatMap((name) => {
    const file = new URL(`./${name}.generated.json`, import.meta.url);
    const { schemas, definitions } = JSON.parse(readFileSync(file, "utf8")) as Published;
    return definitions.map((definition) => ({
      ...definition,
      spec: {
        ...definition.spec,
        versions: definition.spec.versions.map(({ schema, ...version }) => ({
          ...version,
          schema: { openAPIV3Schema: schemas[schema]! },
        })),
      },
    }));
  });
}
