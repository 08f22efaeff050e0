/** What `weft check` finds: one row per thing that can be right or wrong, with what to do about it. */
import { unreachableReason } from "../../kube/index.ts";

export interface Check {
  /** What it is about: a cluster's context, or two of them. */
  about: string;
  /** What is checked, as a sentence that is true when all is well. */
  name: string;
  status: "ok" | "warning" | "failed";
  /** What was found. */
  message?: string;
  /** What to do; of warnings and failures. */
  fix?: string;
}

/** A check that is well, or not: what was found, and what to do about it. */
export type Finding = Omit<Check, "about" | "name">;

export const ok = (message?: string): Finding => ({ status: "ok", ...(message && { message }) });
export const warning = (message: string, fix: string): Finding => ({ status: "warning", message, fix });
export const failed = (message: string, fix: string): Finding => ({ status: "failed", message, fix });

/** Runs one check. What throws has failed: its message is the finding. */
export async function check(
  about: string,
  name: string,
  look: () => Promise<Finding> | Finding,
): Promise<Check> {
  try {
    return { about, name, ...(await look()) };
  } catch (error) {
    const fix =
      (error as { fix?: string }).fix ?? "see the message; 'kubectl auth can-i --list' shows your rights";
    return { about, name, ...failed(unreachableReason(error), fix) };
  }
}
