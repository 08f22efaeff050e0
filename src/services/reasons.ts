/**
 * Every condition that Weft writes, with its statuses and their reasons: those of mcs-api v1beta1
 * (`ServiceExportCondition*`, `ServiceImportCondition*`) and, where they have no word, one of ours (InvalidLabels).
 * `docs/mcs.md` has the same table.
 */
export const exportReasons = {
  Valid: { True: ["Valid"], False: ["NoService", "InvalidServiceType", "InvalidLabels"] },
  Ready: { True: ["Ready"], False: ["Pending", "Failed"] },
  Conflict: {
    // In the order in which a condition joins them.
    True: [
      "PortConflict",
      "TypeConflict",
      "SessionAffinityConflict",
      "SessionAffinityConfigConflict",
      "LabelsConflict",
      "AnnotationsConflict",
      "InternalTrafficPolicyConflict",
      "TrafficDistributionConflict",
      "IPFamilyConflict",
    ],
    False: ["NoConflicts"],
  },
} as const;

export const importReasons = {
  Ready: { True: ["Ready"], False: ["Pending", "IPFamilyNotSupported"] },
} as const;

/** Why an export is not valid. */
export type InvalidReason = (typeof exportReasons.Valid.False)[number];
/** In what exports of one service differ. */
export type ConflictReason = (typeof exportReasons.Conflict.True)[number];

type Reasons = { [type: string]: { [status: string]: readonly string[] } };
type In<R extends Reasons, T extends keyof R> = {
  [S in keyof R[T] & ("True" | "False")]: {
    type: T;
    status: S;
    /** Reasons of conflicts are joined by commas. */
    reason: T extends "Conflict" ? string : R[T][S][number];
    message: string;
  };
}[keyof R[T] & ("True" | "False")];

/** Conditions as derivations want them; the sink sets lastTransitionTime. */
export type ExportCondition = {
  [T in keyof typeof exportReasons]: In<typeof exportReasons, T>;
}[keyof typeof exportReasons];
export type ImportCondition = {
  [T in keyof typeof importReasons]: In<typeof importReasons, T>;
}[keyof typeof importReasons];
