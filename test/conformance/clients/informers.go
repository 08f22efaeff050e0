package main

import (
	"context"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	kubeinformers "k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// informers follows the ConfigMaps of a namespace in client-go's three ways (typed, which speaks protobuf; dynamic;
// metadata only), and the Widgets there. KUBE_FEATURE_WatchListClient decides how they begin.
func informers(ctx context.Context, config *rest.Config, args []string) error {
	namespace := args[0]
	typed := rest.CopyConfig(config)
	typed.ContentType = "application/vnd.kubernetes.protobuf"
	typed.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	configMaps := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	widgets := schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "widgets"}

	byType := kubeinformers.NewSharedInformerFactoryWithOptions(
		kubernetes.NewForConfigOrDie(typed), 0, kubeinformers.WithNamespace(namespace))
	byDynamic := dynamicinformer.NewFilteredDynamicSharedInformerFactory(
		dynamic.NewForConfigOrDie(config), 0, namespace, nil)
	byMetadata := metadatainformer.NewFilteredSharedInformerFactory(
		metadata.NewForConfigOrDie(config), 0, namespace, nil)
	followed := map[string]cache.SharedIndexInformer{
		"typed":    byType.Core().V1().ConfigMaps().Informer(),
		"dynamic":  byDynamic.ForResource(configMaps).Informer(),
		"metadata": byMetadata.ForResource(configMaps).Informer(),
		"widgets":  byDynamic.ForResource(widgets).Informer(),
	}
	for name, informer := range followed {
		if err := follow(name, informer); err != nil {
			return err
		}
	}
	byType.Start(ctx.Done())
	byDynamic.Start(ctx.Done())
	byMetadata.Start(ctx.Done())
	for name, informer := range followed {
		if cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			say(map[string]any{"informer": name, "event": "synced", "items": len(informer.GetStore().List())})
		}
	}
	<-ctx.Done()
	return nil
}

func follow(name string, informer cache.SharedIndexInformer) error {
	tell := func(event string, object any) {
		if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
			event, object = "deleted unseen", gone.Obj
		}
		of := object.(meta.Object)
		say(map[string]any{"informer": name, "event": event, "name": of.GetName(), "version": of.GetResourceVersion()})
	}
	if err := informer.SetWatchErrorHandler(func(_ *cache.Reflector, err error) {
		say(map[string]any{"informer": name, "event": "error", "error": err.Error()})
	}); err != nil {
		return err
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { tell("add", object) },
		UpdateFunc: func(_, object any) { tell("update", object) },
		DeleteFunc: func(object any) { tell("delete", object) },
	})
	return err
}
