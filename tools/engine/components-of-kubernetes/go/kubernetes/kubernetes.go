// Package kubernetes has the one name of the SDK's root package that the plugin's components use.
package kubernetes

import "reflect"

// UntypedArgs are the inputs of an object of any kind.
type UntypedArgs map[string]any

// ElementType makes them an input of Pulumi's SDK.
func (UntypedArgs) ElementType() reflect.Type {
	return reflect.TypeFor[map[string]any]()
}
