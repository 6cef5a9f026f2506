package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"runtime/debug"
	"time"

	"github.com/hashicorp/memberlist"
)

const libraryPath = "github.com/hashicorp/memberlist"

// octets are bytes written in hex.
type octets []byte

func (o *octets) UnmarshalJSON(text []byte) error {
	var digits *string
	if err := json.Unmarshal(text, &digits); err != nil {
		return err
	}
	if digits == nil {
		*o = nil // nil and empty are different things to memberlist
		return nil
	}
	decoded, err := hex.DecodeString(*digits)
	*o = decoded
	return err
}

func (o octets) MarshalJSON() ([]byte, error) { return json.Marshal(hex.EncodeToString(o)) }

// startCommand is what a node needs to know before it opens its sockets.
type startCommand struct {
	Profile  string                     `json:"profile"`
	Settings map[string]json.RawMessage `json:"settings"`

	SecretKey octets   `json:"secret_key"`
	Keys      []octets `json:"keys"`

	Meta        octets `json:"meta"`
	State       octets `json:"state"`
	AckPayload  octets `json:"ack_payload"`
	RefuseMerge string `json:"refuse_merge"`

	// Bare leaves out every delegate but the events, which is how MetalLB runs it.
	Bare    bool `json:"bare"`
	Capture bool `json:"capture"`
	Logs    bool `json:"logs"`
}

func (s *startCommand) config() (*memberlist.Config, error) {
	profiles := map[string]func() *memberlist.Config{
		"": memberlist.DefaultLANConfig, "lan": memberlist.DefaultLANConfig,
		"wan": memberlist.DefaultWANConfig, "local": memberlist.DefaultLocalConfig,
	}
	profile, known := profiles[s.Profile]
	if !known {
		return nil, fmt.Errorf("profile: %q is none of lan, wan, local", s.Profile)
	}
	config := profile()
	for name, value := range s.Settings {
		if err := set(config, name, value); err != nil {
			return nil, fmt.Errorf("settings: %s: %w", name, err)
		}
	}
	if _, given := s.Settings["BindPort"]; given {
		config.AdvertisePort = config.BindPort
	}
	if len(s.SecretKey) > 0 || len(s.Keys) > 0 {
		keys := make([][]byte, len(s.Keys))
		for i, key := range s.Keys {
			keys[i] = key
		}
		keyring, err := memberlist.NewKeyring(keys, s.SecretKey)
		if err != nil {
			return nil, fmt.Errorf("keys: %w", err)
		}
		config.Keyring = keyring
	}
	return config, nil
}

// set writes one field of the library's configuration, whatever its type.
func set(config *memberlist.Config, name string, value json.RawMessage) error {
	field := reflect.ValueOf(config).Elem().FieldByName(name)
	if !field.IsValid() {
		return fmt.Errorf("memberlist.Config has no such field")
	}
	if _, isDuration := field.Interface().(time.Duration); isDuration {
		var text string
		if err := json.Unmarshal(value, &text); err != nil {
			return err
		}
		duration, err := time.ParseDuration(text)
		if err != nil {
			return err
		}
		field.SetInt(int64(duration))
		return nil
	}
	return json.Unmarshal(value, field.Addr().Interface())
}

func libraryVersion() string {
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, module := range build.Deps {
			if module.Path == libraryPath {
				return module.Version
			}
		}
	}
	return "unknown"
}
