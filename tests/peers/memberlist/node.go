package main

import (
	"encoding/hex"
	"errors"
	"time"

	"github.com/hashicorp/memberlist"
)

// The hooks report what the library calls them with and answer from the start command.

type nodeRecord struct {
	Name     string   `json:"name"`
	Address  string   `json:"address"`
	Port     uint16   `json:"port"`
	Meta     octets   `json:"meta"`
	State    int      `json:"state"` // true only where the library fills it in: in a merge
	Versions [6]uint8 `json:"versions"`
}

func record(node *memberlist.Node) nodeRecord {
	return nodeRecord{
		Name: node.Name, Address: node.Addr.String(), Port: node.Port, Meta: node.Meta, State: int(node.State),
		Versions: [6]uint8{node.PMin, node.PMax, node.PCur, node.DMin, node.DMax, node.DCur},
	}
}

func records(nodes []*memberlist.Node) []nodeRecord {
	list := make([]nodeRecord, len(nodes))
	for i, node := range nodes {
		list[i] = record(node)
	}
	return list
}

func (p *peer) NotifyJoin(node *memberlist.Node)   { p.happened("join", node) }
func (p *peer) NotifyLeave(node *memberlist.Node)  { p.happened("leave", node) }
func (p *peer) NotifyUpdate(node *memberlist.Node) { p.happened("update", node) }

func (p *peer) happened(kind string, node *memberlist.Node) {
	p.out.event(kind, map[string]any{"node": record(node)})
}

func (p *peer) NodeMeta(limit int) []byte {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.started.Meta
}

func (p *peer) NotifyMsg(payload []byte) {
	p.out.event("user", map[string]any{"payload": hex.EncodeToString(payload)})
}

func (p *peer) GetBroadcasts(overhead, limit int) [][]byte {
	return p.broadcasts.GetBroadcasts(overhead, limit)
}

func (p *peer) LocalState(join bool) []byte { return p.started.State }

func (p *peer) MergeRemoteState(state []byte, join bool) {
	p.out.event("state", map[string]any{"state": hex.EncodeToString(state), "join": join})
}

func (p *peer) NotifyMerge(nodes []*memberlist.Node) error {
	p.out.event("merge", map[string]any{"nodes": records(nodes)})
	if p.started.RefuseMerge != "" {
		return errors.New(p.started.RefuseMerge)
	}
	return nil
}

func (p *peer) NotifyConflict(existing, other *memberlist.Node) {
	p.out.event("conflict", map[string]any{"existing": record(existing), "other": record(other)})
}

func (p *peer) AckPayload() []byte { return p.started.AckPayload }

func (p *peer) NotifyPingComplete(node *memberlist.Node, rtt time.Duration, payload []byte) {
	p.out.event("ping", map[string]any{
		"node": record(node), "rtt": rtt.Seconds(), "payload": hex.EncodeToString(payload),
	})
}

// logLines turns what the library logs into events.
type logLines struct{ out *output }

func (l logLines) Write(line []byte) (int, error) {
	l.out.event("log", map[string]any{"line": string(line)})
	return len(line), nil
}

// payload is one message for everybody, gossiped beside the library's own.
type payload []byte

func (payload) Invalidates(memberlist.Broadcast) bool { return false }
func (b payload) Message() []byte                     { return append([]byte(nil), b...) }
func (payload) Finished()                             {}
func (payload) UniqueBroadcast()                      {}
