package ordersystem

import (
	"errors"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// FieldViolation is one violation in the input.
type FieldViolation struct {
	// The field as the proto names it: items[0].unit_price.
	Field string
	// The constraint.
	Description string
}

// Precondition is a violated precondition of a command.
type Precondition struct {
	// ORDER_STATUS.
	Type string
	// orders/{order id}.
	Subject string
	// A description for people.
	Description string
}

// OrderError is an error of a call with its details read.
//
// The errors of [Send] and [Follow] are of this type: find it with [errors.As]. [OrderErrorOf] converts the error of a stub. It wraps the
// error of gRPC: Unwrap returns it, and [status.FromError] and [status.Code] work on it.
type OrderError struct {
	// The gRPC code.
	Code codes.Code
	// A description for people.
	Message string
	// One stable word for programs, such as ILLEGAL_TRANSITION; empty if the error did not come from the service.
	Reason string
	// ordersystem, or empty.
	Domain string
	// Additional facts by name: order_id, actual_revision ...
	Metadata map[string]string
	// All violations in the input.
	FieldViolations []FieldViolation
	// Why the order's status does not allow the command.
	Preconditions []Precondition
	// The delay before a retry; nil if the service gave none.
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
		// A damaged or unknown detail is an error itself, and must not hide the one that it belongs to.
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

// IsRetryable reports whether a retry may help. A command must then have the request id of the first attempt.
func (e *OrderError) IsRetryable() bool {
	return e.Code == codes.Unavailable || e.RetryDelay != nil
}

// isOfConnection reports whether the service could not be reached; its replies always have a reason.
func (e *OrderError) isOfConnection() bool {
	return e.Code == codes.Unavailable && e.Reason == ""
}

// Error returns the text of the wrapped error.
func (e *OrderError) Error() string {
	if e.cause != nil {
		return e.cause.Error()
	}
	return "rpc error: code = " + e.Code.String() + " desc = " + e.Message
}

// Unwrap returns the error of gRPC; nil for an error within a reply.
func (e *OrderError) Unwrap() error { return e.cause }

// GRPCStatus returns the status of the wrapped error, for [status.FromError].
func (e *OrderError) GRPCStatus() *status.Status { return e.status }
