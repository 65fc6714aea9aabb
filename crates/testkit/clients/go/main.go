// Real work by client-go, which speaks protobuf, against the cluster that KUBECONFIG names.
//
// Each step is a function; a broken promise ends the program. The image busybox:1 must be there.
package main

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"sort"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	extensionsv1beta1 "k8s.io/api/extensions/v1beta1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/pager"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/retry"
	"k8s.io/client-go/util/workqueue"
)

const (
	namespace = "go"
	protobuf  = "application/vnd.kubernetes.protobuf"
	finalizer = "go.example.com/guard"
)

// Needs ends the program unless something holds.
func needs(holds bool, what string, arguments ...interface{}) {
	if !holds {
		panic(fmt.Sprintf(what, arguments...))
	}
}

// Good ends the program for an error.
func good(err error) {
	if err != nil {
		panic(err)
	}
}

// Eventually waits for something that the cluster is to bring about.
func eventually(what string, holds func() bool) {
	err := wait.PollImmediate(100*time.Millisecond, time.Minute, func() (bool, error) { return holds(), nil })
	needs(err == nil, "%s: not within a minute", what)
}

type clients struct {
	config     *rest.Config
	typed      *kubernetes.Clientset
	extensions *apiextensions.Clientset
	dynamic    dynamic.Interface
	metadata   metadata.Interface
}

func connect() clients {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	good(err)
	config.QPS, config.Burst = 200, 400
	binary := rest.CopyConfig(config)
	binary.ContentType, binary.AcceptContentTypes = protobuf, protobuf
	return clients{
		config:     binary,
		typed:      kubernetes.NewForConfigOrDie(binary),
		extensions: apiextensions.NewForConfigOrDie(binary),
		// Custom kinds have no protobuf.
		dynamic:  dynamic.NewForConfigOrDie(config),
		metadata: metadata.NewForConfigOrDie(config),
	}
}

func int32p(n int32) *int32 { return &n }

// Objects are the same on both sides of protobuf: what was sent is in what comes back.
func (c clients) objects(ctx context.Context) {
	_, err := c.typed.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	good(err)
	eventually("the default account", func() bool {
		_, err := c.typed.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		return err == nil
	})
	maps := c.typed.CoreV1().ConfigMaps(namespace)
	sent := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "one", Labels: map[string]string{"app": "one"}},
		Data:       map[string]string{"a": "1", "umlaut": "ü"},
		BinaryData: map[string][]byte{"bytes": {0, 255, 10}},
	}
	made, err := maps.Create(ctx, sent, metav1.CreateOptions{})
	good(err)
	needs(reflect.DeepEqual(made.Data, sent.Data) && reflect.DeepEqual(made.BinaryData, sent.BinaryData), "%v", made)
	needs(len(made.ManagedFields) == 1 && made.ManagedFields[0].FieldsV1 != nil, "no managed fields: %v", made)
	_, err = maps.Create(ctx, sent, metav1.CreateOptions{})
	needs(errors.IsAlreadyExists(err), "made twice: %v", err)
	_, err = maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "Bad Name"}}, metav1.CreateOptions{})
	status, is := err.(*errors.StatusError)
	needs(is && errors.IsInvalid(err) && status.ErrStatus.Details.Causes[0].Field == "metadata.name", "a bad name: %v", err)

	// Writers at once, who try again when they were overtaken.
	var writers sync.WaitGroup
	for writer := 0; writer < 8; writer++ {
		writers.Add(1)
		go func(key string) {
			defer writers.Done()
			backoff := wait.Backoff{Steps: 100, Duration: time.Millisecond, Factor: 1.1, Jitter: 1}
			good(retry.RetryOnConflict(backoff, func() error {
				live, err := maps.Get(ctx, "one", metav1.GetOptions{})
				good(err)
				live.Data[key] = "written"
				_, err = maps.Update(ctx, live, metav1.UpdateOptions{})
				return err
			}))
		}(fmt.Sprintf("writer-%d", writer))
	}
	writers.Wait()
	live, err := maps.Get(ctx, "one", metav1.GetOptions{})
	good(err)
	needs(len(live.Data) == 10, "lost a write: %v", live.Data)
	patched, err := maps.Patch(ctx, "one", types.StrategicMergePatchType, []byte(`{"data":{"$patch":"replace","b":"2"}}`), metav1.PatchOptions{})
	good(err)
	needs(reflect.DeepEqual(patched.Data, map[string]string{"b": "2"}), "%v", patched.Data)
	uid := types.UID("another")
	err = maps.Delete(ctx, "one", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	needs(errors.IsConflict(err), "deleted another: %v", err)
	good(maps.Delete(ctx, "one", metav1.DeleteOptions{}))
	_, err = maps.Get(ctx, "one", metav1.GetOptions{})
	needs(errors.IsNotFound(err), "still there: %v", err)
}

