//go:build schemas

// The modules whose test data has Kubernetes' OpenAPI documents; nothing of them is compiled.
package main

import (
	_ "k8s.io/client-go/openapi/openapitest"
	_ "k8s.io/kube-openapi/pkg/schemaconv"
)
