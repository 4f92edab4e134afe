// Stands in for pulumi-kubernetes' SDK for Go where the plugin is built: without it three quarters of the
// compiling go away. The plugin's resources do not use that SDK. Only its components do (Helm charts and
// YAML files), which register resources of their own, and archshift uses none of them.
module github.com/pulumi/pulumi-kubernetes/sdk/v4

go 1.26.0

require github.com/pulumi/pulumi/sdk/v3 v3.245.0
