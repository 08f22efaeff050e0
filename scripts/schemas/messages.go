package main

import (
	"log"
	"reflect"
	"sort"
	"strconv"
	"strings"

	admissionregistration "k8s.io/api/admissionregistration/v1"
	apps "k8s.io/api/apps/v1"
	authentication "k8s.io/api/authentication/v1"
	authorization "k8s.io/api/authorization/v1"
	autoscaling "k8s.io/api/autoscaling/v1"
	autoscaling2 "k8s.io/api/autoscaling/v2"
	batch "k8s.io/api/batch/v1"
	certificates "k8s.io/api/certificates/v1"
	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	events "k8s.io/api/events/v1"
	networking "k8s.io/api/networking/v1"
	node "k8s.io/api/node/v1"
	policy "k8s.io/api/policy/v1"
	rbac "k8s.io/api/rbac/v1"
	scheduling "k8s.io/api/scheduling/v1"
	storage "k8s.io/api/storage/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// special are the Go types whose JSON is not that of their fields; protobuf/decode.ts knows each by its letter.
var special = map[reflect.Type]string{
	reflect.TypeFor[meta.Time]():                                  "time",
	reflect.TypeFor[meta.MicroTime]():                             "microTime",
	reflect.TypeFor[meta.Duration]():                              "duration",
	reflect.TypeFor[meta.FieldsV1]():                              "json",
	reflect.TypeFor[runtime.RawExtension]():                       "json",
	reflect.TypeFor[apiextensions.JSON]():                         "json",
	reflect.TypeFor[resource.Quantity]():                          "quantity",
	reflect.TypeFor[intstr.IntOrString]():                         "intOrString",
	reflect.TypeFor[apiextensions.JSONSchemaPropsOrBool]():        "schemaOrBool",
	reflect.TypeFor[apiextensions.JSONSchemaPropsOrArray]():       "schemaOrArray",
	reflect.TypeFor[apiextensions.JSONSchemaPropsOrStringArray](): "schemaOrStrings",
}

type unmarshaler interface{ Unmarshal([]byte) error }

// messages collects the messages reachable from the kinds. A message is a list of fields
// [number, JSON name, type, flags]; the type is a scalar, a special or another message, after `[]` when repeated or
// `{}` when a map from strings; the flags are `p` pointer, `o` omitempty, `z` omitzero.
type messages map[string][][]any

func writeMessages(to string) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		core.AddToScheme, apps.AddToScheme, batch.AddToScheme, discovery.AddToScheme, coordination.AddToScheme,
		events.AddToScheme, rbac.AddToScheme, apiextensions.AddToScheme, admissionregistration.AddToScheme,
		policy.AddToScheme, networking.AddToScheme, storage.AddToScheme, scheduling.AddToScheme,
		authentication.AddToScheme, authorization.AddToScheme, autoscaling.AddToScheme, autoscaling2.AddToScheme,
		certificates.AddToScheme, node.AddToScheme,
	} {
		check(add(scheme))
	}
	out := messages{}
	kinds := map[string]string{}
	for kind, goType := range scheme.AllKnownTypes() {
		switch {
		case kind.Version == runtime.APIVersionInternal:
			continue
		case goType.PkgPath() == reflect.TypeFor[meta.ObjectMeta]().PkgPath():
			// ListOptions, DeleteOptions and WatchEvent are registered in each group; the body that is sent is one.
			if goType.Name() == "DeleteOptions" {
				kinds["*/DeleteOptions"] = out.add(goType)
			}
			continue
		}
		if _, ok := reflect.New(goType).Interface().(unmarshaler); !ok {
			continue
		}
		name := kind.Version + "/" + kind.Kind
		if kind.Group != "" {
			name = kind.Group + "/" + name
		}
		kinds[name] = out.add(goType)
	}
	names := []string{}
	for name := range out {
		names = append(names, name)
	}
	sort.Strings(names)
	writeJSON(to, append([]string{"kinds"}, names...), func(name string) any {
		if name == "kinds" {
			return kinds
		}
		return out[name]
	})
}

// add puts a Go struct and all that it refers to into the table and returns its name there.
func (m messages) add(goType reflect.Type) string {
	name := messageName(goType)
	if _, ok := m[name]; ok {
		return name
	}
	fields := [][]any{}
	m[name] = fields
	for i := range goType.NumField() {
		field := goType.Field(i)
		tag := field.Tag.Get("protobuf")
		if tag == "" || tag == "-" {
			if field.Name != "TypeMeta" && field.Tag.Get("json") != "-" {
				log.Fatalf("%s.%s has no protobuf tag", name, field.Name)
			}
			continue
		}
		parts := strings.Split(tag, ",")
		number, err := strconv.Atoi(parts[1])
		check(err)
		json, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if json == "-" {
			log.Fatalf("%s.%s has no JSON name", name, field.Name)
		}
		flags := ""
		if strings.Contains(options, "omitempty") {
			flags += "o"
		}
		if strings.Contains(options, "omitzero") {
			flags += "z"
		}
		fieldType := field.Type
		if fieldType.Kind() == reflect.Pointer {
			flags += "p"
			fieldType = fieldType.Elem()
		}
		row := []any{number, json, m.typeOf(fieldType)}
		if flags != "" {
			row = append(row, flags)
		}
		fields = append(fields, row)
	}
	m[name] = fields
	return name
}

func (m messages) typeOf(goType reflect.Type) string {
	if letter, ok := special[goType]; ok {
		if strings.HasPrefix(letter, "schema") {
			m.add(reflect.TypeFor[apiextensions.JSONSchemaProps]())
		}
		return letter
	}
	switch goType.Kind() {
	case reflect.Pointer:
		return m.typeOf(goType.Elem())
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "bool"
	case reflect.Int32, reflect.Int64:
		return goType.Kind().String()
	case reflect.Float64:
		return "double"
	case reflect.Struct:
		return m.add(goType)
	case reflect.Map:
		if goType.Key().Kind() != reflect.String {
			log.Fatalf("map key of %s", goType)
		}
		return "{}" + m.typeOf(goType.Elem())
	case reflect.Slice:
		if goType.Elem().Kind() == reflect.Uint8 {
			return "bytes"
		}
		// A named slice with a codec of its own is a message with the field `items`, number 1.
		if _, ok := reflect.New(goType).Interface().(unmarshaler); ok {
			if goType.Elem().Kind() != reflect.String {
				log.Fatalf("wrapped slice of %s", goType)
			}
			return "strings"
		}
		return "[]" + m.typeOf(goType.Elem())
	}
	log.Fatalf("no type for %s", goType)
	return ""
}

// messageName is short and unique: `apps.v1.Deployment`.
func messageName(goType reflect.Type) string {
	parts := strings.Split(goType.PkgPath(), "/")
	return strings.Join(append(parts[max(0, len(parts)-2):], goType.Name()), ".")
}
