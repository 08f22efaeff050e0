/**
 * CustomResourceDefinitions are shared: others install those of MCS and about.k8s.io too, in other versions. None
 * is ever taken back to an older state, and what others installed stays theirs where it serves what we need.
 */
import {
  type CustomResourceDefinition,
  customResourceDefinitions,
  definitions,
  managedByLabel,
} from "../api/index.ts";
import type { KubeClient } from "../kube/index.ts";
import { apply } from "./apply.ts";
import {
  definitionManifests,
  definitionRevision,
  installManager,
  mcsLabels,
  mcsReleaseLabel,
  mcsRevisionLabel,
  revisionAnnotation,
} from "./manifests.ts";

/** Group of the kinds that are Weft's alone. */
export const ownGroup = "offer.weft.dev";

/** What is done with one definition, and why, for people. */
export interface DefinitionPlan {
  name: string;
  /** `install`: there is none. `update`: ours, or too old to be of use. `keep`: it stays as it is. */
  action: "install" | "update" | "keep";
  reason: string;
}

/** What installing would do with one definition that is there (or is not). */
export function planDefinition(
  ours: CustomResourceDefinition,
  found: CustomResourceDefinition | undefined,
): DefinitionPlan {
  const { name } = ours.metadata;
  if (!found) return { name, action: "install", reason: "it is not there" };
  const newer = newerThanOurs(ours, found);
  if (newer) return { name, action: "keep", reason: newer };
  if (isOurDefinition(found)) return { name, action: "update", reason: "Weft installed it" };
  const missing = neededVersions(ours).filter((version) => !servedVersions(found).includes(version));
  if (missing.length > 0) {
    return { name, action: "update", reason: `it does not serve ${missing.join(", ")}` };
  }
  return { name, action: "keep", reason: "others installed it, and it serves what Weft needs" };
}

/** Installed by us, and so ours to change and to take away. */
export function isOurDefinition(definition: CustomResourceDefinition): boolean {
  return (
    definition.spec.group === ownGroup || definition.metadata.labels?.[managedByLabel] === installManager
  );
}

/** Why a definition that is there is newer than the one that we bring; undefined when it is not. */
export function newerThanOurs(
  ours: CustomResourceDefinition,
  found: CustomResourceDefinition,
): string | undefined {
  const known = ours.spec.versions.map(({ name }) => name);
  const newest = [...known].sort(compareVersions).at(-1)!;
  const beyond = found.spec.versions
    .filter(({ name, served, storage }) => (served || storage) && compareVersions(name, newest) > 0)
    .map(({ name }) => name);
  if (beyond.length > 0) return `it has ${beyond.join(", ")}, newer than ${newest} that Weft brings`;
  const revision = Number(found.metadata.annotations?.[revisionAnnotation] ?? 0);
  if (revision > definitionRevision) {
    return `it is of revision ${revision}, newer than ${definitionRevision} that this Weft brings`;
  }
  return newerRelease(found.metadata.labels ?? {});
}

/** The same of what upstream's labels say; what has none, or others than upstream writes, says nothing. */
function newerRelease(labels: Record<string, string>): string | undefined {
  const theirs = releaseParts(labels);
  const ours = releaseParts(mcsLabels)!;
  const at = theirs?.findIndex((part, i) => part !== ours[i]) ?? -1;
  if (!theirs || at < 0 || theirs[at]! < ours[at]!) return undefined;
  const name = (of: Record<string, string>) => `${of[mcsReleaseLabel]} revision ${of[mcsRevisionLabel] ?? 0}`;
  return `it is that of mcs-api ${name(labels)}, newer than ${name(mcsLabels)} that Weft brings`;
}

function releaseParts(labels: Record<string, string>): number[] | undefined {
  const [, ...release] = /^v(\d+)\.(\d+)\.(\d+)$/.exec(labels[mcsReleaseLabel] ?? "") ?? [];
  const revision = Number(labels[mcsRevisionLabel] ?? 0);
  return release.length === 3 && Number.isInteger(revision) ? [...release.map(Number), revision] : undefined;
}

/** Our code speaks the newest version only. */
function neededVersions(ours: CustomResourceDefinition): string[] {
  return [
    ours.spec.versions
      .map(({ name }) => name)
      .sort(compareVersions)
      .at(-1)!,
  ];
}

function servedVersions({ spec }: CustomResourceDefinition): string[] {
  return spec.versions.filter(({ served }) => served).map(({ name }) => name);
}

/** Versions that this definition's readers and writers need and that the one in the cluster does not serve. */
export function missingVersions(
  ours: CustomResourceDefinition,
  found: CustomResourceDefinition,
): readonly string[] {
  return neededVersions(ours).filter((version) => !servedVersions(found).includes(version));
}

/**
 * Kubernetes' order of versions, oldest first (apimachinery `pkg/version/helpers.go`, CompareKubeAwareVersionStrings):
 * v1alpha1 < v1alpha2 < v1beta1 < v1 < v2; names of another form come before all of these.
 */
export function compareVersions(a: string, b: string): number {
  const [x, y] = [versionParts(a), versionParts(b)];
  if (!x || !y) return x ? 1 : y ? -1 : a < b ? -1 : a > b ? 1 : 0;
  for (let i = 0; i < 3; i++) if (x[i] !== y[i]) return x[i]! - y[i]!;
  return 0;
}

function versionParts(version: string): number[] | undefined {
  const [, major, stage, minor] = /^v(\d+)(?:(alpha|beta)(\d+))?$/.exec(version) ?? [];
  if (!major) return undefined;
  return [stage === "alpha" ? 0 : stage === "beta" ? 1 : 2, Number(major), Number(minor ?? 0)];
}

/** Installs and updates what is to be; resolves to what was done with each. */
export async function applyDefinitions(client: KubeClient, signal?: AbortSignal): Promise<DefinitionPlan[]> {
  return Promise.all(
    definitionManifests().map(async (manifest) => {
      const { object } = manifest;
      const found = await client.get(
        customResourceDefinitions,
        object.metadata.name,
        signal ? { signal } : {},
      );
      const plan = planDefinition(object, found);
      if (plan.action === "keep") return plan;
      const theirs = found !== undefined && !isOurDefinition(found);
      // Brought up to date, but not made ours: uninstalling leaves it.
      const { labels = {}, ...rest } = object.metadata;
      const upstream = Object.entries(labels).filter(([label]) => label in mcsLabels);
      const metadata = { ...rest, ...(upstream.length > 0 && { labels: Object.fromEntries(upstream) }) };
      await apply(client, theirs ? { ...manifest, object: { ...object, metadata } } : manifest, signal);
      return plan;
    }),
  );
}

/** The definitions that we bring which are there, with our own beside them. */
export async function installedDefinitions(
  client: KubeClient,
  signal?: AbortSignal,
): Promise<{ ours: CustomResourceDefinition; found: CustomResourceDefinition | undefined }[]> {
  return Promise.all(
    definitions().map(async (ours) => ({
      ours,
      found: await client.get(customResourceDefinitions, ours.metadata.name, signal ? { signal } : {}),
    })),
  );
}
