package main

import (
	"context"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	coreapply "k8s.io/client-go/applyconfigurations/core/v1"
	metaapply "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	metrics "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// manage runs a controller-runtime manager that is elected in the namespace and keeps a copy of every ConfigMap that
// is labelled `copy: wanted`, written by server-side apply and owned by the original.
func manage(ctx context.Context, config *rest.Config, args []string) error {
	namespace, identity := args[0], args[1]
	ctrl.SetLogger(zap.New())
	lease, renew, retry := 3*time.Second, 2*time.Second, 500*time.Millisecond
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Cache:                         cache.Options{DefaultNamespaces: map[string]cache.Config{namespace: {}}},
		Metrics:                       metrics.Options{BindAddress: "0"},
		LeaderElection:                true,
		LeaderElectionID:              "copies",
		LeaderElectionNamespace:       namespace,
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 &lease,
		RenewDeadline:                 &renew,
		RetryPeriod:                   &retry,
	})
	if err != nil {
		return err
	}
	go func() {
		<-manager.Elected()
		say(map[string]any{"manager": identity, "event": "elected"})
	}()
	err = ctrl.NewControllerManagedBy(manager).
		For(&core.ConfigMap{}).
		Owns(&core.ConfigMap{}).
		Complete(&copies{client: manager.GetClient(), identity: identity})
	if err != nil {
		return err
	}
	return manager.Start(ctx)
}

type copies struct {
	client   client.Client
	identity string
}

func (c *copies) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var original core.ConfigMap
	if err := c.client.Get(ctx, request.NamespacedName, &original); err != nil {
		if apierrors.IsNotFound(err) {
			return ctrl.Result{}, nil
		}
		return ctrl.Result{}, err
	}
	if original.Labels["copy"] != "wanted" {
		return ctrl.Result{}, nil
	}
	owner := metaapply.OwnerReference().
		WithAPIVersion("v1").WithKind("ConfigMap").WithName(original.Name).WithUID(original.UID).
		WithController(true).WithBlockOwnerDeletion(true)
	wish := coreapply.ConfigMap(original.Name+"-copy", original.Namespace).
		WithOwnerReferences(owner).WithData(original.Data)
	if err := c.client.Apply(ctx, wish, client.FieldOwner("copies"), client.ForceOwnership); err != nil {
		return ctrl.Result{}, err
	}
	// What it knows of the copy comes from its cache, which follows the server.
	var copied core.ConfigMap
	err := c.client.Get(ctx, client.ObjectKey{Namespace: original.Namespace, Name: original.Name + "-copy"}, &copied)
	if apierrors.IsNotFound(err) {
		return ctrl.Result{RequeueAfter: 50 * time.Millisecond}, nil
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	owned := meta.IsControlledBy(&copied, &original)
	say(map[string]any{"manager": c.identity, "event": "copied", "name": original.Name, "data": copied.Data, "owned": owned})
	return ctrl.Result{}, nil
}
