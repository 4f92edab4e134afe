// Package helm has the types that the plugin's Chart component takes.
package helm

import "github.com/pulumi/pulumi/sdk/v3/go/pulumi"

// RepositoryOpts name a chart's repository, and who asks it.
type RepositoryOpts struct {
	CaFile   pulumi.AssetOrArchive
	CertFile pulumi.AssetOrArchive
	KeyFile  pulumi.AssetOrArchive
	Password *string
	Repo     *string
	Username *string
}

// RepositoryOptsInput is an input for them.
type RepositoryOptsInput interface{ pulumi.Input }

// PostRenderer is a command that a chart's objects pass through.
type PostRenderer struct {
	Args    []string
	Command string
}

// PostRendererInput is an input for it.
type PostRendererInput interface{ pulumi.Input }
