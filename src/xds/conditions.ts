/**
 * What is wrong with an object, as its status. Istio's kinds have `status.conditions` for this: `Accepted` is False where
 * a finding is an error, with the words in its message; `status.validationMessages` has every finding's code and level.
 * An object without findings gets no status: nothing is written about what is well.
 */
import type { Finding } from "../traffic/index.ts";

export interface FindingsStatus {
  conditions: { type: string; status: "True" | "False"; reason: string; message: string }[];
  validationMessages: { type: { code: string }; level: "ERROR" | "WARNING" | "INFO" }[];
}

const rank = { error: 0, warning: 1, info: 2 } as const;
const levels = { error: "ERROR", warning: "WARNING", info: "INFO" } as const;
/** Longest text of a condition that is well to read (and far below what the API takes). */
const longestMessage = 4_000;

/** Undefined without findings. */
export function statusOf(findings: readonly Finding[]): FindingsStatus | undefined {
  const sorted = [...findings].sort((a, b) => rank[a.level] - rank[b.level]);
  const [worst] = sorted;
  if (!worst) return undefined;
  const message = sorted
    .map(({ code, message, origin }) => `${code}${origin.field ? ` ${origin.field}` : ""}: ${message}`)
    .join("\n");
  return {
    conditions: [
      {
        type: "Accepted",
        status: worst.level === "error" ? "False" : "True",
        reason: worst.code,
        message: message.length > longestMessage ? `${message.slice(0, longestMessage)} …` : message,
      },
    ],
    validationMessages: sorted.map(({ code, level }) => ({ type: { code }, level: levels[level] })),
  };
}

/** Our own kinds always say whether they count. */
export function acceptedOf(findings: readonly Finding[]): Pick<FindingsStatus, "conditions"> {
  const conditions = statusOf(findings)?.conditions ?? [
    { type: "Accepted", status: "True" as const, reason: "Accepted", message: "" },
  ];
  return { conditions };
}
