package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// wire is the library's own transport with a switch in it: datagrams and connections to or from chosen
// addresses get lost as in a network, without an error to the sender.  It can also report every datagram.
type wire struct {
	*memberlist.NetTransport
	packets chan *memberlist.Packet
	streams chan net.Conn
	done    chan struct{}
	once    sync.Once
	out     *output
	capture bool

	mutex sync.Mutex
	muted muteCommand
}

// muteCommand says what gets lost; no peers means all of them.
type muteCommand struct {
	UDP   bool     `json:"udp"`
	TCP   bool     `json:"tcp"`
	Peers []string `json:"peers"` // IP addresses
}

func (m *muteCommand) matches(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return len(m.Peers) == 0 || (err == nil && slices.Contains(m.Peers, host))
}

func newWire(config *memberlist.Config, out *output, capture bool) (*wire, error) {
	inner, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
		BindAddrs: []string{config.BindAddr}, BindPort: config.BindPort, Logger: config.Logger,
	})
	if err != nil {
		return nil, err
	}
	w := &wire{
		NetTransport: inner, out: out, capture: capture,
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), done: make(chan struct{}),
	}
	go w.receive()
	return w, nil
}

func (w *wire) mute(command muteCommand) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.muted = command
}

func (w *wire) lost(udp bool, address string) bool {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	on := w.muted.TCP
	if udp {
		on = w.muted.UDP
	}
	return on && w.muted.matches(address)
}

func (w *wire) report(direction, address string, data []byte, lost bool) {
	if w.capture {
		w.out.event("packet", map[string]any{
			"direction": direction, "address": address, "data": hex.EncodeToString(data), "lost": lost,
		})
	}
}

func (w *wire) receive() {
	for {
		select {
		case packet := <-w.NetTransport.PacketCh():
			lost := w.lost(true, packet.From.String())
			w.report("in", packet.From.String(), packet.Buf, lost)
			if lost {
				continue
			}
			select {
			case w.packets <- packet:
			case <-w.done:
				return
			}
		case stream := <-w.NetTransport.StreamCh():
			if w.lost(false, stream.RemoteAddr().String()) {
				stream.Close()
				continue
			}
			select {
			case w.streams <- stream:
			case <-w.done:
				stream.Close()
				return
			}
		case <-w.done:
			return
		}
	}
}

func (w *wire) PacketCh() <-chan *memberlist.Packet { return w.packets }

func (w *wire) StreamCh() <-chan net.Conn { return w.streams }

func (w *wire) WriteTo(data []byte, address string) (time.Time, error) {
	return w.WriteToAddress(data, memberlist.Address{Addr: address})
}

func (w *wire) WriteToAddress(data []byte, address memberlist.Address) (time.Time, error) {
	lost := w.lost(true, address.Addr)
	w.report("out", address.Addr, data, lost)
	if lost {
		return time.Now(), nil
	}
	return w.NetTransport.WriteToAddress(data, address)
}

func (w *wire) DialTimeout(address string, timeout time.Duration) (net.Conn, error) {
	return w.DialAddressTimeout(memberlist.Address{Addr: address}, timeout)
}

func (w *wire) DialAddressTimeout(address memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if w.lost(false, address.Addr) {
		time.Sleep(timeout)
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("muted by the test")}
	}
	// The library dials from any local address.  On loopback that hides who is calling, so a mute by peer
	// could not match; dialling from the bound address is what a node with one address does anyway.
	local, _, err := w.NetTransport.FinalAdvertiseAddr("", 0)
	if err != nil {
		return nil, fmt.Errorf("own address: %w", err)
	}
	dialer := net.Dialer{Timeout: timeout, LocalAddr: &net.TCPAddr{IP: local}}
	return dialer.Dial("tcp", address.Addr)
}

func (w *wire) Shutdown() error {
	w.once.Do(func() { close(w.done) })
	return w.NetTransport.Shutdown()
}
