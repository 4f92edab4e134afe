// The CNCF registry with its folder storage alone: upstream's own main brings the clients of
// three clouds with it, which the lab does not need and which take longest to compile.
package main

import (
	"os"

	"github.com/distribution/distribution/v3/registry"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
)

func main() {
	if registry.RootCmd.Execute() != nil {
		os.Exit(1)
	}
}