// Kinds with every sort of field, and versions that upstream has removed, cross protobuf without loss.
func (c clients) kinds(ctx context.Context) {
	mode := int32(0o640)
	seconds := int64(7)
	pod := corev1.PodSpec{
		Containers: []corev1.Container{{
			Name: "c", Image: "busybox:1", Command: []string{"sh", "-c", "echo begun; exec sleep 3600"},
			Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{"cpu": resource.MustParse("5m"), "memory": resource.MustParse("1.5Mi")},
			},
			ReadinessProbe: &corev1.Probe{
				Handler:       corev1.Handler{Exec: &corev1.ExecAction{Command: []string{"true"}}},
				PeriodSeconds: 1, TimeoutSeconds: 1, SuccessThreshold: 1, FailureThreshold: 3,
			},
			Env:          []corev1.EnvVar{{Name: "NODE", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.nodeName"}}}},
			VolumeMounts: []corev1.VolumeMount{{Name: "v", MountPath: "/v"}},
		}},
		Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
			Projected: &corev1.ProjectedVolumeSource{DefaultMode: &mode, Sources: []corev1.VolumeProjection{
				{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}}}}},
			}},
		}}},
		TerminationGracePeriodSeconds: &seconds,
	}
	surge := intstr.FromString("50%")
	labels := map[string]string{"app": "web"}
	sent := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: int32p(2),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &surge}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod},
		},
	}
	made, err := c.typed.AppsV1().Deployments(namespace).Create(ctx, sent, metav1.CreateOptions{})
	good(err)
	// What the client said is kept; what it left open is filled in.
	needs(equality.Semantic.DeepDerivative(sent.Spec, made.Spec), "sent %v\ncame back %v", sent.Spec, made.Spec)
	needs(made.Spec.Strategy.RollingUpdate.MaxUnavailable.String() == "25%", "no defaults: %v", made.Spec.Strategy)

	old := &extensionsv1beta1.Ingress{
		ObjectMeta: metav1.ObjectMeta{Name: "old"},
		Spec:       extensionsv1beta1.IngressSpec{Backend: &extensionsv1beta1.IngressBackend{ServiceName: "web", ServicePort: intstr.FromInt(80)}},
	}
	_, err = c.typed.ExtensionsV1beta1().Ingresses(namespace).Create(ctx, old, metav1.CreateOptions{})
	good(err)
	current, err := c.typed.NetworkingV1().Ingresses(namespace).Get(ctx, "old", metav1.GetOptions{})
	good(err)
	needs(current.Spec.DefaultBackend.Service.Port.Number == 80, "%v", current.Spec)

	good(retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		scale, err := c.typed.AppsV1().Deployments(namespace).GetScale(ctx, "web", metav1.GetOptions{})
		good(err)
		scale.Spec.Replicas = 1
		_, err = c.typed.AppsV1().Deployments(namespace).UpdateScale(ctx, "web", scale, metav1.UpdateOptions{})
		return err
	}))
	eventually("the Deployment is as wished", func() bool {
		live, err := c.typed.AppsV1().Deployments(namespace).Get(ctx, "web", metav1.GetOptions{})
		good(err)
		return live.Status.ObservedGeneration == live.Generation && live.Status.Replicas == 1 && live.Status.ReadyReplicas == 1
	})
}

// Exec runs a command by the streams of SPDY.
func (c clients) exec(ctx context.Context) {
	var pod string
	eventually("one pod is left", func() bool {
		pods, err := c.typed.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=web", FieldSelector: "status.phase=Running"})
		good(err)
		if len(pods.Items) == 1 {
			pod = pods.Items[0].Name
		}
		return len(pods.Items) == 1
	})
	options := &corev1.PodExecOptions{Command: []string{"sh", "-c", "cat; cat /v/labels; echo bad >&2; exit 3"}, Stdin: true, Stdout: true, Stderr: true}
	request := c.typed.CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name(pod).SubResource("exec")
	session, err := remotecommand.NewSPDYExecutor(c.config, "POST", request.VersionedParams(options, scheme.ParameterCodec).URL())
	good(err)
	var out, bad strings.Builder
	err = session.Stream(remotecommand.StreamOptions{Stdin: strings.NewReader("typed\n"), Stdout: &out, Stderr: &bad})
	needs(err != nil && strings.Contains(err.Error(), "exit code 3"), "the command's end: %v", err)
	needs(strings.HasPrefix(out.String(), "typed\napp=\"web\"") && bad.String() == "bad\n", "%q %q", out.String(), bad.String())
	log, err := c.typed.CoreV1().Pods(namespace).GetLogs(pod, &corev1.PodLogOptions{}).DoRaw(ctx)
	good(err)
	needs(string(log) == "begun\n", "%q", log)
}

