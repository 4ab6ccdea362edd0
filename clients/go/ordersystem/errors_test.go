package ordersystem_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	ordersv1 "github.com/catga/ordersystem/clients/go/catga/orders/v1"
	"github.com/catga/ordersystem/clients/go/ordersystem"
)

func seen(t *testing.T, failure failure) error {
	t.Helper()
	_, err := serve(t, failure).queries(t).GetOrder(tenSeconds(t), &ordersv1.GetOrderRequest{})
	if err == nil {
		t.Fatal("no error")
	}
	return err
}

// wantFacts compares the public fields.
func wantFacts(t *testing.T, got *ordersystem.OrderError, want ordersystem.OrderError) {
	t.Helper()
	g, w := reflect.ValueOf(*got), reflect.ValueOf(want)
	for i := range g.NumField() {
		field := g.Type().Field(i)
		if field.IsExported() && !reflect.DeepEqual(g.Field(i).Interface(), w.Field(i).Interface()) {
			t.Errorf("%s is %#v, not %#v", field.Name, g.Field(i).Interface(), w.Field(i).Interface())
		}
	}
}

var (
	delay   = 1500 * time.Millisecond
	details = []proto.Message{
		info("SOME_REASON"),
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "a", Description: "must be b"}}},
		&errdetails.PreconditionFailure{Violations: []*errdetails.PreconditionFailure_Violation{
			{Type: "ORDER_STATUS", Subject: "orders/1", Description: "d"},
		}},
		retryInfo(delay),
	}
	everything = ordersystem.OrderError{
		Code:            codes.Aborted,
		Message:         "as scripted",
		Reason:          "SOME_REASON",
		Domain:          "ordersystem",
		Metadata:        map[string]string{"order_id": "1"},
		FieldViolations: []ordersystem.FieldViolation{{Field: "a", Description: "must be b"}},
		Preconditions:   []ordersystem.Precondition{{Type: "ORDER_STATUS", Subject: "orders/1", Description: "d"}},
		RetryDelay:      &delay,
	}
)

func TestEveryDetailOfAFailedCallIsRead(t *testing.T) {
	err := seen(t, fail(codes.Aborted, details...))
	wantFacts(t, ordersystem.OrderErrorOf(err), everything)
	wantFacts(t, ordersystem.OrderErrorOf(fmt.Errorf("while paying: %w", err)), everything)
}

func TestTheStatusOfOneCommandOfManyIsReadInTheSameWay(t *testing.T) {
	wantFacts(t, ordersystem.OrderErrorOfStatus(fail(codes.Aborted, details...).status()), everything)
	if got := ordersystem.OrderErrorOfStatus(&statuspb.Status{Code: 99}).Code; got != codes.Unknown {
		t.Error(got)
	}
}

func TestAnErrorWithoutDetailsHasNoReason(t *testing.T) {
	wantFacts(t, ordersystem.OrderErrorOf(seen(t, fail(codes.Internal))), ordersystem.OrderError{Code: codes.Internal, Message: "as scripted"})
	wantFacts(t, ordersystem.OrderErrorOf(io.ErrUnexpectedEOF), ordersystem.OrderError{Code: codes.Unknown, Message: "unexpected EOF"})
	if got := ordersystem.OrderErrorOf(context.DeadlineExceeded).Code; got != codes.DeadlineExceeded {
		t.Error(got)
	}
	if got := ordersystem.OrderErrorOf(nil); got != nil {
		t.Error(got)
	}
}

func TestDamagedDetailsLeaveTheCodeAndTheMessage(t *testing.T) {
	err := seen(t, failure{code: codes.Internal, raw: "\xff"})
	wantFacts(t, ordersystem.OrderErrorOf(err), ordersystem.OrderError{Code: codes.Internal, Message: "as scripted"})
	broken := &anypb.Any{TypeUrl: "type.googleapis.com/google.rpc.BadRequest", Value: []byte("\xff")}
	later := &anypb.Any{TypeUrl: "type.googleapis.com/of.Tomorrow"}
	of := ordersystem.OrderErrorOfStatus(&statuspb.Status{Code: 3, Message: "m", Details: []*anypb.Any{broken, later}})
	wantFacts(t, of, ordersystem.OrderError{Code: codes.InvalidArgument, Message: "m"})
}

func TestAnOrderErrorStandsForTheErrorThatGRPCGave(t *testing.T) {
	f := serve(t, fail(codes.FailedPrecondition, info("ILLEGAL_TRANSITION")))
	_, err := ordersystem.Send(t.Context(), f.orders(t).PayOrder, &ordersv1.PayOrderRequest{})
	var refused *ordersystem.OrderError
	if wrapped := fmt.Errorf("while paying: %w", err); !errors.As(wrapped, &refused) || refused.Reason != "ILLEGAL_TRANSITION" {
		t.Fatal(wrapped)
	}
	if ordersystem.OrderErrorOf(err) != refused {
		t.Error("it is read twice")
	}
	of, ok := status.FromError(err)
	if !ok || of.Code() != codes.FailedPrecondition || len(of.Details()) != 1 {
		t.Error(of, ok)
	}
	if cause := errors.Unwrap(err); cause == nil || cause.Error() != err.Error() || status.Code(cause) != codes.FailedPrecondition {
		t.Error(cause)
	}
	one := ordersystem.OrderErrorOfStatus(fail(codes.Aborted).status())
	if one.Error() != "rpc error: code = Aborted desc = as scripted" || status.Code(one) != codes.Aborted {
		t.Error(one)
	}
}

func TestRetryableErrorsAreUnavailableOrHaveADelay(t *testing.T) {
	var now time.Duration
	for _, c := range []struct {
		err  ordersystem.OrderError
		want bool
	}{
		{ordersystem.OrderError{Code: codes.Unavailable}, true},
		{ordersystem.OrderError{Code: codes.Aborted, RetryDelay: &now}, true},
		{ordersystem.OrderError{Code: codes.ResourceExhausted}, false},
		{ordersystem.OrderError{Code: codes.DeadlineExceeded}, false},
	} {
		if got := c.err.IsRetryable(); got != c.want {
			t.Errorf("%s: %t", c.err.Code, got)
		}
	}
}
