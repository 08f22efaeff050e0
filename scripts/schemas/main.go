// Command schemas writes the tables that the lab's API server is built on:
//
//   - src/lab/apiserver/schema/data/<package>.generated.json: the structural schemas of Kubernetes' own kinds,
//     taken from the OpenAPI v3 documents inside the Go module k8s.io/kubernetes, without descriptions.
//   - src/lab/apiserver/protobuf/messages.generated.json: for each kind that typed clients send as protobuf, its
//     messages: field number, JSON name, type, and whether Go leaves the field out of JSON when it is zero. They
//     are read by reflection from the Go types (k8s.io/api, apimachinery, apiextensions-apiserver), because the
//     .proto files know neither `omitempty` nor which structs are inlined.
//
// Run it in this directory with `go run .`; it needs the Go toolchain and the Go module proxy, nothing else.
// The tables are data of the Kubernetes authors under the Apache License 2.0.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
)

const kubernetesVersion = "v1.36.3"

func main() {
	log.SetFlags(0)
	server, err := filepath.Abs("../../src/lab/apiserver")
	check(err)
	writeSchemas(filepath.Join(moduleDir("k8s.io/kubernetes@"+kubernetesVersion), "api/openapi-spec/v3"),
		filepath.Join(server, "schema/data"))
	writeMessages(filepath.Join(server, "protobuf/messages.generated.json"))
}

// moduleDir downloads a Go module into the module cache and says where it is.
func moduleDir(module string) string {
	command := exec.Command("go", "mod", "download", "-json", module)
	command.Env = append(os.Environ(), "GOFLAGS=-mod=mod")
	command.Dir = os.TempDir()
	out, err := command.Output()
	if err != nil {
		log.Fatalf("go mod download %s: %v\n%s", module, err, out)
	}
	var answer struct{ Dir string }
	check(json.Unmarshal(out, &answer))
	return answer.Dir
}

// writeJSON writes one top-level key per line, so that a new version of Kubernetes makes a readable difference.
func writeJSON(path string, keys []string, value func(key string) any) {
	var out bytes.Buffer
	out.WriteString("{\n")
	for i, key := range keys {
		name, err := json.Marshal(key)
		check(err)
		var text bytes.Buffer
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false)
		check(encoder.Encode(value(key)))
		separator := ","
		if i == len(keys)-1 {
			separator = ""
		}
		fmt.Fprintf(&out, "%s:%s%s\n", name, bytes.TrimSpace(text.Bytes()), separator)
	}
	out.WriteString("}\n")
	check(os.MkdirAll(filepath.Dir(path), 0o755))
	check(os.WriteFile(path, out.Bytes(), 0o644))
	log.Printf("%s: %d entries, %d bytes", path, len(keys), out.Len())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