// Lists come in pages; metadata without the rest.
func (c clients) lists(ctx context.Context) {
	for n := 0; n < 25; n++ {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{GenerateName: "s-", Labels: map[string]string{"page": "yes"}}, StringData: map[string]string{"n": "7"}}
		made, err := c.typed.CoreV1().Secrets(namespace).Create(ctx, secret, metav1.CreateOptions{})
		good(err)
		needs(string(made.Data["n"]) == "7" && made.StringData == nil, "%v", made)
	}
	pages := 0
	list := pager.New(func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		pages++
		return c.typed.CoreV1().Secrets(namespace).List(ctx, options)
	})
	list.PageSize = 10
	names := []string{}
	good(list.EachListItem(ctx, metav1.ListOptions{LabelSelector: "page=yes"}, func(item runtime.Object) error {
		names = append(names, item.(*corev1.Secret).Name)
		return nil
	}))
	needs(len(names) == 25 && pages == 3 && sort.StringsAreSorted(names), "%d names of %d pages", len(names), pages)
	resource := schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	partial, err := c.metadata.Resource(resource).Namespace(namespace).List(ctx, metav1.ListOptions{LabelSelector: "page=yes"})
	good(err)
	needs(len(partial.Items) == 25 && partial.Items[0].Labels["page"] == "yes", "%d metadata", len(partial.Items))
	good(c.typed.CoreV1().Secrets(namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "page=yes"}))
}

// A controller in the usual form: an informer with an index, a queue, a worker. Each ConfigMap that wants one gets a
// Secret that it owns, and an event that says so; nobody finds out by asking.
func (c clients) controller(ctx context.Context) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	wants := informers.WithTweakListOptions(func(options *metav1.ListOptions) { options.LabelSelector = "copy" })
	factory := informers.NewSharedInformerFactoryWithOptions(c.typed, 0, informers.WithNamespace(namespace), wants)
	maps, secrets := factory.Core().V1().ConfigMaps(), factory.Core().V1().Secrets()
	good(maps.Informer().AddIndexers(cache.Indexers{"color": func(object interface{}) ([]string, error) {
		return []string{object.(*corev1.ConfigMap).Labels["copy"]}, nil
	}}))
	queue := workqueue.NewNamedRateLimitingQueue(workqueue.DefaultControllerRateLimiter(), "copies")
	defer queue.ShutDown()
	enqueue := func(object interface{}) {
		key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object)
		good(err)
		queue.Add(key)
	}
	handler := cache.ResourceEventHandlerFuncs{AddFunc: enqueue, DeleteFunc: enqueue, UpdateFunc: func(_, new interface{}) { enqueue(new) }}
	maps.Informer().AddEventHandler(handler)
	secrets.Informer().AddEventHandler(handler)
	broadcaster := record.NewBroadcaster()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: c.typed.CoreV1().Events("")})
	defer broadcaster.Shutdown()
	recorder := broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "copier"})
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	reconcile := func(key string) error {
		_, name, err := cache.SplitMetaNamespaceKey(key)
		good(err)
		origin, err := maps.Lister().ConfigMaps(namespace).Get(name)
		if errors.IsNotFound(err) {
			return nil
		}
		good(err)
		wanted := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{
				Name: name, Labels: origin.Labels,
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(origin, corev1.SchemeGroupVersion.WithKind("ConfigMap"))},
			},
			StringData: origin.Data,
		}
		live, err := secrets.Lister().Secrets(namespace).Get(name)
		if errors.IsNotFound(err) {
			if _, err = c.typed.CoreV1().Secrets(namespace).Create(ctx, wanted, metav1.CreateOptions{}); err == nil {
				recorder.Eventf(origin, corev1.EventTypeNormal, "Copied", "made %s", name)
			}
			return err
		}
		good(err)
		if string(live.Data["value"]) == origin.Data["value"] {
			return nil
		}
		changed := live.DeepCopy()
		changed.Data = map[string][]byte{"value": []byte(origin.Data["value"])}
		_, err = c.typed.CoreV1().Secrets(namespace).Update(ctx, changed, metav1.UpdateOptions{})
		return err
	}
	go func() {
		for {
			key, over := queue.Get()
			if over {
				return
			}
			if err := reconcile(key.(string)); err != nil {
				queue.AddRateLimited(key)
			} else {
				queue.Forget(key)
			}
			queue.Done(key)
		}
	}()

	copies := func(holds func(*corev1.Secret) bool) int {
		all, err := secrets.Lister().List(labels.Everything())
		good(err)
		n := 0
		for _, secret := range all {
			if holds(secret) {
				n++
			}
		}
		return n
	}
	value := func(wanted string) func(*corev1.Secret) bool {
		return func(secret *corev1.Secret) bool { return string(secret.Data["value"]) == wanted }
	}
	origins := c.typed.CoreV1().ConfigMaps(namespace)
	for n := 0; n < 20; n++ {
		origin := &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("origin-%d", n), Labels: map[string]string{"copy": []string{"red", "blue"}[n%2]}},
			Data:       map[string]string{"value": "old"},
		}
		_, err := origins.Create(ctx, origin, metav1.CreateOptions{})
		good(err)
	}
	eventually("all are copied", func() bool { return copies(value("old")) == 20 })
	red, err := maps.Informer().GetIndexer().ByIndex("color", "red")
	good(err)
	needs(len(red) == 10, "%d in the index", len(red))
	for n := 0; n < 20; n++ {
		_, err := origins.Patch(ctx, fmt.Sprintf("origin-%d", n), types.MergePatchType, []byte(`{"data":{"value":"new"}}`), metav1.PatchOptions{})
		good(err)
	}
	eventually("all copies follow", func() bool { return copies(value("new")) == 20 })
	eventually("events tell of them", func() bool {
		events, err := c.typed.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "reason=Copied,involvedObject.kind=ConfigMap"})
		good(err)
		return len(events.Items) > 0 && events.Items[0].Source.Component == "copier"
	})
	// Whose origin goes, go too: the garbage collector knows the owner.
	good(origins.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "copy=red"}))
	eventually("copies go with their origins", func() bool { return copies(value("new")) == 10 })
}

