// Command peer runs one node of hashicorp/memberlist for tests of other implementations of its protocol.
//
// It is driven by one JSON object a line on standard input and answers with one JSON object a line on standard
// output.  Every command carries an id; its answer carries the same id and either "result" or "error".  Lines
// without an id are events.  Commands run concurrently, so a slow join does not hold up the next one; who needs
// an order waits for the answer.  End of input ends the process without a farewell.
//
//	start     profile lan|wan|local, settings {field of memberlist.Config: value}, secret_key, keys, meta,
//	          state, ack_payload, refuse_merge, bare, capture, logs
//	join      addresses                       leave     timeout
//	members                                   shutdown
//	send      to, payload, reliable           meta      meta, timeout
//	broadcast payload                         key       action add|use|remove, key
//	ping      to                              mute      udp, tcp, peers (none given: everybody)
//	stats
//
// Octets are written in hex, durations as Go writes them ("250ms").
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"
)

// commandBytes bounds one line of input.
const commandBytes = 16 << 20

// output writes lines whole, whatever goroutine they come from.
type output struct {
	mutex   sync.Mutex
	encoder *json.Encoder
}

func (o *output) write(line any) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	if err := o.encoder.Encode(line); err != nil {
		os.Exit(1) // nobody listens any more
	}
}

func (o *output) event(kind string, fields map[string]any) {
	line := map[string]any{"event": kind, "at": seconds(time.Now())}
	for key, value := range fields {
		line[key] = value
	}
	o.write(line)
}

func seconds(at time.Time) float64 { return float64(at.UnixNano()) / 1e9 }

// request is what every command line has; the rest of the line is the command's own.
type request struct {
	ID      int    `json:"id"`
	Command string `json:"command"`
}

func main() {
	out := &output{encoder: json.NewEncoder(os.Stdout)}
	peer := &peer{out: out}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, commandBytes)
	out.event("ready", map[string]any{"library": libraryVersion(), "pid": os.Getpid()})
	for lines.Scan() {
		line := append([]byte(nil), lines.Bytes()...)
		go func() {
			var asked request
			var result any
			err := json.Unmarshal(line, &asked)
			if err == nil {
				result, err = peer.run(asked.Command, line)
			}
			if err != nil {
				out.write(map[string]any{"id": asked.ID, "error": err.Error()})
				return
			}
			out.write(map[string]any{"id": asked.ID, "result": result})
		}()
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}
