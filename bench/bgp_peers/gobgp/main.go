// Announces and withdraws through gobgpd's gRPC interface, driven by lines on stdin: "prepare N", "go" and
// "withdraw".  500 paths go into one message of the stream, the fastest way there is.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

var family = &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func message(m proto.Message) *anypb.Any {
	packed, err := anypb.New(m)
	check(err)
	return packed
}

func paths(count int, source string) []*api.Path {
	attributes := []*anypb.Any{
		message(&api.OriginAttribute{Origin: 0}),
		message(&api.NextHopAttribute{NextHop: source}),
	}
	out := make([]*api.Path, 0, count)
	for n := 0; n < count; n++ {
		prefix := fmt.Sprintf("10.%d.%d.%d", 64+n>>16, n>>8&255, n&255)
		nlri := message(&api.IPAddressPrefix{Prefix: prefix, PrefixLen: 32})
		out = append(out, &api.Path{Family: family, Nlri: nlri, Pattrs: attributes})
	}
	return out
}

func main() {
	connection, err := grpc.Dial("127.0.0.1:50051", grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(err)
	client := api.NewGobgpApiClient(connection)
	lines := bufio.NewScanner(os.Stdin)
	var next []*api.Path
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch words[0] {
		case "prepare":
			count, _ := strconv.Atoi(words[1])
			next = paths(count, os.Args[1])
		case "go":
			stream, err := client.AddPathStream(context.Background())
			check(err)
			for at := 0; at < len(next); at += 500 {
				end := min(at+500, len(next))
				check(stream.Send(&api.AddPathStreamRequest{TableType: api.TableType_GLOBAL, Paths: next[at:end]}))
			}
			_, err = stream.CloseAndRecv()
			check(err)
			continue
		case "withdraw":
			_, err := client.DeletePath(context.Background(), &api.DeletePathRequest{
				TableType: api.TableType_GLOBAL, Family: family,
			})
			check(err)
			continue
		}
		fmt.Println("ready")
	}
}
