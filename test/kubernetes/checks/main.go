// Command pod-policy reads manifests from standard input and prints what the Pod Security Standards in the given level
// forbid in their pods, by the code of Kubernetes' own admission, and faults of ServiceMonitors, by their type.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	strict "sigs.k8s.io/yaml"
)

func main() {
	faults, err := check(os.Stdin, api.Level(os.Args[1]))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, fault := range faults {
		fmt.Println(fault)
	}
}

func check(manifests io.Reader, level api.Level) ([]string, error) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks())
	if err != nil {
		return nil, err
	}
	input, err := io.ReadAll(manifests)
	if err != nil {
		return nil, err
	}
	var faults []string
	for documents := yaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(input))); ; {
		text := make([]byte, len(input)+1)
		n, err := documents.Read(text)
		if errors.Is(err, io.EOF) {
			return faults, nil
		}
		if err != nil {
			return nil, err
		}
		found, err := checkOne(evaluator, level, text[:n])
		if err != nil {
			return nil, err
		}
		faults = append(faults, found...)
	}
}

func checkOne(evaluator policy.Evaluator, level api.Level, text []byte) ([]string, error) {
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(text, &kind); err != nil {
		return nil, err
	}
	var template core.PodTemplateSpec
	var name string
	switch kind.Kind {
	case "Deployment":
		var object apps.Deployment
		if err := strict.UnmarshalStrict(text, &object); err != nil {
			return nil, err
		}
		template, name = object.Spec.Template, object.Name
	case "DaemonSet":
		var object apps.DaemonSet
		if err := strict.UnmarshalStrict(text, &object); err != nil {
			return nil, err
		}
		template, name = object.Spec.Template, object.Name
	case "ServiceMonitor":
		return nil, strict.UnmarshalStrict(text, &monitoring.ServiceMonitor{})
	default:
		return nil, nil
	}
	version := api.LevelVersion{Level: level, Version: api.LatestVersion()}
	var faults []string
	for _, result := range evaluator.EvaluatePod(version, &template.ObjectMeta, &template.Spec) {
		if !result.Allowed {
			faults = append(faults, fmt.Sprintf("%s %s: %s (%s)", kind.Kind, name, result.ForbiddenReason, result.ForbiddenDetail))
		}
	}
	return faults, nil
}
