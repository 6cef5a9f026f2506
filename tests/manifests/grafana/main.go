// Reads a dashboard as Grafana's own types have it, strictly: a field that they do not know, lack or have another
// type for is an error.  Built and run by tests/manifests/test_dashboard.py.
package main

import (
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	plugins.RegisterDefaultPlugins() // the options and queries of every kind of panel
	raw, err := os.ReadFile(os.Args[1])
	if err == nil {
		var found dashboard.Dashboard
		// an error without a text is the library's way to say that there was none
		if err = found.UnmarshalJSONStrict(raw); err == nil || err.Error() == "" {
			err = found.Validate()
		}
	}
	if err != nil && err.Error() != "" {
		fmt.Println(err)
		os.Exit(1)
	}
}
