/** What an Event must be, by the group that it is created in (Kubernetes `pkg/apis/core/validation/events.go`). */
import { type FieldError, invalid, type JsonObject, required } from "../schema/index.ts";
import { checkText, qualifiedName } from "./names.ts";
import { record, text } from "./values.ts";

const mostCharacters = 128;
const mostNote = 1024;

/** Checks a new Event in its core form; `group` is that of the request: `events.k8s.io` asks for more. */
export function checkEvent(event: JsonObject, group: string): FieldError[] {
  const errors: FieldError[] = [];
  const own = text(record(event.metadata).namespace);
  const about = text(record(event.involvedObject).namespace);
  const mismatch = () =>
    errors.push(invalid("involvedObject.namespace", about, "does not match event.namespace"));
  if (!event.eventTime) {
    if (about === "" ? own !== "default" : about !== own) mismatch();
  } else {
    if (about === "" && own !== "default" && own !== "kube-system") mismatch();
    const controller = text(event.reportingComponent);
    const controllerField = group === "" ? "reportingComponent" : "reportingController";
    if (controller === "") errors.push(required(controllerField));
    errors.push(...checkText(qualifiedName, controllerField, controller));
    for (const field of ["reportingInstance", "action", "reason"]) {
      const value = text(event[field]);
      if (value === "") errors.push(required(field));
      if (value.length > mostCharacters) errors.push(invalid(field, "", "can have at most 128 characters"));
    }
    if (text(event.message).length > mostNote) {
      errors.push(invalid("message", "", "can have at most 1024 characters"));
    }
  }
  if (group === "") return errors;
  if (!event.eventTime) errors.push(required("eventTime"));
  if (event.type !== "Normal" && event.type !== "Warning") {
    errors.push(invalid("type", "", `has invalid value: ${text(event.type)}`));
  }
  for (const field of ["firstTimestamp", "lastTimestamp", "count"]) {
    if (event[field]) errors.push(invalid(field, "", "needs to be unset"));
  }
  const source = record(event.source);
  if (source.component || source.host) errors.push(invalid("source", "", "needs to be unset"));
  return errors;
}
