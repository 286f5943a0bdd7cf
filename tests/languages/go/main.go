// Command languages publishes an event, reads the webhook that it becomes, and
// reads why others are refused. It prints what it read as one line of JSON.
//
// Its arguments are the address of the server, the ID of the event and how many
// others to publish.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	pb "signalpost/v1"
)

type report struct {
	Outcome     string              `json:"outcome"`
	Integration string              `json:"integration"`
	Code        string              `json:"code"`
	Domain      string              `json:"domain"`
	Reason      string              `json:"reason"`
	Violations  []map[string]string `json:"violations"`
}

func main() {
	conn, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	others, err := strconv.Atoi(os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	report, err := run(ctx, pb.NewEventServiceClient(conn), os.Args[2], others)
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, events pb.EventServiceClient, eventID string, others int) (*report, error) {
	connected := &pb.Event{
		EventId:  eventID,
		Resource: &pb.Resource{Id: "acc_42"},
		Payload: &pb.Event_AccountConnected{AccountConnected: &pb.AccountConnected{
			Integration: "gmail",
			Scopes:      []string{"mail.read"},
			Actor:       &pb.Actor{Kind: pb.Actor_USER, Id: "ada"},
		}},
	}
	checked, err := events.Publish(ctx, &pb.PublishRequest{Events: []*pb.Event{connected}, ValidateOnly: true})
	if err != nil {
		return nil, err
	}
	payload, err := readWebhook(checked.Results[0].WebhookBody)
	if err != nil {
		return nil, err
	}
	published, err := events.Publish(ctx, &pb.PublishRequest{Events: []*pb.Event{connected}})
	if err != nil {
		return nil, err
	}
	refused := slices.Repeat([]*pb.Event{{
		Resource: &pb.Resource{},
		Payload:  &pb.Event_AccountConnected{AccountConnected: &pb.AccountConnected{}},
	}}, others)
	_, err = events.Publish(ctx, &pb.PublishRequest{Events: refused})
	report := &report{
		Outcome:     published.Results[0].Outcome.String(),
		Integration: payload.Integration,
	}
	return report, report.explain(err)
}

// readWebhook gets the typed payload out of the body of a webhook, as a receiver does.
func readWebhook(text string) (*pb.AccountConnected, error) {
	lenient := protojson.UnmarshalOptions{DiscardUnknown: true}
	body := &pb.WebhookBody{}
	if err := lenient.Unmarshal([]byte(text), body); err != nil {
		return nil, err
	}
	payload, err := protojson.Marshal(body.Payload)
	if err != nil {
		return nil, err
	}
	event := &pb.Event{}
	member := strings.Replace(body.EventType, ".", "_", 1)
	if err := lenient.Unmarshal(fmt.Appendf(nil, "{%q: %s}", member, payload), event); err != nil {
		return nil, err
	}
	return event.GetAccountConnected(), nil
}

func (r *report) explain(err error) error {
	failure, ok := status.FromError(err)
	if err == nil || !ok {
		return fmt.Errorf("not refused: %w", err)
	}
	r.Code = failure.Code().String()
	for _, detail := range failure.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			r.Domain = detail.Domain
			r.Reason = pb.ErrorReason(pb.ErrorReason_value[detail.Reason]).String()
		case *errdetails.BadRequest:
			for _, each := range detail.FieldViolations {
				r.Violations = append(r.Violations, map[string]string{
					"field": each.Field, "reason": each.Reason, "description": each.Description,
				})
			}
		}
	}
	return nil
}
