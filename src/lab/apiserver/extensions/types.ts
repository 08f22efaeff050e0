/** From a CustomResourceDefinition to the types that it adds to the registry. */
import type { CustomResourceDefinition } from "../../../api/index.ts";
import { type ApiObject, asRecord, valueAt } from "../object.ts";
import type { ResourceType, ScalePaths, Subresource } from "../registry.ts";
import type { Schema } from "../schema/index.ts";

/** The bucket of a definition's objects. */
export function bucketOf(definition: CustomResourceDefinition): string {
  return `${definition.spec.group}/${definition.spec.names.plural}`;
}

/** A path such as `.spec.replicas` as steps. */
function steps(path: string): string[] {
  return path.split(".").filter((step) => step !== "");
}

/** One type per served version. */
export function customTypes(definition: CustomResourceDefinition): ResourceType[] {
  const { spec } = definition;
  const storage = spec.versions.find((version) => version.storage) ?? spec.versions[0]!;
  return spec.versions
    .filter((version) => version.served)
    .map((version) => {
      const subresources = new Map<string, Subresource>();
      const scale = version.subresources?.scale;
      if (scale) {
        subresources.set("scale", {
          kind: "Scale",
          group: "autoscaling",
          version: "v1",
          verbs: ["get", "patch", "update"],
        });
      }
      if (version.subresources?.status) {
        subresources.set("status", { kind: spec.names.kind, verbs: ["get", "patch", "update"] });
      }
      const scalePaths: ScalePaths | undefined = scale && {
        specReplicas: steps(scale.specReplicasPath),
        statusReplicas: steps(scale.statusReplicasPath),
        selector: scale.labelSelectorPath ? steps(scale.labelSelectorPath) : undefined,
      };
      const selectable =
        (version as { selectableFields?: { jsonPath: string }[] }).selectableFields?.map(
          (field) => field.jsonPath,
        ) ?? [];
      return {
        group: spec.group,
        version: version.name,
        kind: spec.names.kind,
        listKind: spec.names.listKind ?? `${spec.names.kind}List`,
        plural: spec.names.plural,
        singular: spec.names.singular ?? spec.names.kind.toLowerCase(),
        namespaced: spec.scope === "Namespaced",
        shortNames: spec.names.shortNames ?? [],
        categories: spec.names.categories ?? [],
        // In the order of apiextensions.
        verbs: ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"],
        subresources,
        bucket: bucketOf(definition),
        storedAs: `${spec.group}/${storage.name}`,
        scale: scalePaths,
        generation: true,
        fields: Object.fromEntries(
          selectable.map((path) => [path.replace(/^\./, ""), fieldReader(steps(path))]),
        ),
        custom: {
          rawSchema: version.schema?.openAPIV3Schema as Schema | undefined,
          columns: version.additionalPrinterColumns,
          deprecationWarning: version.deprecated
            ? (version.deprecationWarning ?? deprecation(definition, version.name))
            : undefined,
          definition: definition.metadata.name,
          terminating: definition.metadata.deletionTimestamp !== undefined,
        },
      };
    });
}

/** The usual warning names what to use instead: the newest version that is served and not deprecated. */
function deprecation({ spec }: CustomResourceDefinition, version: string): string {
  const { kind } = spec.names;
  const text = `${spec.group}/${version} ${kind} is deprecated`;
  const better = spec.versions.find((other) => other.served && !other.deprecated);
  return better ? `${text}; use ${spec.group}/${better.name} ${kind}` : text;
}

function fieldReader(path: string[]): (object: ApiObject) => string {
  return (object) => {
    const value = valueAt(object, path);
    return value === undefined || value === null || asRecord(value) ? "" : String(value);
  };
}