// One leads at a time: the second when the first lets go.
func (c clients) elections(ctx context.Context) {
	led := make(chan string, 2)
	candidate := func(name string) context.CancelFunc {
		ctx, stop := context.WithCancel(ctx)
		lock := &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Name: "leader", Namespace: namespace},
			Client:     c.typed.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: name},
		}
		go leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
			Lock: lock, ReleaseOnCancel: true, LeaseDuration: 5 * time.Second, RenewDeadline: 3 * time.Second, RetryPeriod: 200 * time.Millisecond,
			Callbacks: leaderelection.LeaderCallbacks{OnStartedLeading: func(context.Context) { led <- name }, OnStoppedLeading: func() {}},
		})
		return stop
	}
	first := candidate("first")
	needs(<-led == "first", "who else?")
	second := candidate("second")
	defer second()
	lease := &coordinationv1.Lease{}
	// This client-go does not let go if it is told to before it has renewed.
	eventually("the lease is renewed", func() bool {
		var err error
		lease, err = c.typed.CoordinationV1().Leases(namespace).Get(ctx, "leader", metav1.GetOptions{})
		good(err)
		return lease.Spec.RenewTime.After(lease.Spec.AcquireTime.Time)
	})
	first()
	needs(<-led == "second", "who else?")
	lease, err := c.typed.CoordinationV1().Leases(namespace).Get(ctx, "leader", metav1.GetOptions{})
	good(err)
	needs(*lease.Spec.HolderIdentity == "second" && *lease.Spec.LeaseTransitions >= 1, "%v", lease.Spec)
}

