package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// The documents of the groups that the lab serves.
var documents = []string{
	"api__v1", "apis__apps__v1", "apis__batch__v1", "apis__discovery.k8s.io__v1", "apis__coordination.k8s.io__v1",
	"apis__events.k8s.io__v1", "apis__rbac.authorization.k8s.io__v1", "apis__apiextensions.k8s.io__v1",
	"apis__admissionregistration.k8s.io__v1", "apis__policy__v1", "apis__networking.k8s.io__v1",
	"apis__storage.k8s.io__v1", "apis__scheduling.k8s.io__v1", "apis__authentication.k8s.io__v1",
	"apis__authorization.k8s.io__v1", "apis__autoscaling__v1", "apis__autoscaling__v2", "apis__certificates.k8s.io__v1",
	"apis__apiregistration.k8s.io__v1", "apis__node.k8s.io__v1",
}

const refPrefix = "#/components/schemas/"

// writeSchemas writes one file per Go package of definitions; files refer to each other by full names.
func writeSchemas(from, to string) {
	definitions := map[string]any{}
	served := map[string]bool{}
	for _, document := range documents {
		raw, err := os.ReadFile(filepath.Join(from, document+"_openapi.json"))
		check(err)
		var parsed struct {
			Components struct{ Schemas map[string]any }
		}
		check(json.Unmarshal(raw, &parsed))
		for name, schema := range parsed.Components.Schemas {
			definitions[name] = schema
		}
		parts := strings.Split(document, "__")
		if parts[0] == "api" {
			served["/"+parts[1]] = true
		} else {
			served[parts[1]+"/"+parts[2]] = true
		}
	}
	packages := map[string][]string{}
	for name, schema := range definitions {
		definitions[name] = compact(schema, served)
		pkg := name[:strings.LastIndex(name, ".")]
		packages[pkg] = append(packages[pkg], name)
	}
	for pkg, names := range packages {
		sort.Strings(names)
		writeJSON(filepath.Join(to, pkg+".generated.json"), names, func(name string) any { return definitions[name] })
	}
}

// compact drops descriptions, the kinds of groups that are not served, and the `allOf` that OpenAPI 3.0 needs
// around a reference that has siblings: `{allOf: [{$ref: X}], default: {}}` becomes `{$ref: X, default: {}}`.
func compact(node any, served map[string]bool) any {
	switch node := node.(type) {
	case []any:
		out := make([]any, 0, len(node))
		for _, item := range node {
			out = append(out, compact(item, served))
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for key, value := range node {
			switch {
			case key == "description" && isString(value):
			case key == "$ref" && isString(value):
				out["$ref"] = strings.TrimPrefix(value.(string), refPrefix)
			case key == "x-kubernetes-group-version-kind":
				kinds := []any{}
				for _, kind := range value.([]any) {
					kind := kind.(map[string]any)
					if served[kind["group"].(string)+"/"+kind["version"].(string)] {
						kinds = append(kinds, kind)
					}
				}
				out[key] = kinds
			default:
				out[key] = compact(value, served)
			}
		}
		if all, ok := out["allOf"].([]any); ok && len(all) == 1 {
			if ref, ok := all[0].(map[string]any)["$ref"]; ok {
				delete(out, "allOf")
				out["$ref"] = ref
			}
		}
		return out
	}
	return node
}

func isString(value any) bool {
	_, ok := value.(string)
	return ok
}
