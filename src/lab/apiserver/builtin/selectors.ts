/** Label selectors (apimachinery `apis/meta/v1`): their syntax, and whether one selects a set of labels. */
import { type FieldError, forbidden, invalid, isObject, type JsonObject, required } from "../schema/index.ts";
import { checkLabels, checkText, labelValue, qualifiedName } from "./names.ts";
import { record, records, strings, text } from "./values.ts";

/** What is wrong with a LabelSelector. */
export function checkSelector(field: string, selector: unknown): FieldError[] {
  if (!isObject(selector)) return [];
  const errors = checkLabels(`${field}.matchLabels`, selector.matchLabels);
  records(selector.matchExpressions).forEach((expression, i) => {
    const at = `${field}.matchExpressions[${i}]`;
    const values = strings(expression.values);
    if (expression.operator === "In" || expression.operator === "NotIn") {
      if (values.length === 0) {
        errors.push(required(`${at}.values`, "must be specified when `operator` is 'In' or 'NotIn'"));
      }
    } else if (expression.operator === "Exists" || expression.operator === "DoesNotExist") {
      if (values.length > 0) {
        errors.push(
          forbidden(`${at}.values`, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"),
        );
      }
    } else {
      errors.push(invalid(`${at}.operator`, expression.operator, "not a valid selector operator"));
    }
    errors.push(...checkText(qualifiedName, `${at}.key`, text(expression.key)));
    values.forEach((value, n) => {
      errors.push(...checkText(labelValue, `${at}.values[${n}]`, value));
    });
  });
  return errors;
}

/** Whether nothing is asked for: an empty selector selects everything. */
export function isEmptySelector(selector: JsonObject): boolean {
  return (
    Object.keys(record(selector.matchLabels)).length === 0 && records(selector.matchExpressions).length === 0
  );
}

/** Whether a LabelSelector selects an object with these labels. */
export function selects(selector: JsonObject, labels: JsonObject): boolean {
  const has = (name: string) => Object.hasOwn(labels, name);
  return (
    Object.entries(record(selector.matchLabels)).every(
      ([name, value]) => has(name) && labels[name] === value,
    ) &&
    records(selector.matchExpressions).every((expression) => {
      const name = text(expression.key);
      const isListed = has(name) && strings(expression.values).includes(text(labels[name]));
      switch (expression.operator) {
        case "In":
          return isListed;
        case "NotIn":
          return !isListed;
        case "Exists":
          return has(name);
        default:
          return !has(name);
      }
    })
  );
}
