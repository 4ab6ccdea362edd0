package ordersystem

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	defaultSendTimeout  = 30 * time.Second
	defaultSendAttempts = 5
)

// Command is a request that changes an order: CreateOrderRequest, PayOrderRequest and so on.
type Command interface {
	proto.Message
	GetRequestId() string
}

// SendOption changes how [Send] tries.
type SendOption func(*sendSettings)

type sendSettings struct {
	attempts int
}

// WithAttempts sets how often a command is sent at the most, the first time included: at least 1. Without it: 5.
func WithAttempts(attempts int) SendOption {
	return func(s *sendSettings) { s.attempts = attempts }
}

// Send gives a command and retries it until it is answered: Send(ctx, orders.PayOrder, &ordersv1.PayOrderRequest{...}).
//
// A command without a request id gets one, in place, so that it takes effect once however often it is sent; whoever sends the same
// message again, after a DEADLINE_EXCEEDED for example, gets the first answer. Retried is what may help ([OrderError.IsRetryable]), after
// the time that the service asks for, for as long as the attempts and the deadline of ctx last; without a deadline: 30 s. If the
// wait would pass the deadline it gives up at once.
//
// The error is the [*OrderError] of the last attempt, or that of a context that ended while waiting.
func Send[C Command, Reply any](
	ctx context.Context,
	method func(context.Context, C, ...grpc.CallOption) (Reply, error),
	command C,
	options ...SendOption,
) (Reply, error) {
	var none Reply
	settings := sendSettings{attempts: defaultSendAttempts}
	for _, option := range options {
		option(&settings)
	}
	if settings.attempts < 1 {
		return none, errors.New("ordersystem: attempts must be at least 1")
	}
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, defaultSendTimeout)
		defer cancel()
	}
	deadline, _ := ctx.Deadline()
	fillInRequestID(command)
	var pauses waits
	for attempt := 1; ; attempt++ {
		reply, err := method(ctx, command)
		if err == nil {
			return reply, nil
		}
		facts := OrderErrorOf(err)
		wait := pauses.after(facts)
		if attempt == settings.attempts || !facts.IsRetryable() || time.Until(deadline) <= wait {
			return none, facts
		}
		if err := sleep(ctx, wait); err != nil {
			return none, err
		}
	}
}

// fillInRequestID works by reflection, since generated messages have getters only.
func fillInRequestID(command Command) {
	if command.GetRequestId() != "" {
		return
	}
	message := command.ProtoReflect()
	field := message.Descriptor().Fields().ByName("request_id")
	message.Set(field, protoreflect.ValueOfString(uuid.NewString()))
}
