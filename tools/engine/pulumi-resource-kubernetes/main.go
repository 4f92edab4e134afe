// The Kubernetes provider plugin, from its published module.
//
// Upstream's own main embeds a schema file that is generated at release time and
// therefore is not in the module. The engine needs the schema only to answer
// GetSchema, which a Python program never asks for, so an empty one serves.
package main

import "github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/provider"

// version is set by the linker from the pins (-X main.version=...).
var version = "0.0.0"

func main() {
	provider.Serve("kubernetes", version, []byte("{}"), []byte("{}"))
}
