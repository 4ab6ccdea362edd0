package ordersystem

import (
	"errors"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// FieldViolation is one thing that is wrong with the input.
type FieldViolation struct {
	// The field as the proto names it: items[0].unit_price.
	Field string
	// What it must be.
	Description string
}

// Precondition is what stood against a command.
type Precondition struct {
	// ORDER_STATUS.
	Type string
	// orders/{order id}.
	Subject string
	// In words, for people.
	Description string
}

// OrderError is an error of a call with its details read.
//
// The errors of [Send] and [Follow] are of this type: find it with [errors.As]. [OrderErrorOf] makes one of what a stub returns. It
// stands for the error that gRPC gave: Unwrap has it, and [status.FromError] and [status.Code] see through.
type OrderError struct {
	// The gRPC code.
	Code codes.Code
	// In words, for people.
	Message string
	// One stable word for programs, such as ILLEGAL_TRANSITION; empty if the error did not come from the service.
	Reason string
	// ordersystem, or empty.
	Domain string
	// More facts by name: order_id, actual_revision ...
	Metadata map[string]string
	// Everything that is wrong with the input.
	FieldViolations []FieldViolation
	// Why the order's status does not allow the command.
	Preconditions []Precondition
	// When to try again; nil if the service did not say.
	RetryDelay *time.Duration

	status *status.Status
	cause  error
}

// OrderErrorOf reads the error of a call, also one that has been wrapped; nil if err is nil.
func OrderErrorOf(err error) *OrderError {
	if err == nil {
		return nil
	}
	var known *OrderError
	if errors.As(err, &known) {
		return known
	}
	var carrier interface{ GRPCStatus() *status.Status }
	if errors.As(err, &carrier) && carrier.GRPCStatus() != nil {
		return view(carrier.GRPCStatus(), err)
	}
	return view(status.FromContextError(err), err)
}

// OrderErrorOfStatus reads the error of one command of an ExecuteCommands call.
func OrderErrorOfStatus(reply *statuspb.Status) *OrderError {
	return view(status.FromProto(reply), nil)
}

func view(from *status.Status, cause error) *OrderError {
	e := &OrderError{Code: from.Code(), Message: from.Message(), status: from, cause: cause}
	if e.Code > codes.Unauthenticated {
		e.Code = codes.Unknown
	}
	for _, detail := range from.Details() {
		// A detail that is damaged or not known comes as an error, and must not hide the error that it came with.
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			e.Reason, e.Domain, e.Metadata = detail.GetReason(), detail.GetDomain(), detail.GetMetadata()
		case *errdetails.BadRequest:
			for _, v := range detail.GetFieldViolations() {
				e.FieldViolations = append(e.FieldViolations, FieldViolation{v.GetField(), v.GetDescription()})
			}
		case *errdetails.PreconditionFailure:
			for _, v := range detail.GetViolations() {
				e.Preconditions = append(e.Preconditions, Precondition{v.GetType(), v.GetSubject(), v.GetDescription()})
			}
		case *errdetails.RetryInfo:
			delay := detail.GetRetryDelay().AsDuration()
			e.RetryDelay = &delay
		}
	}
	return e
}

// IsRetryable says whether trying again may help. A command must then have the request id of the first attempt.
func (e *OrderError) IsRetryable() bool {
	return e.Code == codes.Unavailable || e.RetryDelay != nil
}

// isOfConnection says whether the service could not be reached; it always gives a reason when it answers.
func (e *OrderError) isOfConnection() bool {
	return e.Code == codes.Unavailable && e.Reason == ""
}

// Error is the text of the error that gRPC gave.
func (e *OrderError) Error() string {
	if e.cause != nil {
		return e.cause.Error()
	}
	return "rpc error: code = " + e.Code.String() + " desc = " + e.Message
}

// Unwrap is the error that gRPC gave; nil for an error that came within a reply.
func (e *OrderError) Unwrap() error { return e.cause }

// GRPCStatus makes [status.FromError] see what the error stands for.
func (e *OrderError) GRPCStatus() *status.Status { return e.status }
