/**
 * Writes `src/api/crds/*.generated.json`: the CustomResourceDefinitions of others whose kinds Weft serves, as their
 * authors publish them, without descriptions. They come out of Go modules, so only who runs this needs Go:
 *
 *   node scripts/crds.ts
 *
 * The files keep each schema once (Istio's versions have one shape); `src/api/crds/published.ts` puts them back.
 */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseAllDocuments } from "yaml";
import type { CustomResourceDefinition } from "../src/api/index.ts";

/** What is taken from where. Both modules are under the Apache License 2.0. */
const sources = [
  {
    file: "istio.generated.json",
    module: "istio.io/api",
    version: "v1.31.1",
    path: "kubernetes",
    kinds: {
      "networking.istio.io": [
        "virtualservices",
        "destinationrules",
        "gateways",
        "serviceentries",
        "workloadentries",
        "sidecars",
      ],
      "security.istio.io": ["peerauthentications", "authorizationpolicies"],
    },
  },
  {
    file: "gateway-api.generated.json",
    module: "sigs.k8s.io/gateway-api",
    version: "v1.6.3",
    path: "config/crd/standard",
    kinds: {
      "gateway.networking.k8s.io": ["gatewayclasses", "gateways", "httproutes", "referencegrants"],
    },
  },
];

/** Annotations that say something of the definition itself; what its author's installer goes by is left out. */
const kept = [
  "api-approved.kubernetes.io",
  "gateway.networking.k8s.io/bundle-version",
  "gateway.networking.k8s.io/channel",
];

const folder = fileURLToPath(new URL("../src/api/crds/", import.meta.url));

for (const { file, module, version, path, kinds } of sources) {
  const directory = join(download(`${module}@${version}`), path);
  const found = readdirSync(directory)
    .filter((name) => name.endsWith(".yaml"))
    .flatMap((name) => parseAllDocuments(readFileSync(join(directory, name), "utf8")))
    .map((document) => document.toJS() as CustomResourceDefinition)
    .filter((object) => object?.kind === "CustomResourceDefinition");
  const schemas: string[] = [];
  const definitions = Object.entries(kinds).flatMap(([group, plurals]) =>
    plurals.map((plural: string) => {
      const definition = found.find(({ spec }) => spec.group === group && spec.names.plural === plural);
      if (!definition) throw new Error(`${module}@${version} has no ${plural}.${group}`);
      return slim(definition, schemas);
    }),
  );
  const head = { source: `${module}@${version}/${path}`, license: "Apache-2.0" };
  const lines = (values: string[]) => `[\n${values.map((value) => `    ${value}`).join(",\n")}\n  ]`;
  const text = `{
  "source": ${JSON.stringify(head.source)},
  "license": ${JSON.stringify(head.license)},
  "schemas": ${lines(schemas)},
  "definitions": ${lines(definitions.map((definition) => JSON.stringify(definition)))}
}
`;
  writeFileSync(join(folder, file), text);
  console.log(`${file}: ${definitions.length} definitions, ${schemas.length} schemas, ${text.length} bytes`);
}

/** One definition; its schemas become numbers in `schemas`, which holds each once. */
function slim({ apiVersion, kind, metadata, spec }: CustomResourceDefinition, schemas: string[]) {
  const annotations = Object.fromEntries(
    Object.entries(metadata.annotations ?? {}).filter(([name]) => kept.includes(name)),
  );
  return {
    apiVersion,
    kind,
    metadata: { name: metadata.name, ...(Object.keys(annotations).length > 0 && { annotations }) },
    spec: {
      ...spec,
      versions: spec.versions.map(({ schema, additionalPrinterColumns: columns, ...version }) => {
        const text = JSON.stringify(withoutDescriptions(schema?.openAPIV3Schema, false));
        if (!schemas.includes(text)) schemas.push(text);
        const additionalPrinterColumns = columns?.map(({ description: _, ...column }) => column);
        return {
          ...version,
          ...(columns && { additionalPrinterColumns }),
          schema: schemas.indexOf(text),
        };
      }),
    },
  };
}

/** A property may be called `description` as well: `named` says that the keys are names of properties. */
function withoutDescriptions(value: unknown, named: boolean): unknown {
  if (Array.isArray(value)) return value.map((entry) => withoutDescriptions(entry, false));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name]) => named || name !== "description")
      .map(([name, child]) => [
        name,
        // A default or an example is data, not schema.
        name === "default" && !named ? child : withoutDescriptions(child, !named && name === "properties"),
      ]),
  );
}

/** Downloads a Go module into the module cache and says where it is. */
function download(module: string): string {
  const answer = execFileSync("go", ["mod", "download", "-json", module], {
    cwd: tmpdir(),
    env: { ...process.env, GOFLAGS: "-mod=mod" },
    encoding: "utf8",
  });
  return (JSON.parse(answer) as { Dir: string }).Dir;
}
