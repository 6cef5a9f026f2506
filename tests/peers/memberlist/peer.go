package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const defaultTimeout = 10 * time.Second

// peer is one node and the commands that work on it.
type peer struct {
	out        *output
	mutex      sync.Mutex // guards what start and meta change
	started    startCommand
	list       *memberlist.Memberlist
	config     *memberlist.Config
	wire       *wire
	broadcasts *memberlist.TransmitLimitedQueue
}

func (p *peer) run(command string, line []byte) (any, error) {
	if command == "start" {
		return p.start(line)
	}
	p.mutex.Lock()
	list := p.list
	p.mutex.Unlock()
	if list == nil {
		return nil, errors.New("not started")
	}
	switch command {
	case "join":
		return decoded(line, func(c struct{ Addresses []string }) (any, error) {
			return list.Join(c.Addresses)
		})
	case "leave":
		return decoded(line, func(c struct{ Timeout string }) (any, error) {
			timeout, err := timeoutOf(c.Timeout)
			if err != nil {
				return nil, err
			}
			return nil, list.Leave(timeout)
		})
	case "shutdown":
		return nil, list.Shutdown()
	case "members":
		return records(list.Members()), nil
	case "stats":
		return map[string]any{
			"health": list.GetHealthScore(), "members": list.NumMembers(), "local": record(list.LocalNode()),
			"protocol": list.ProtocolVersion(),
		}, nil
	case "send":
		return decoded(line, p.send)
	case "broadcast":
		return decoded(line, func(c struct{ Payload octets }) (any, error) {
			p.broadcasts.QueueBroadcast(payload(c.Payload))
			return nil, nil
		})
	case "meta":
		return decoded(line, func(c struct {
			Meta    octets
			Timeout string
		}) (any, error) {
			timeout, err := timeoutOf(c.Timeout)
			if err != nil {
				return nil, err
			}
			p.mutex.Lock()
			p.started.Meta = c.Meta
			p.mutex.Unlock()
			return nil, list.UpdateNode(timeout)
		})
	case "key":
		return decoded(line, p.key)
	case "ping":
		return decoded(line, func(c struct{ To string }) (any, error) {
			node, err := p.find(c.To)
			if err != nil {
				return nil, err
			}
			rtt, err := list.Ping(node.Name, &net.UDPAddr{IP: node.Addr, Port: int(node.Port)})
			return rtt.Seconds(), err
		})
	case "mute":
		return decoded(line, func(c muteCommand) (any, error) {
			if p.wire == nil {
				return nil, errors.New("a bare node has no switch in its transport")
			}
			p.wire.mute(c)
			return nil, nil
		})
	}
	return nil, fmt.Errorf("no such command: %q", command)
}

func (p *peer) start(line []byte) (any, error) {
	p.mutex.Lock()
	if p.config != nil {
		p.mutex.Unlock()
		return nil, errors.New("already started")
	}
	if err := json.Unmarshal(line, &p.started); err != nil {
		p.mutex.Unlock()
		return nil, err
	}
	config, err := p.started.config()
	if err != nil {
		p.mutex.Unlock()
		return nil, err
	}
	var lines io.Writer = io.Discard
	if p.started.Logs {
		lines = logLines{p.out}
	}
	config.Logger = log.New(lines, "", 0)
	config.Events = p
	if !p.started.Bare {
		if p.wire, err = newWire(config, p.out, p.started.Capture); err != nil {
			p.mutex.Unlock()
			return nil, err
		}
		config.Transport = p.wire
		config.Delegate, config.Merge, config.Conflict, config.Ping = p, p, p, p
	}
	p.broadcasts = &memberlist.TransmitLimitedQueue{
		NumNodes: func() int { return p.list.NumMembers() }, RetransmitMult: config.RetransmitMult,
	}
	p.config = config
	p.mutex.Unlock() // Create calls the hooks

	list, err := memberlist.Create(config)
	if err != nil {
		return nil, err
	}
	p.mutex.Lock()
	p.list = list
	p.mutex.Unlock()
	return record(list.LocalNode()), nil
}

func (p *peer) send(c struct {
	To       string
	Payload  octets
	Reliable bool
}) (any, error) {
	node, err := p.find(c.To)
	if err != nil {
		return nil, err
	}
	if c.Reliable {
		return nil, p.list.SendReliable(node, c.Payload)
	}
	return nil, p.list.SendBestEffort(node, c.Payload)
}

func (p *peer) key(c struct {
	Action string
	Key    octets
}) (any, error) {
	keyring := p.config.Keyring
	if keyring == nil {
		return nil, errors.New("started without a key")
	}
	actions := map[string]func([]byte) error{
		"add": keyring.AddKey, "use": keyring.UseKey, "remove": keyring.RemoveKey,
	}
	action, known := actions[c.Action]
	if !known {
		return nil, fmt.Errorf("action: %q is none of add, use, remove", c.Action)
	}
	return len(keyring.GetKeys()), action(c.Key)
}

func (p *peer) find(name string) (*memberlist.Node, error) {
	for _, node := range p.list.Members() {
		if node.Name == name {
			return node, nil
		}
	}
	return nil, fmt.Errorf("no member %s", strconv.Quote(name))
}

func timeoutOf(text string) (time.Duration, error) {
	if text == "" {
		return defaultTimeout, nil
	}
	return time.ParseDuration(text)
}

// decoded reads a command's own fields and hands them on.
func decoded[C any](line []byte, run func(C) (any, error)) (any, error) {
	var command C
	if err := json.Unmarshal(line, &command); err != nil {
		return nil, err
	}
	return run(command)
}
