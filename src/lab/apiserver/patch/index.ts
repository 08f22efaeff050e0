/** How a request changes an object: the four kinds of patch, and who owns which field. Pure functions. */
export {
  type ApplyRequest,
  applyPatch,
  type Conflict,
  conflictMessage,
  isOwned,
  trackUpdate,
  type UpdateToTrack,
} from "./apply.ts";
export { PatchError } from "./errors.ts";
export { type JsonPatchOperation, jsonPatch, mergePatch } from "./json.ts";
export { goText, strategicMergePatch } from "./strategic.ts";
export { typeProblems } from "./typed.ts";
