/** What a ServiceExport's author is told (mcs-api v1beta1 ServiceExportCondition*). */
import type { Condition, Service, ServiceExport, ServiceImport, ServiceOffer } from "../api/index.ts";
import { isOurs } from "./imports.ts";
import type { MergedService } from "./merge.ts";
import { invalidity } from "./offers.ts";
import type { ExportCondition } from "./reasons.ts";

/** Conditions on someone's ServiceExport, for one field sink. */
export interface ExportConditions {
  metadata: { namespace: string; name: string };
  status: { conditions: ExportCondition[] };
}

/**
 * Valid: whether there is something to export. Ready: whether the offer is published (`published` is the offer as
 * the API has it), for peers to pull, and nothing in this cluster stands in its way. Both are known from this
 * cluster alone.
 */
export function readiness(
  export_: ServiceExport,
  service: Service | undefined,
  published: ServiceOffer | undefined,
  import_: ServiceImport | undefined,
): ExportConditions {
  const invalid = invalidity(export_, service);
  const conditions: ExportCondition[] = invalid
    ? [
        { type: "Valid", status: "False", ...invalid },
        { type: "Ready", status: "False", reason: "Pending", message: "The export is not valid." },
      ]
    : [
        { type: "Valid", status: "True", reason: "Valid", message: "The Service can be exported." },
        ready(published, import_),
      ];
  return of(export_, conditions);
}

function ready(published: ServiceOffer | undefined, import_: ServiceImport | undefined): ExportCondition {
  if (import_ && !isOurs(import_)) {
    return {
      type: "Ready",
      status: "False",
      reason: "Failed",
      message:
        "A ServiceImport of this name, written by someone else, stands in this cluster and was left alone. Delete it to have the export imported here.",
    };
  }
  if (!published) {
    return { type: "Ready", status: "False", reason: "Pending", message: "The offer is being published." };
  }
  return {
    type: "Ready",
    status: "True",
    reason: "Ready",
    message: `Offered to the clusterset by ${published.spec.cluster}.`,
  };
}

/** Conflict: on every export that takes part, so that each author hears of it. Undefined while ours takes no part. */
export function conflictCondition(
  export_: ServiceExport,
  merged: MergedService | undefined,
  cluster: string,
): ExportConditions | undefined {
  if (!merged?.clusters.includes(cluster)) return undefined;
  const { conflicts, clusters } = merged;
  const condition: ExportCondition =
    conflicts.length === 0
      ? {
          type: "Conflict",
          status: "False",
          reason: "NoConflicts",
          message: `Exported alike by ${clusters.join(", ")}.`,
        }
      : {
          type: "Conflict",
          status: "True",
          reason: conflicts.map(({ reason }) => reason).join(","),
          message: conflicts.map(({ message }) => message).join(" "),
        };
  return of(export_, [condition]);
}

function of(export_: ServiceExport, conditions: ExportCondition[]): ExportConditions {
  const { namespace = "", name } = export_.metadata;
  return { metadata: { namespace, name }, status: { conditions } };
}

/** What an author should hear of, as an Event on the ServiceExport. */
export interface ExportNews {
  level: "normal" | "warning";
  /** UpperCamelCase, as Events have it. */
  reason: "ExportInvalid" | "ImportBlocked" | "ExportConflict" | "ExportConflictResolved";
  message: string;
}

/**
 * What changed for the worse, or back for the better, between two states of an export in the API. Read from the
 * API rather than from what we want there, a restart repeats nothing.
 */
export function exportNews(before: ServiceExport, after: ServiceExport): ExportNews[] {
  const news: ExportNews[] = [];
  const look = (
    type: string,
    bad: Condition["status"],
    reason: ExportNews["reason"],
    good?: typeof reason,
  ) => {
    const [was, is] = [before, after].map(({ status }) => status?.conditions?.find((c) => c.type === type));
    if (!is || (was?.status === is.status && was.message === is.message)) return;
    if (is.status === bad && is.reason !== "Pending") {
      news.push({ level: "warning", reason, message: is.message });
    } else if (good && was?.status === bad) news.push({ level: "normal", reason: good, message: is.message });
  };
  look("Valid", "False", "ExportInvalid");
  look("Ready", "False", "ImportBlocked");
  look("Conflict", "True", "ExportConflict", "ExportConflictResolved");
  return news;
}