// A kind of our own, defined in protobuf, whose objects a finalizer guards until the controller has let them go.
func (c clients) custom(ctx context.Context) {
	size := apiextensionsv1.JSONSchemaProps{Type: "integer", Minimum: new(float64)}
	spec := apiextensionsv1.JSONSchemaProps{Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{
		"size": size, "kind": {Type: "string", Default: &apiextensionsv1.JSON{Raw: []byte(`"plain"`)}},
	}}
	definition := &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "boxes.go.example.com"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "go.example.com", Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "boxes", Kind: "Box"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true,
				Schema:       &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{"spec": spec}}},
				Subresources: &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}},
			}},
		},
	}
	definitions := c.extensions.ApiextensionsV1().CustomResourceDefinitions()
	_, err := definitions.Create(ctx, definition, metav1.CreateOptions{})
	good(err)
	changes, err := definitions.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=boxes.go.example.com"})
	good(err)
	for event := range changes.ResultChan() {
		established := false
		for _, condition := range event.Object.(*apiextensionsv1.CustomResourceDefinition).Status.Conditions {
			established = established || condition.Type == apiextensionsv1.Established && condition.Status == apiextensionsv1.ConditionTrue
		}
		if established {
			break
		}
	}
	changes.Stop()

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	resource := schema.GroupVersionResource{Group: "go.example.com", Version: "v1", Resource: "boxes"}
	boxes := c.dynamic.Resource(resource).Namespace(namespace)
	factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(c.dynamic, 0, namespace, nil)
	released := make(chan string, 1)
	changed := func(object interface{}) {
		box := object.(*unstructured.Unstructured).DeepCopy()
		if box.GetDeletionTimestamp() != nil && len(box.GetFinalizers()) > 0 {
			box.SetFinalizers(nil)
			_, err := boxes.Update(ctx, box, metav1.UpdateOptions{})
			good(err)
			released <- box.GetName()
		}
	}
	factory.ForResource(resource).Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: changed, UpdateFunc: func(_, new interface{}) { changed(new) }})
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	box := &unstructured.Unstructured{Object: map[string]interface{}{
		"apiVersion": "go.example.com/v1", "kind": "Box",
		"metadata": map[string]interface{}{"name": "b", "finalizers": []interface{}{finalizer}},
		"spec":     map[string]interface{}{"size": int64(1)},
	}}
	made, err := boxes.Create(ctx, box, metav1.CreateOptions{})
	good(err)
	kind, _, _ := unstructured.NestedString(made.Object, "spec", "kind")
	needs(kind == "plain", "no default: %v", made.Object)
	_, err = boxes.Patch(ctx, "b", types.MergePatchType, []byte(`{"spec":{"size":-1}}`), metav1.PatchOptions{})
	needs(errors.IsInvalid(err), "too small: %v", err)
	good(boxes.Delete(ctx, "b", metav1.DeleteOptions{}))
	needs(<-released == "b", "another was released")
	eventually("the box is gone", func() bool {
		_, err := boxes.Get(ctx, "b", metav1.GetOptions{})
		return errors.IsNotFound(err)
	})
	good(definitions.Delete(ctx, definition.Name, metav1.DeleteOptions{}))
}

// A watch in protobuf begins where a list ended, and tells of bookmarks.
func (c clients) watches(ctx context.Context) {
	roles := c.typed.RbacV1().Roles(namespace)
	begun, err := roles.List(ctx, metav1.ListOptions{})
	good(err)
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "seen"}, Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}}}
	_, err = roles.Create(ctx, role, metav1.CreateOptions{})
	good(err)
	good(roles.Delete(ctx, "seen", metav1.DeleteOptions{}))
	changes, err := roles.Watch(ctx, metav1.ListOptions{ResourceVersion: begun.ResourceVersion, AllowWatchBookmarks: true})
	good(err)
	defer changes.Stop()
	for _, wanted := range []watch.EventType{watch.Added, watch.Deleted} {
		event := <-changes.ResultChan()
		seen, is := event.Object.(*rbacv1.Role)
		needs(is && event.Type == wanted && reflect.DeepEqual(seen.Rules, role.Rules), "%v", event)
	}
	document, err := c.typed.Discovery().OpenAPISchema()
	good(err)
	needs(len(document.Definitions.AdditionalProperties) > 500, "%d definitions", len(document.Definitions.AdditionalProperties))
	_, found, err := c.typed.Discovery().ServerGroupsAndResources()
	good(err)
	needs(len(found) > 30, "%d groups and versions", len(found))
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	c := connect()
	c.objects(ctx)
	c.kinds(ctx)
	c.exec(ctx)
	c.lists(ctx)
	c.watches(ctx)
	c.controller(ctx)
	c.elections(ctx)
	c.custom(ctx)
	good(c.typed.CoreV1().Namespaces().Delete(ctx, namespace, metav1.DeleteOptions{}))
	eventually("the end of the namespace", func() bool {
		_, err := c.typed.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
		return errors.IsNotFound(err)
	})
}
