// Package yaml refuses what the plugin's components would register.
package yaml

import (
	"fmt"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// RegisterResource is called for each object of a chart or a YAML file.
func RegisterResource(
	_ *pulumi.Context, _, kind, name string, _ pulumi.Input, _ ...pulumi.ResourceOption,
) (pulumi.CustomResource, error) {
	return nil, fmt.Errorf(
		"%s %s: this plugin was built without components; install Pulumi's own Kubernetes plugin for charts and YAML files",
		kind, name)
}
