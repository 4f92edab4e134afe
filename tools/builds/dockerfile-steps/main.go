// dockerfile-steps prints what BuildKit would run for a Dockerfile on a platform, as JSON, without an engine.
//
// Base images are not asked for: each is taken to be there for every platform, with an empty configuration.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

type step struct {
	Source   string   `json:"source,omitempty"`
	Run      []string `json:"run,omitempty"`
	Env      []string `json:"env,omitempty"`
	Platform string   `json:"platform"`
}

type answer struct {
	Steps  []step               `json:"steps"`
	Config ocispecs.ImageConfig `json:"config"`
}

type everyImage struct{}

func (everyImage) ResolveImageConfig(_ context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	image := ocispecs.Image{Platform: *opt.ImageOpt.Platform}
	// Without a layer it would be taken for "scratch".
	image.RootFS = ocispecs.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromString(ref)}}
	config, err := json.Marshal(image)
	return ref, "", config, err
}

func run(file, target, build string) (*answer, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	targetPlatform, err := platforms.Parse(target)
	if err != nil {
		return nil, err
	}
	buildPlatform, err := platforms.Parse(build)
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	result, err := dockerfile2llb.Dockerfile2LLB(ctx, text, dockerfile2llb.ConvertOpt{
		Config:         dockerui.Config{BuildPlatforms: []ocispecs.Platform{buildPlatform}},
		TargetPlatform: &targetPlatform,
		MetaResolver:   everyImage{},
	})
	if err != nil {
		return nil, err
	}
	definition, err := result.State.Marshal(ctx, llb.Platform(targetPlatform))
	if err != nil {
		return nil, err
	}
	found := &answer{Config: result.Image.Config.ImageConfig}
	for _, encoded := range definition.Def {
		var op pb.Op
		if err := op.Unmarshal(encoded); err != nil {
			return nil, err
		}
		one := step{}
		if op.Platform != nil {
			one.Platform = op.Platform.OS + "/" + op.Platform.Architecture
		}
		switch {
		case op.GetSource() != nil:
			one.Source = op.GetSource().Identifier
		case op.GetExec() != nil:
			one.Run, one.Env = op.GetExec().Meta.Args, op.GetExec().Meta.Env
		default:
			continue
		}
		found.Steps = append(found.Steps, one)
	}
	return found, nil
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: dockerfile-steps DOCKERFILE TARGET-PLATFORM BUILD-PLATFORM")
		os.Exit(2)
	}
	found, err := run(os.Args[1], os.Args[2], os.Args[3])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(found)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
