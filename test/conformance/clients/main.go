// Clients made with Kubernetes' own libraries, to see whether an API server is one to them. Each prints one JSON
// object a line about what it learns, and runs until it is told to end.
//
//	clients informers KUBECONFIG NAMESPACE
//	clients manager KUBECONFIG NAMESPACE IDENTITY
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

var printing sync.Mutex

func say(line map[string]any) {
	printing.Lock()
	defer printing.Unlock()
	_ = json.NewEncoder(os.Stdout).Encode(line)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if len(os.Args) < 4 {
		fail(fmt.Errorf("usage: clients informers|manager KUBECONFIG NAMESPACE [IDENTITY]"))
	}
	config, err := clientcmd.BuildConfigFromFlags("", os.Args[2])
	if err != nil {
		fail(err)
	}
	run := map[string]func(context.Context, *rest.Config, []string) error{
		"informers": informers,
		"manager":   manage,
	}[os.Args[1]]
	if err := run(ctx, config, os.Args[3:]); err != nil {
		fail(err)
	}
}
